"""Overrides that are given in Python mean what the command line means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.spelling import lines_of

VALUES: list[Any] = [
    None,
    True,
    0,
    -3,
    1e-5,
    0.1,
    float("inf"),
    "mlp",
    "nature/permuted_mnist",
    "continual backprop",
    "",
    "null",
    "True",
    "1e-3",
    "range(3)",
    "a,b",
    "it's",
    "back\\slash",
    "back\\'slash",
    "ends with \\",
    'a "word"',
    ["l2", "continual_backprop"],
    [1e-4, 0],
    [],
    {"step_size": 0.1, "betas": [0.9, 0.999]},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_it_is(value: Any) -> None:
    (line,) = lines_of([{"some.key": value}])
    parsed = OverridesParser.create().parse_override(line)
    found: Any = parsed.value()
    assert getattr(found, "text", found) == value
    assert isinstance(getattr(found, "text", found), type(value))
    assert not parsed.is_sweep_override()


SWEPT = {
    "a tuple": ((0.1, 0.01), ["0.1", "0.01"]),
    "a range": (range(1, 6, 2), ["1", "3", "5"]),
    "an array": (np.array([0.5, 1e-5]), ["0.5", "1e-05"]),
    "one value": ((7,), ["7"]),
    "texts": (("backprop", "layer norm"), ["backprop", "'layer norm'"]),
    "a combination": (("backprop", ["l2", "redo"]), ["backprop", "[l2,redo]"]),
}


@pytest.mark.parametrize("case", SWEPT)
def test_what_has_several_values_is_swept_over(case: str) -> None:
    value, expected = SWEPT[case]
    (line,) = lines_of([{"key": value}])
    parsed = OverridesParser.create().parse_override(line)
    found = list(parsed.sweep_string_iterator()) if parsed.is_sweep_override() else [parsed.get_value_element_as_str()]
    assert found == expected


def test_numbers_of_numpy_and_paths_are_values() -> None:
    given = {"a": np.float64(0.1), "b": np.int64(3), "c": np.bool_(True), "d": np.array(2), "e": Path("a b/c")}
    assert lines_of([given]) == ["a=0.1", "b=3", "c=true", "d=2", "e='a b/c'"]


def test_texts_and_mappings_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    lines = lines_of(["seed=range(3)", {"+a.b": 1, "scale": "tiny"}, "paths.sweeps=~/sweeps"])
    assert lines == ["seed=range(3)", "+a.b=1", "scale=tiny", "paths.sweeps='/home/somebody/sweeps'"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seed": ()}, "seed = .*sweeps over nothing"),
        ({"seed": range(0)}, "seed = .*sweeps over nothing"),
        ({"seed": object()}, "its type is object"),
        ({"seed": ((1, 2), 3)}, "its type is tuple"),
        (3, "must be texts such as"),
        ("-m", "is a flag of the command"),
    ],
)
def test_what_cannot_be_said_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lines_of([given])
