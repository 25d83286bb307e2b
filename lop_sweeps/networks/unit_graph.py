"""The unit graph: which parameters feed a hidden unit, which read it.

Continual backprop, the other resets and the per-unit diagnostics walk this list and nothing else, so that they work
on every network that can describe itself by it.

A unit is what is made and thrown away as one: a neuron, a channel of a convolution, a dimension of a value in
attention. It owns rows of the weights that feed it, and columns of the weights that read what it gives, its
*features*: one, or several (max(z, 0) and max(-z, 0) in CReLU; sin z and cos z).

    UnitLayer(weight="layers.0.weight", bias="layers.0.bias", next_weight="layers.1.weight", next_bias=...,
              units=n, fan_in=d, bound=b)                                        # one row, one feature, one reader

    UnitLayer(                                                                   # CReLU, read by two heads
        units=n, incoming=[Rows("trunk.weight", "trunk.bias", fan_in=d, bound=b)],
        features=[(i, i + n) for i in range(n)],
        readers=[Reader("policy.weight", "policy.bias"), Reader("value.weight", "value.bias")])

    UnitLayer(                                                                   # values, in a matrix of q, k and v
        units=d, incoming=[Rows("qkv.weight", "qkv.bias", fan_in=d, bound=b, rows=range(2 * d, 3 * d))],
        readers=[Reader("projection.weight", "projection.bias")])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# What each unit (or feature) has: its numbers, or its one number.
Arrangement = Sequence[int] | Sequence[Sequence[int]]
Places = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Rows:
    """Rows of one weight matrix that feed a layer's units.

    weight, bias: names as in `Module.named_parameters()`; the weight is (rows, inputs, *kernel), the bias (rows,) or
        None where there is none.
    fan_in: weights in a row.
    bound: new weights are uniform on (-bound, bound), the law that drew the initial ones.
    std: if given, new weights are normal with this standard deviation instead.
    rows: of each unit, in their order, its row or rows; None: unit i has row i.
    """

    weight: str
    bias: str | None
    fan_in: int
    bound: float = 0.0
    std: float | None = None
    rows: Arrangement | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", None if self.rows is None else _places(self.rows))

    @property
    def each(self) -> int:
        """Rows of a unit."""
        return _each(self.rows)


@dataclass(frozen=True)
class Reader:
    """A layer that reads features of units.

    weight, bias: names; the weight is (next units, columns, *kernel), the bias (next units,), or None where there is
        none.
    spread: flattened positions of a feature (of a channel) that a linear layer reads one by one.
    columns: of each feature, in their order, the column or columns that read it (with spread: one for each position,
        in the order of positions); None: feature j has columns j * spread, ..., (j + 1) * spread - 1.
    """

    weight: str
    bias: str | None
    columns: Arrangement | None = None
    spread: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", None if self.columns is None else _places(self.columns))

    @property
    def each(self) -> int:
        """Columns of a feature."""
        return self.spread if self.columns is None else _each(self.columns)


@dataclass(frozen=True, init=False)
class UnitLayer:
    """One hidden layer. Shapes are those of one run; activations (batch, features, *positions).

    units: how many there are.
    incoming: the rows that feed them.
    readers: all layers that read them.
    norm: parameters and buffers that belong to the units, with the value that a fresh unit has: of a normalisation, or
        slopes of an activation. Each is (units,), or (features,) in the order of features.
    norm_after: whether a normalisation comes after the activation, hence between a unit and its readers.
    residual: whether a shortcut carries the units past `readers`, to layers that are not in the graph.
    features: of each unit, in their order, which of the layer's features are its; None: unit i has feature i alone.

    A layer whose units own row i of one matrix and are read by one layer is described in short by `weight`, `bias`,
    `fan_in`, `bound`, `std` (of its `Rows`), `next_weight`, `next_bias`, `spread` (of its `Reader`). They may be read
    and given to `dataclasses.replace`, too. in_short: whether it was described so, for messages.
    """

    units: int
    incoming: tuple[Rows, ...]
    readers: tuple[Reader, ...]
    norm: tuple[tuple[str, float], ...]
    norm_after: bool
    residual: bool
    features: Arrangement | None
    in_short: bool = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        weight: str | None = None,
        bias: str | None = None,
        next_weight: str | None = None,
        next_bias: str | None = None,
        units: int | None = None,
        fan_in: int | None = None,
        bound: float | None = None,
        norm: Iterable[tuple[str, float]] = (),
        norm_after: bool = False,
        spread: int | None = None,
        std: float | None = None,
        residual: bool = False,
        *,
        incoming: Iterable[Rows] | None = None,
        readers: Iterable[Reader] | None = None,
        features: Arrangement | None = None,
    ) -> None:
        if units is None:
            raise TypeError("UnitLayer needs `units`")
        of_rows = {"weight": weight, "bias": bias, "fan_in": fan_in, "bound": bound, "std": std}
        of_reader = {"next_weight": next_weight, "next_bias": next_bias, "spread": spread}
        values = {
            "units": units,
            "incoming": _filled_in("incoming", Rows, incoming, of_rows, optional="std"),
            "readers": _filled_in("readers", Reader, readers, of_reader, optional="spread"),
            "norm": tuple((name, value) for name, value in norm),
            "norm_after": norm_after,
            "residual": residual,
            "features": None if features is None else _places(features),
            "in_short": any(value is not None for value in (of_rows | of_reader).values()),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def each(self) -> int:
        """Features of a unit."""
        return _each(self.features)

    @property
    def num_features(self) -> int:
        """Of all units together: the second dimension of the activations."""
        return self.units * self.each

    @property
    def fan_in(self) -> int:
        """Incoming weights of a unit, in all its rows."""
        return sum(rows.fan_in * rows.each for rows in self.incoming)

    @property
    def spread(self) -> int:
        """Positions of a feature that a reader reads one by one; 1 if none does."""
        return max(reader.spread for reader in self.readers)

    @property
    def weight(self) -> str:
        return self._row("weight").weight

    @property
    def bias(self) -> str | None:
        return self._row("bias").bias

    @property
    def bound(self) -> float:
        return self._row("bound").bound

    @property
    def std(self) -> float | None:
        return self._row("std").std

    @property
    def next_weight(self) -> str:
        return self._reader("next_weight").weight

    @property
    def next_bias(self) -> str | None:
        return self._reader("next_bias").bias

    def _row(self, name: str) -> Rows:
        if len(self.incoming) > 1 or self.incoming[0].rows:
            raise AttributeError(f"{name}: the units have several rows, or others than 0, 1, ...; see `incoming`")
        return self.incoming[0]

    def _reader(self, name: str) -> Reader:
        if len(self.readers) > 1 or self.readers[0].columns or self.features:
            raise AttributeError(f"{name}: the units have several readers, or columns of their own; see `readers`")
        return self.readers[0]

    def features_of_units(self) -> Places:
        """The features of each unit."""
        return contiguous(self.units, 1) if self.features is None else _places(self.features)

    def rows_of_units(self, rows: Rows) -> Places:
        """The rows of each unit among `rows`, one of `incoming`."""
        return contiguous(self.units, 1) if rows.rows is None else _places(rows.rows)

    def columns_of_features(self, reader: Reader) -> Places:
        """The columns of each feature in `reader`, one of `readers`."""
        if reader.columns is None:
            return contiguous(self.num_features, reader.spread)
        return _places(reader.columns)

    def columns_of_units(self, reader: Reader) -> Places:
        """The columns of each unit in `reader`, feature by feature."""
        columns = self.columns_of_features(reader)
        return tuple(tuple(column for j in own for column in columns[j]) for own in self.features_of_units())

    def within(self, module: str) -> UnitLayer:
        """The same layer in a network that has this one as its child `module`."""

        def named(name: str | None) -> str | None:
            return None if name is None else f"{module}.{name}"

        def moved(part: Any) -> Any:
            return replace(part, weight=f"{module}.{part.weight}", bias=named(part.bias))

        return replace(
            self,
            incoming=tuple(moved(rows) for rows in self.incoming),
            readers=tuple(moved(reader) for reader in self.readers),
            norm=tuple((f"{module}.{name}", value) for name, value in self.norm),
        )


def _filled_in(name: str, kind: Any, parts: Iterable[Any] | None, short: dict[str, Any], optional: str) -> Any:
    """`incoming` or `readers`: made of what is given in short; or as given, with that in its place."""
    given = {key: value for key, value in short.items() if value is not None}
    options = {key.removeprefix("next_"): value for key, value in given.items()}
    if parts is None:
        if missing := [key for key in short if key not in given and key != optional]:
            raise TypeError(f"UnitLayer needs `{name}`, or in short {', '.join(short)}; missing: {', '.join(missing)}")
        return (kind(**options),)
    parts = tuple(parts)
    if not parts:
        raise TypeError(f"UnitLayer needs `{name}`: a layer that nothing feeds or reads has no place in the graph")
    if options and len(parts) > 1:
        raise TypeError(f"UnitLayer has {len(parts)} `{name}`: which one does {', '.join(given)} belong to?")
    return (replace(parts[0], **options),) if options else parts


def contiguous(number: int, each: int) -> Places:
    """The arrangement in which i has i * each, ..., (i + 1) * each - 1."""
    return tuple(tuple(range(i * each, (i + 1) * each)) for i in range(number))


def _places(arrangement: Arrangement) -> Places:
    return tuple(tuple(map(int, own)) if isinstance(own, Iterable) else (int(own),) for own in arrangement)


def _each(arrangement: Arrangement | None) -> int:
    """How many each has; 1 in the usual arrangement."""
    first = _places(arrangement[:1]) if arrangement else ()
    return len(first[0]) if first else 1
