"""A `config.yaml` from anybody is read, or refused in one line (case 2.6)."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.yaml_file import YamlError, load, parse

LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in itertools.pairwise("abcdefghij")
)
ENDLESS = {
    "flow": "[" * 100_000,
    "dictionaries": "{" * 100_000,
    "both": "[{a: " * 50_000,
    "dashes": "- " * 100_000,
    "keys": "? " * 100_000,
    "indentation": "\n".join(" " * level + "a:" for level in range(1_300)),
    "carriage returns": "\r".join(" " * level + "a:" for level in range(1_300)),
    "line separators": "\u2028".join(" " * level + "a:" for level in range(1_300)),
    "tagged": "!!seq [" * 10_000,
    "anchored": "".join(f"&a{level} [" for level in range(10_000)),
    "aliases": LAUGHS,
    "merged": LAUGHS.replace("[1,1,1,1,1,1,1,1,1,1]", "{x: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n"),
    "itself": "&a [*a]",
    "long": "a: " + "x" * 2_000_000,
    "digits": "a: " + "9" * 5_000,
    "sixties": "a: 1" + ":1" * 400_000,
    "month": "a: 2001-13-40",
    "flag": "a: !!bool 2",
    "code": "a: !!python/object/apply:os.system [ls]",
    "nul": "a: \0",
    "two": "a: 1\n---\nb: 2",
    "unhashable": "{[a]: 1}",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=list(ENDLESS))
def test_what_cannot_be_built_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(YamlError) as caught:
        load(tmp_path / "config.yaml")
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert len(str(caught.value)) < 1_000
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "sparse", "missing", "bytes"])
def test_no_file_is_waited_for_or_read_without_end(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    elif kind == "bytes":
        path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(LopError, match=r"config\.yaml") as caught:
        RunDirectory(tmp_path).config()
    assert "\n" not in str(caught.value)


def test_what_is_deep_or_repeated_within_reason_is_read() -> None:
    """Brackets in texts are no nesting, and a list that is used twice is an alias."""
    assert parse(f"a: '{'[' * 1_000}'") == {"a": "[" * 1_000}
    assert parse("a: &x [1, 2]\nb: *x\n") == {"a": [1, 2], "b": [1, 2]}
    assert parse("a: " + "[" * 90 + "]" * 90)
    assert parse("a: 1e-5\nb: 0x1f\nc: 12\n") == {"a": 1e-5, "b": 31, "c": 12}


TEXTS = ("83103051e493", "1e5", "1.e5", "-1e-5", "+2E10", "123456789012", "012345670123", "1:30", "1_000", "true", "~")
NUMBERS = (1e5, 1e-5, -2.5e-300, 1e22, 123456789012e10, float("inf"), 83103051, 0.1)


@pytest.mark.parametrize("value", [*TEXTS, *NUMBERS], ids=repr)
def test_what_a_run_stores_is_read_as_what_it_was(value: str | float, tmp_path: Path) -> None:
    config = {"configuration": value, "num_tasks": 1}
    RunDirectory(tmp_path / "run").create(config, 1)
    found = load(tmp_path / "run" / "config.yaml")
    assert found == config
    assert type(found["configuration"]) is type(value)


def test_a_hash_that_looks_like_a_number_is_none() -> None:
    """Also where it was written without quotes."""
    assert parse("configuration: 83103051e493") == {"configuration": "83103051e493"}
    assert parse("step_size: 1e-5") == {"step_size": 1e-5}
    assert parse("step_size: 12e4") == {"step_size": 12e4}
