"""The description of a hidden layer: the short form that users' networks write, and the general one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer

SHORT: dict[str, Any] = {
    "weight": "a.weight",
    "bias": "a.bias",
    "next_weight": "b.weight",
    "next_bias": "b.bias",
    "units": 5,
    "fan_in": 12,
    "bound": 0.5,
}


def test_the_short_form_is_the_general_one_with_one_row_and_one_reader() -> None:
    norm = (("norm.weight", 1.0), ("norm.bias", 0.0))
    short = UnitLayer(**SHORT, norm=norm, norm_after=True, spread=4, std=0.1, residual=True)
    general = UnitLayer(
        units=5,
        incoming=[Rows("a.weight", "a.bias", 12, 0.5, std=0.1)],
        readers=[Reader("b.weight", "b.bias", spread=4)],
        norm=norm,
        norm_after=True,
        residual=True,
    )
    assert short == general
    assert hash(short) == hash(general)
    for layer in (short, general):
        assert {name: getattr(layer, name) for name in SHORT} == SHORT
        assert (layer.std, layer.spread, layer.norm, layer.norm_after, layer.residual) == (0.1, 4, norm, True, True)
        assert (layer.each, layer.num_features) == (1, 5)


def test_the_short_form_takes_its_values_in_the_order_that_they_had() -> None:
    layer = UnitLayer("a.weight", "a.bias", "b.weight", "b.bias", 5, 12, 0.5, (), True, 4, 0.1, True)
    assert layer == UnitLayer(**SHORT, norm=(), norm_after=True, spread=4, std=0.1, residual=True)
    plain = UnitLayer(*SHORT.values())
    assert (plain.norm, plain.norm_after, plain.spread, plain.std, plain.residual) == ((), False, 1, None, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, f"{name}.other") for name in ("weight", "bias", "next_weight", "next_bias")),
        *(("units", 6), ("fan_in", 7), ("bound", 0.25), ("std", 0.3), ("spread", 9), ("residual", True)),
    ],
)
def test_replace_takes_the_names_of_the_short_form(name: str, value: Any) -> None:
    changed = replace(UnitLayer(**SHORT), **{name: value})
    assert changed == UnitLayer(**(SHORT | {name: value}))
    assert getattr(changed, name) == value


@pytest.mark.parametrize("missing", SHORT)
def test_a_short_form_that_lacks_something_is_refused(missing: str) -> None:
    with pytest.raises(TypeError, match=missing):
        UnitLayer(**{name: value for name, value in SHORT.items() if name != missing})


def test_what_belongs_to_one_of_several_is_refused() -> None:
    rows, reader = Rows("a.weight", None, 3, 1.0), Reader("b.weight", None)
    readers = [reader, Reader("d.weight", None)]
    two = UnitLayer(units=2, incoming=[rows, replace(rows, weight="c.weight")], readers=readers)
    with pytest.raises(TypeError, match="2 `readers`: which one does next_weight belong to"):
        replace(two, next_weight="e.weight")
    with pytest.raises(TypeError, match="2 `incoming`: which one does fan_in"):
        replace(two, fan_in=4)
    for name in ("weight", "bias", "bound", "std"):
        with pytest.raises(AttributeError, match=f"^{name}: .* see `incoming`"):
            getattr(two, name)
    for name in ("next_weight", "next_bias"):
        with pytest.raises(AttributeError, match=f"^{name}: .* see `readers`"):
            getattr(two, name)
    assert two.fan_in == 6
    for nothing in ({"incoming": ()}, {"readers": ()}):
        with pytest.raises(TypeError, match="nothing feeds or reads"):
            UnitLayer(**({"units": 2, "incoming": [rows], "readers": [reader]} | nothing))  # type: ignore[arg-type]


def test_arrangements_may_be_written_as_any_sequences() -> None:
    """Of numbers, where each unit has one; and all give the same layer."""
    as_lists = UnitLayer(
        units=3,
        incoming=[Rows("a.weight", "a.bias", 4, 1.0, rows=[6, 7, 8])],
        readers=[Reader("b.weight", "b.bias", columns=range(2, 8))],
        features=[[0, 3], [1, 4], [2, 5]],
    )
    as_tuples = UnitLayer(
        units=3,
        incoming=(Rows("a.weight", "a.bias", 4, 1.0, rows=range(6, 9)),),
        readers=(Reader("b.weight", "b.bias", columns=tuple((c,) for c in range(2, 8))),),
        features=tuple((i, i + 3) for i in range(3)),
    )
    assert as_lists == as_tuples
    assert hash(as_lists) == hash(as_tuples)
    assert as_lists.rows_of_units(as_lists.incoming[0]) == ((6,), (7,), (8,))
    assert as_lists.columns_of_units(as_lists.readers[0]) == ((2, 5), (3, 6), (4, 7))


def test_columns_of_a_feature_are_those_of_its_positions() -> None:
    """CReLU's maps, flattened: channel i and channel i + 2 of 4, of 3 positions each."""
    layer = UnitLayer(
        units=2,
        incoming=[Rows("a.weight", "a.bias", 4, 1.0)],
        readers=[Reader("b.weight", "b.bias", spread=3), Reader("c.weight", "c.bias")],
        features=[(0, 2), (1, 3)],
    )
    flat, pooled = layer.readers
    assert layer.columns_of_features(flat) == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert layer.columns_of_units(flat) == ((0, 1, 2, 6, 7, 8), (3, 4, 5, 9, 10, 11))
    assert layer.columns_of_units(pooled) == ((0, 2), (1, 3))
    assert (layer.spread, layer.num_features, layer.fan_in) == (3, 4, 4)


def test_a_layer_of_a_part_of_a_network_has_the_names_of_the_whole() -> None:
    layer = UnitLayer(
        units=2,
        incoming=[Rows("a.weight", None, 3, 1.0, rows=[4, 5])],
        readers=[Reader("b.weight", "b.bias"), Reader("c.weight", None)],
        norm=[("n.weight", 1.0)],
    )
    moved = layer.within("policy")
    assert moved.incoming == (Rows("policy.a.weight", None, 3, 1.0, rows=[4, 5]),)
    assert moved.readers == (Reader("policy.b.weight", "policy.b.bias"), Reader("policy.c.weight", None))
    assert moved.norm == (("policy.n.weight", 1.0),)
    assert moved.units == 2
