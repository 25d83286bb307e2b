"""Methods that act at every step, each compiled apart from the training loop, which calls them by their addresses.

A method's part is a module with

    make(packed, net, rule) -> NamedTuple    its memory for a stretch of training: arrays of one dimension and numbers;
                                             what outlasts the stretch is the packed intervention's own
    take_back(packed, memory)                (optional) give it what has changed in copies, after the stretch
    obstacle(options, optimizer)             (optional) why it cannot act on this engine, in words that follow "because"
    rule_with(packed, rule)                  (optional) the optimiser's rule beside it
    hooks(rule)                              (optional) which of its functions act under this rule
    MEASURES_GRADIENT = True                 (optional) nobody before it may add to the gradient, which it measures

and some of these functions, `numba.njit`, of these names and arguments, after its memory:

    begin_interval(memory, net, step)                  `step` is an interval's first
    before_rows(memory, net, layer, rows, n, step)     rows[:n] of a layer, the bias's among them, are about to be read
    before_update(memory, net, gradient, step)         add to the gradient, like net.w; not under plain SGD
    after_update(memory, net, seen, scale, step, t)    weights are `scale` times those in net.w; t: within the interval
    end_interval(memory, net, step)                    `step` is the one after an interval's last: do what is postponed

It goes together with continual backprop, noise and whoever acts now and then if it comes before them, has neither
`before_rows` nor `before_update`, and does not say that it wants to be alone (`ALONE = True`).

A part with `before_rows` may leave rows as they are until somebody reads them. A call takes about ten nanoseconds, so
the loop is compiled once, for whatever methods there are, and a part in a fraction of a second. A part's name stands in
its intervention's class, as `compiled_part`: of a module of this package, or of the one that the class is in.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic

from lop_sweeps.compiling import njit
from lop_sweeps.fused.arrays import Array, Methods, Net, Optimizer, Seen

HOOKS = ("begin_interval", "before_rows", "before_update", "after_update", "end_interval")
BEGIN, READ, PULL, AFTER, END = range(len(HOOKS))
OWN = "lop_sweeps."


def part_of(intervention: object) -> ModuleType | None:
    """An intervention's part; a class that inherits may do something else, so it must name its own."""
    kind = type(intervention)
    name = vars(kind).get("compiled_part")
    if name is None or not (str(name).startswith(OWN) or name == kind.__module__):
        return None
    return importlib.import_module(str(name))


@intrinsic
def call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call a compiled function that returns nothing by its address, with a tuple of arguments."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds, given = arguments.types, cgutils.unpack_tuple(builder, values[1])
        kind = context.call_conv.get_function_type(types.none, kinds)
        function = builder.inttoptr(values[0], kind.as_pointer())
        status, _ = context.call_conv.call_function(builder, function, types.none, kinds, given)
        with cgutils.if_unlikely(builder, status.is_error):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.intp, arguments), generate


WORDS = 2  # of an array: where it begins, and how long it is; of a number: its bits, and nothing


def words_of(memory: Any) -> list[int]:
    """A memory's fields as words that every part's memory has; the arrays must be kept by whoever calls."""
    words: list[int] = []
    for value in memory:
        if isinstance(value, np.ndarray):
            if not value.flags.c_contiguous or value.ndim != 1:
                raise TypeError("the arrays of a part's memory must be contiguous and of one dimension")
            words += [value.ctypes.data, value.size]
        else:
            words += [int(np.array([value]).view(np.int64)[0]), 0]
    return words


def _unpacking(kind: Any) -> Any:
    """What makes a memory of this type out of words."""

    @intrinsic
    def unpack(typing: Any, words: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, values[0]).data
            made = [_field(context, builder, field, data, WORDS * number) for number, field in enumerate(kind.types)]
            return context.make_tuple(builder, kind, made)

        return kind(words), generate

    return unpack


def _field(context: Any, builder: Any, kind: Any, data: Any, at: int) -> Any:
    def word(offset: int) -> Any:
        return builder.load(builder.gep(data, [ir.Constant(ir.IntType(64), at + offset)]))

    if not isinstance(kind, types.Array):
        return builder.bitcast(word(0), context.get_data_type(kind))  # float64, int64 or uint64
    array = context.make_array(kind)(context, builder)
    item = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    pointer = builder.inttoptr(word(0), context.get_data_type(kind.dtype).as_pointer())
    shape = cgutils.pack_array(builder, [word(1)])
    strides = cgutils.pack_array(builder, [item])
    context.populate_array(array, data=pointer, shape=shape, strides=strides, itemsize=item, meminfo=None)
    return array._getvalue()


def _entries(function: Any, kind: Any, sources: str) -> dict[str, Any]:
    """For each name of a function, what takes words in place of a memory. sources: a digest of what it consists of."""
    unpack = _unpacking(kind)
    unpack.text = f"{kind!r} {sources}"  # by which compiled code is found again (lop_sweeps/compiling.py)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    @njit(**options)
    def begin_interval(words: Array, net: Net, step: int) -> None:
        function(unpack(words), net, step)

    @njit(**options)
    def before_rows(words: Array, net: Net, layer: int, rows: Array, n: int, step: int) -> None:
        function(unpack(words), net, layer, rows, n, step)

    @njit(**options)
    def before_update(words: Array, net: Net, gradient: Array, step: int) -> None:
        function(unpack(words), net, gradient, step)

    @njit(**options)
    def after_update(words: Array, net: Net, seen: Seen, scale: float, step: int, t: int) -> None:
        function(unpack(words), net, seen, scale, step, t)

    return {
        "begin_interval": begin_interval,
        "before_rows": before_rows,
        "before_update": before_update,
        "after_update": after_update,
        "end_interval": begin_interval,
    }


def _signature(name: str, net: Net, seen: Seen) -> tuple[Any, ...]:
    words, whole, w = nb.typeof(np.zeros(1, np.int64)), types.int64, nb.typeof(net.w)
    rows = nb.typeof(np.zeros(1, np.int32))
    after = {
        "begin_interval": (whole,),
        "before_rows": (whole, rows, whole, whole),
        "before_update": (w, whole),
        "after_update": (nb.typeof(seen), types.float64, whole, whole),
        "end_interval": (whole,),
    }
    return (words, nb.typeof(net), *after[name])


@lru_cache(maxsize=64)
def _sources(module: ModuleType) -> str:
    """A digest of the files that a part's compiled functions come from, those that they call included."""
    beside = [Path(__file__).with_name(name) for name in ("arrays.py", "methods.py", "vector.py")]
    files = {*beside, *(Path(one.__file__) for one in _reached(module) if one.__file__)}
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


def _reached(module: ModuleType) -> set[ModuleType]:
    """A module, and those whose compiled functions it has among its names, and so on."""
    found, left = set[ModuleType](), [module]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            held = [value for value in vars(one).values() if isinstance(value, Dispatcher)]
            left += [sys.modules[value.py_func.__module__] for value in held if value.py_func.__module__ in sys.modules]
    return found


@lru_cache(maxsize=64)
def _address(module: ModuleType, name: str, kind: Any, signature: tuple[Any, ...]) -> int:
    entry = _entries(getattr(module, name), kind, _sources(module))[name]
    entry.compile(signature)
    made = entry.overloads[signature]
    _kept.append(entry)  # code is freed with what it was compiled from
    return int(made.library.get_pointer_to_function(made.fndesc.llvm_func_name))


_kept: list[Any] = []


class Acting(NamedTuple):
    """The methods of a stretch of training. parts: of each, and its memory, kept as long as the loop uses it."""

    methods: Methods
    parts: list[tuple[Any, ModuleType, Any]]

    def take_back(self) -> None:
        """What the loop has changed, as everybody else sees it."""
        for packed, module, memory in self.parts:
            if hasattr(module, "take_back"):
                module.take_back(packed, memory)


def hooks_of(module: ModuleType, rule: Optimizer) -> list[str]:
    """The functions of a part that act under a rule."""
    there = [name for name in HOOKS if hasattr(module, name)]
    return [name for name in there if not hasattr(module, "hooks") or name in module.hooks(rule)]


def with_parts(interventions: Sequence[Any]) -> list[tuple[Any, ModuleType]]:
    """Those of a run's packed interventions that have a part, and it."""
    found = [(packed, part_of(packed.options[0])) for packed in interventions]
    return [(packed, module) for packed, module in found if module is not None]


def rule_beside(interventions: Sequence[Any], rule: Optimizer) -> Optimizer:
    """The optimiser's rule beside these methods."""
    for packed, module in with_parts(interventions):
        if hasattr(module, "rule_with"):
            rule = module.rule_with(packed, rule)
    return rule


def acting(interventions: Sequence[Any], net: Net, rule: Optimizer, seen: Seen) -> Acting:
    """The parts of these packed interventions, in their order. rule: the optimiser's own."""
    parts, addresses = [], []
    for packed, module in with_parts(interventions):
        memory, there = module.make(packed, net, rule), hooks_of(module, rule)
        kind = nb.typeof(memory)
        parts.append((packed, module, memory))
        addresses.append(
            [_address(module, name, kind, _signature(name, net, seen)) if name in there else 0 for name in HOOKS]
        )
    words = [words_of(memory) for _, _, memory in parts]
    width = max(map(len, words), default=0)
    table = np.array([one + [0] * (width - len(one)) for one in words], np.int64).reshape(len(words), width)
    return Acting(Methods(np.array(addresses, np.int64).reshape(len(words), len(HOOKS)), table), parts)


@nb.njit(nogil=True, error_model="numpy")
def any_has(methods: Methods, hook: int) -> bool:
    """Whether one of the methods has a function of this number."""
    there = False
    for m in range(len(methods.addresses)):
        there |= methods.addresses[m, hook] != 0
    return there


@nb.njit(nogil=True, error_model="numpy")
def at_boundary(methods: Methods, hook: int, net: Net, step: int) -> None:
    """begin_interval or end_interval."""
    for m in range(len(methods.addresses)):
        if methods.addresses[m, hook] != 0:
            call(methods.addresses[m, hook], (methods.words[m], net, step))


@nb.njit(nogil=True, error_model="numpy")
def before_rows(methods: Methods, net: Net, layer: int, rows: Array, n: int, step: int) -> None:
    for m in range(len(methods.addresses)):
        if methods.addresses[m, READ] != 0:
            call(methods.addresses[m, READ], (methods.words[m], net, layer, rows, n, step))


@nb.njit(nogil=True, error_model="numpy")
def before_update(methods: Methods, net: Net, gradient: Array, step: int) -> None:
    for m in range(len(methods.addresses)):
        if methods.addresses[m, PULL] != 0:
            call(methods.addresses[m, PULL], (methods.words[m], net, gradient, step))


@nb.njit(nogil=True, error_model="numpy")
def after_update(methods: Methods, net: Net, seen: Seen, scale: float, step: int, t: int) -> None:
    for m in range(len(methods.addresses)):
        if methods.addresses[m, AFTER] != 0:
            call(methods.addresses[m, AFTER], (methods.words[m], net, seen, scale, step, t))
