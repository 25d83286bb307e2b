"""Which runs are shown: conditions on hyper-parameters, as `optimizer.step_size==0.01`.

A condition is a column of the frame of runs, an operator and a value. It is taken apart here, and nothing of it is ever
run as code.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import pandas as pd

from ..errors import AnalysisError

OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "in")
CONDITION = re.compile(r"\s*([^\s=!<>]+)\s*(==|!=|<=|>=|<|>|=|\bin\b)\s*(.*?)\s*", re.DOTALL)
ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
# Not what anybody chooses runs by.
HIDDEN = ("folder", "num_tasks", "configuration")
SHOWN = 12


@dataclass(frozen=True)
class Condition:
    """name: as given, perhaps only the end of a column's name. values: one, or with 'in' several, as text."""

    text: str
    name: str
    operator: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Raises AnalysisError for anything but NAME OPERATOR VALUE."""
        found = CONDITION.fullmatch(text)
        if found is None or not found[3]:
            raise AnalysisError(f"--where {text!r}: must be NAME OPERATOR VALUE; operators: {', '.join(OPERATORS)}")
        name, operator, value = found.groups()
        if operator == "=":
            operator = "=="
        if operator != "in":
            return cls(text, name, operator, (_unquoted(value),))
        inner = re.fullmatch(r"[\[({](.*)[\])}]", value, re.DOTALL)
        values = tuple(_unquoted(part) for part in re.split(r",(?![^\[(]*[\])])", inner[1] if inner else value))
        if not any(values):
            raise AnalysisError(f"--where {text!r}: the list is empty")
        return cls(text, name, operator, values)

    def holds(self, runs: pd.DataFrame) -> "pd.Series[bool]":
        """(runs,). Raises AnalysisError for an unknown column, and where '<' and the like meet no number."""
        column = self.column(runs)
        given = [_number(value) for value in self.values]
        if self.operator in ORDER:
            wanted = given[0]
            if math.isnan(wanted):
                raise AnalysisError(f"--where {self}: {self.operator} needs a number, not {self.values[0]!r}")
            numbers = runs[column].map(_number)
            if numbers.isna().all():
                raise AnalysisError(f"--where {self}: {column} holds no numbers; there are: {_values(runs[column])}")
            return numbers.map(lambda number: bool(ORDER[self.operator](number, wanted)))
        texts, known = {_text(value) for value in self.values}, {number for number in given if not math.isnan(number)}
        same = runs[column].map(lambda value: _number(value) in known or _text(value) in texts)
        return ~same if self.operator == "!=" else same

    def __str__(self) -> str:
        return repr(self.text)

    def column(self, runs: pd.DataFrame) -> str:
        """The column of that name, or the one that ends in it: `step_size` is `optimizer.step_size`.

        Raises AnalysisError if there is none, or several.
        """
        known = [str(column) for column in runs.columns if column not in HIDDEN]
        if self.name in known:
            return self.name
        ends = [column for column in known if column.endswith(f".{self.name}")]
        if len(ends) == 1:
            return ends[0]
        if ends:
            raise AnalysisError(f"--where {self}: {self.name!r} is the end of several: {', '.join(ends)}")
        close = difflib.get_close_matches(self.name, known, n=3) or [c for c in known if runs[c].nunique() > 1][:SHOWN]
        raise AnalysisError(f"--where {self}: no column {self.name!r}; there are: {', '.join(close)}, …")


def chosen(runs: pd.DataFrame, conditions: Sequence[str]) -> "pd.Series[bool]":
    """(runs,): whether all conditions hold. Raises AnalysisError for what is no condition, and if no run is left."""
    left = pd.Series(True, index=runs.index)
    for text in [conditions] if isinstance(conditions, str) else conditions:
        condition = Condition.parse(text)
        holds = condition.holds(runs)
        if not (left & holds).any():
            column = condition.column(runs)
            raise AnalysisError(f"--where {condition}: no run is left; {column} has: {_values(runs.loc[left, column])}")
        left &= holds
    return left


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _number(value: Any) -> float:
    """NaN for what is none. '1e-3' is one, True is not."""
    if isinstance(value, bool):
        return math.nan
    if isinstance(value, Real):
        return float(value)
    try:
        return float(value) if isinstance(value, str) and "_" not in value else math.nan
    except ValueError:
        return math.nan


def _text(value: Any) -> str:
    """As on the command line: true, none; lists without spaces."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA:
        return "none"
    text = re.sub(r"\s+", "", str(value)) if str(value).startswith("[") else str(value)
    return {"True": "true", "False": "false", "null": "none", "None": "none"}.get(text, text)


def _values(column: "pd.Series[Any]") -> str:
    texts = list(dict.fromkeys(map(_text, column)))
    return ", ".join(texts[:SHOWN]) + ", …" * (len(texts) > SHOWN)
