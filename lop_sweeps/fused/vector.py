"""Vectors for compiled loops: 16 float32 or 8 float64 values that live in registers.

Numba turns a plain loop over a row of weights into vector instructions, but guards each with tests for overlap and a
remainder, and adds up a dot product through memory: for rows of a hundred weights that costs two to four times the
work itself. Rows are padded to whole vectors here, so kernels say directly what they mean. LLVM splits a vector where
the processor's registers are shorter; nothing is specific to one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, overload, register_model

LANES = {"float32": 16, "float64": 8}


class Vector(types.Type):
    """The type of a vector of `element`s."""

    def __init__(self, element: types.Float) -> None:
        self.element, self.lanes = element, LANES[element.name]
        super().__init__(name=f"Vector({element} x {self.lanes})")

    @property
    def suffix(self) -> str:
        """How LLVM's intrinsics name it."""
        return f"v{self.lanes}f{self.element.bitwidth}"


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        element = ir.FloatType() if vector.element == types.float32 else ir.DoubleType()
        super().__init__(manager, vector, ir.VectorType(element, vector.lanes))


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Vector) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_data_type(vector).as_pointer())


@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    """How many elements of `array` make a vector; a constant."""
    number = Vector(array.dtype).lanes
    return types.intp(array), lambda context, *_: context.get_constant(types.intp, number)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """array[index : index + lanes] of a one-dimensional contiguous array."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments, vector)
        return builder.load(address, align=vector.element.bitwidth // 8)

    return vector(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """array[index : index + lanes] = vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[0], *arguments[:2], vector)
        builder.store(arguments[2], address, align=vector.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def borrowed(typing: Any, array: Any) -> Any:
    """The same array without its reference count; somebody else must keep it alive, and it must not be returned.

    Numba counts references whenever an array is sliced or passed on, by atomic instructions: in a training step of
    little arithmetic, half of the time.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), generate


@intrinsic
def splat(typing: Any, array: Any, value: Any) -> Any:
    """A vector for `array`, `value` in every lane."""
    vector = Vector(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        llvm = context.get_data_type(vector)
        empty = ir.Constant(llvm, ir.Undefined)
        single = builder.insert_element(empty, arguments[1], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(
            single, empty, ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        )

    return vector(array, vector.element), generate


def _call_llvm(name: str) -> Callable[..., Any]:
    """Code that calls an LLVM intrinsic whose operands and result are vectors of one type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        llvm = context.get_data_type(signature.return_type)
        kind = ir.FunctionType(llvm, [llvm] * len(arguments))
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.{signature.return_type.suffix}")
        return builder.call(function, arguments)

    return generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    return a(a, b, c), _call_llvm("fma")


@intrinsic
def root(typing: Any, a: Any) -> Any:
    """Square roots."""
    return a(a), _call_llvm("sqrt")


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each pair."""
    return a(a, b), _call_llvm("maxnum")


@intrinsic
def magnitude(typing: Any, a: Any) -> Any:
    """Absolute values."""
    return a(a), _call_llvm("fabs")


@intrinsic
def clamped(typing: Any, a: Any, limit: Any) -> Any:
    """Values cut to [-limit, limit], limit > 0; NaN stays."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, most = arguments
        size = _call_llvm("fabs")(context, builder, a(a), [given])
        cut = _call_llvm("copysign")(context, builder, a(a, a), [most, given])
        return builder.select(builder.fcmp_ordered(">", size, most), cut, given)

    return a(a, limit), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes, added pairwise."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        llvm = context.get_data_type(a)
        kind = ir.FunctionType(llvm.element, [llvm.element, llvm])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.{a.suffix}")
        return builder.call(function, [ir.Constant(llvm.element, -0.0), arguments[0]], fastmath=("reassoc",))

    return a.element(a), generate


@intrinsic
def highest(typing: Any, a: Any) -> Any:
    """The largest of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        llvm = context.get_data_type(a)
        kind = ir.FunctionType(llvm.element, [llvm])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fmax.{a.suffix}")
        return builder.call(function, [arguments[0]])

    return a.element(a), generate


@intrinsic
def not_zero(typing: Any, a: Any) -> Any:
    """A bit for each lane, the first lane's the lowest: whether it differs from 0 (NaN does)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(context.get_data_type(a), [0.0] * a.lanes)
        bits = builder.bitcast(builder.fcmp_unordered("!=", arguments[0], zeros), ir.IntType(a.lanes))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(a), generate


@intrinsic
def count_bits(typing: Any, bits: Any) -> Any:
    """How many are set."""
    return types.intp(types.uint64), lambda context, builder, _, arguments: builder.ctpop(arguments[0])


@intrinsic
def lowest_bit(typing: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


@intrinsic
def float_of_bits(typing: Any, bits: Any) -> Any:
    """The float64 whose representation is the integer `bits`."""
    return types.float64(types.int64), lambda context, builder, _, arguments: builder.bitcast(
        arguments[0], ir.DoubleType()
    )


@intrinsic
def bits_of_float32(typing: Any, value: Any) -> Any:
    """The representation of a float32, as int32."""
    return types.int32(types.float32), lambda context, builder, _, arguments: builder.bitcast(
        arguments[0], ir.IntType(32)
    )


@intrinsic
def float32_of_bits(typing: Any, bits: Any) -> Any:
    """The float32 whose representation is the int32 `bits`."""
    return types.float32(types.int32), lambda context, builder, _, arguments: builder.bitcast(
        arguments[0], ir.FloatType()
    )


def _arithmetic(python: Callable[..., Any], llvm: str) -> None:
    """Teach numba an operator between two vectors."""

    @intrinsic
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, llvm)(*arguments)

        return a(a, b), generate

    @overload(python)
    def implementation(a, b):  # type: ignore[no-untyped-def]  # numba wants the signatures to be the same
        if isinstance(a, Vector) and a == b:
            return lambda a, b: operation(a, b)
        return None


for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_operator, _instruction)
_arithmetic(operator.truediv, "fdiv")
