"""Both readers of `metrics.jsonl`: the fast one reads what is ordinary, and whatever it reads is equal to the bit."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading import columns
from lop_sweeps.analysis.reading.columns import DEEPEST, read_columns, read_fast, read_plain, read_rows
from tests.analysis.sweep_builder import task_rows
from tests.analysis.test_control import control_rows

EXTREME = [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, -0.0, 0.1 + 0.2, 0.12345678901234567, 1e23, -1e-7]
LARGE = [2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, 2**64 + 1, 10**300]

# Files that the fast reader reads.
ORDINARY = {
    "integers and floats": '{"a": 1}\n{"a": 0.5}\n',
    "lists of both": '{"a": [1, 2.5]}\n{"a": [3, 4]}\n',
    "missing keys": '{"a": 1}\n{"b": [1.0, 2.0]}\n{}\n{"a": 2, "b": [3, 4]}\n',
    "keys in another order": '{"a": 1, "b": 2}\n{"c": 1, "b": 2, "a": 1}\n',
    "no keys": "{}\n{}\n",
    "no key": '{"": 1}\n',
    "empty lists": '{"a": []}\n{"a": []}\n',
    "empty lists, not in all rows": '{"b": 1}\n{"a": []}\n',
    "objects": '{"a": {"ends": [1, 2], "returns": [0.5, 1.5]}}\n{"a": {}}\n{"a": {"ends": [], "returns": []}}\n',
    "text": '{"a": "x", "b": "1.5", "c": "2020-01-01"}\n{"a": "y"}\n',
    "truth": '{"a": true, "b": [true, false]}\n{"a": false}\n',
    "NaN": '{"a": NaN, "b": [NaN, 1]}\n{"a": 0.5}\n',
    "spaces": ' {"a":1}\n'.lstrip() + '{ "a" :\t2.5e+3 , "b":1E5}\n',
    "minus zero as a float": '{"a": -0.0}\n{"a": -0.5}\n{"a": 1e-05}\n',
    "smaller than all doubles": '{"a": 1e-400}\n',
    "large integers": "".join(f'{{"a": {value}}}\n' for value in LARGE),
    "large integers and a float": '{"a": 9007199254740993}\n{"a": 0.5}\n',
    "long rows": f'{{"a": [{", ".join(["1"] * DEEPEST)}]}}\n',
}
# Files that it leaves to the plain reader, whether they are damaged or not.
UNUSUAL = {
    "nothing": "",
    "null": '{"a": null, "b": 1}\n{"a": 1, "b": null}\n',
    "null in a list": '{"a": [null, 1]}\n{"a": [2, null]}\n',
    "nothing but null": '{"a": null}\n',
    "infinite": '{"a": Infinity}\n{"a": -Infinity}\n',
    "infinity that is no JSON": '{"a": {"b": Inf}}\n{"a": {}}\n',
    "negative NaN": '{"a": -NaN}\n{"a": 1}\n',
    "minus zero as an integer": '{"a": -0}\n{"a": 0.5}\n',
    "float too large": '{"a": 1e400}\n',
    "integer too large": f'{{"a": {"9" * 400}}}\n',
    "list of integers too large": f'{{"a": [{"9" * 400}]}}\n',
    "lengths that differ": '{"a": [1]}\n{"a": [1, 2]}\n',
    "lengths that differ but add up": '{"a": [1]}\n{"a": [1, 2, 3]}\n',
    "empty lists, not always": '{"a": []}\n{"a": [1]}\n',
    "lists of lists": '{"a": [[1, 2], [3, 4]]}\n',
    "lists of objects": '{"a": [{"b": 1}]}\n',
    "lists of text": '{"a": ["1.5", "2"]}\n{"a": ["1", "2"]}\n',
    "lists of text that is no number": '{"a": ["x"]}\n',
    "lists of dates": '{"a": ["2020-01-01"]}\n',
    "number and list": '{"a": 1}\n{"a": [1]}\n',
    "number and text": '{"a": 1}\n{"a": "1.5"}\n',
    "text and number": '{"a": "x"}\n{"a": 1}\n',
    "number and truth": '{"a": 1}\n{"a": true}\n',
    "a key twice": '{"a": 1, "a": 2}\n',
    "half a surrogate": '{"\\ud800": 1}\n',
    "letters beyond ASCII": '{"größe": 1}\n',
    "byte order mark": '\ufeff{"a": 1}\n',
    "line ends of Windows": '{"a": 1}\r\n{"a": 2}\r\n',
    "line end within a row": '{"a":\r1}\n{"a": 2}\n',
    "spaces around a row": '{"a": 1} \n {"a": 2}\n',
    "empty line": '{"a": 1}\n\n{"a": 2}\n',
    "no newline at the end": '{"a": 1}\n{"a": 2}',
    "cut last line": '{"a": 1}\n{"a": 2',
    "damaged last line": '{"a": 1}\n{"a": 2,}\n',
    "zeros at the end": '{"a": 1}\n\0\0\0\n',
    "damaged line": '{"a": 1}\n{"a": 2\n{"a": 3}\n',
    "damage that is a comma": '{"a": 1}\n{"a": 2,}\n{"a": 3}\n',
    "number that is no JSON": '{"a": 01}\n{"a": 2}\n',
    "two rows in a line": '{"a": 1}{"a": 2}\n{"a": 3}\n',
    "a row in two lines and two in one": '{"a":\n{"b": 1}}{"c": 1}\n',
    "a row in two lines and two in one, cut before a comma": '{"a": {}\n, "b": 1}{"c": 1}\n',
    "row that is no object": '{"a": 1}\n7\n{"a": 2}\n',
    "spaces after the last row": '{"a": 1}\n  ',
    "deep": '{"a": ' * (DEEPEST + 1) + "1" + "}" * (DEEPEST + 1) + "\n",
}


def outcome(path: Path, read: Any) -> Any:
    try:
        table, count = read(path)
    except (AnalysisError, OverflowError, RecursionError) as error:
        return type(error), str(error)
    return count, [(name, column.shape, column.dtype, column.tobytes()) for name, column in table.items()]


def log(folder: Path, text: str) -> Path:
    path = folder / "metrics.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_files_are_read_fast_and_to_the_same_bits(text: str, tmp_path: Path) -> None:
    path = log(tmp_path, text)
    assert read_fast(path) is not None
    assert outcome(path, read_fast) == outcome(path, read_plain)


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_files_are_left_to_the_plain_reader(text: str, tmp_path: Path) -> None:
    path = log(tmp_path, text)
    assert read_fast(path) is None

    def read(path: Path) -> Any:
        table = read_columns(path)
        return table, len(table["task"])

    plain = outcome(path, read_plain)
    if isinstance(plain[0], int):  # tasks and examples are added where they are lacking
        found = outcome(path, read)
        assert (found[0], found[1][: len(plain[1])]) == plain
    else:
        assert outcome(path, read) == plain


def test_file_too_large_for_arrow_is_left_to_the_plain_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path, '{"a": 1}\n')
    monkeypatch.setattr(columns, "LARGEST_FILE", 9)
    assert read_fast(path) is not None
    monkeypatch.setattr(columns, "LARGEST_FILE", 8)
    assert read_fast(path) is None


def test_plain_reader_has_nothing_to_do_with_an_ordinary_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log(tmp_path, "".join(json.dumps(row) + "\n" for row in task_rows([0.1, 0.2])))
    monkeypatch.delattr(columns, "read_plain")
    assert read_columns(path)["accuracy"].tolist() == [0.1, 0.2]


def test_file_that_is_not_there_holds_no_task(tmp_path: Path) -> None:
    assert read_fast(tmp_path / "metrics.jsonl") is None
    assert {name: column.tolist() for name, column in read_columns(tmp_path / "metrics.jsonl").items()} == {
        "task": [],
        "examples": [],
    }


@pytest.mark.parametrize("rows", [task_rows([0.1, 0.2, 0.3]), control_rows([None, 1.5, 2.5], [1.0, 0.5, 0.5])])
def test_logs_of_both_kinds_of_benchmark_are_read_fast(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    path = log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    fast = read_fast(path)
    assert fast is not None
    assert fast[1] == 3
    assert outcome(path, read_fast) == outcome(path, read_plain)


@pytest.mark.parametrize("seed", range(40))
def test_random_rows_are_read_to_the_same_bits(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)

    def number() -> float:
        kinds = (
            lambda: draw.random(),
            lambda: draw.choice(EXTREME),
            lambda: draw.choice(LARGE[:-1]),
            lambda: draw.randint(-10, 10),
            lambda: draw.gauss(0, 1) * 10.0 ** draw.randint(-320, 300),
            lambda: float(f"{draw.randint(10**16, 10**17 - 1)}e{draw.randint(-330, 280)}"),
        )
        return draw.choice(kinds)()

    cells = {
        "number": number,
        "layers": lambda: [number() for _ in range(3)],
        "units": lambda: [draw.randint(0, 9) for _ in range(2)],
        "episodes": lambda: {"ends": [number() for _ in range(draw.randint(0, 3))]},
        "truth": lambda: draw.random() < 0.5,
        "text": lambda: draw.choice(["a", "1.5"]),
    }
    names = draw.sample(list(cells), len(cells))
    rows = [{name: cells[name]() for name in names if draw.random() < 0.8} for _ in range(30)]
    path = log(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert read_fast(path) is not None
    assert outcome(path, read_fast) == outcome(path, read_plain)


def test_extreme_numbers_keep_their_bits(tmp_path: Path) -> None:
    """Against the numbers themselves, since both readers might be wrong in the same way."""
    path = log(tmp_path, "".join(json.dumps({"a": value, "b": [value, 1.0]}) + "\n" for value in EXTREME))
    fast = read_fast(path)
    assert fast is not None
    expected = np.array(EXTREME).tobytes()
    assert fast[0]["a"].tobytes() == expected
    assert fast[0]["b"][:, 0].tobytes() == expected


def test_two_damaged_lines_that_make_up_one_row_are_noticed(tmp_path: Path) -> None:
    path = log(tmp_path, '{"task": 0, "a": [1\n2]}\n{"task": 1}\n')
    with pytest.raises(AnalysisError, match="line 1: damaged"):
        read_rows(path)
