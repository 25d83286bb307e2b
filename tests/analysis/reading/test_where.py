"""Conditions on runs: numbers as numbers, text as text, and never code."""

import pandas as pd
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.where import chosen

RUNS = pd.DataFrame(
    {
        "seed": [0, 1, 2, 3],
        "label": ["a", "a b", "c", "d"],
        "optimizer.step_size": [0.1, 0.01, 0.001, 1e-5],
        "optimizer.decay": [0.0, None, 1e-4, 1.0],
        "network.decay": [1, 2, 3, 4],
        "network.hidden": ["[100, 100]", "[10]", "[10]", "[]"],
        "algorithm.x.noise": ["lazy", None, "lazy", "in full"],
        "algorithm.x.on": pd.Series([True, False, None, True], dtype=object),
    }
)


@pytest.mark.parametrize(
    ("conditions", "seeds"),
    [
        (["optimizer.step_size==0.01"], [1]),
        (["optimizer.step_size == 1e-2"], [1]),
        (["step_size=0.10"], [0]),
        (["step_size!=0.1"], [1, 2, 3]),
        (["step_size<0.01"], [2, 3]),
        (["step_size<=0.01", "seed>=2"], [2, 3]),
        (["step_size > .005"], [0, 1]),
        (["step_size in [0.1, 1e-5]"], [0, 3]),
        (["seed in 1,2"], [1, 2]),
        (["label=='a b'"], [1]),
        (["algorithm.x.noise == in full"], [3]),
        (["noise in ('lazy')"], [0, 2]),
        (["noise==none"], [1]),
        (["optimizer.decay==none"], [1]),
        (["x.on==true"], [0, 3]),
        (["network.hidden==[100,100]"], [0]),
        (["network.hidden in [[10],[]]"], [1, 2, 3]),
    ],
)
def test_conditions(conditions: list[str], seeds: list[int]) -> None:
    assert RUNS[chosen(RUNS, conditions)]["seed"].tolist() == seeds


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("step_size", "must be NAME OPERATOR VALUE"),
        ("step_size==", "must be NAME OPERATOR VALUE"),
        ("", "must be NAME OPERATOR VALUE"),
        ("step_siz==1", "optimizer.step_size"),
        ("nothing==1", "no column 'nothing'"),
        ("decay==1", "optimizer.decay, network.decay"),
        ("step_size==7", "no run is left; optimizer.step_size has: 0.1, 0.01"),
        ("noise<1", "holds no numbers"),
        ("step_size<lazy", "needs a number"),
        ("seed in []", "list is empty"),
        ("__import__('os').system('touch_x')==0", "no column"),
    ],
)
def test_what_is_no_condition_is_one_line(condition: str, message: str) -> None:
    with pytest.raises(AnalysisError, match="--where") as caught:
        chosen(RUNS, [condition])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_is_left_by_the_second_condition() -> None:
    with pytest.raises(AnalysisError, match=r"'seed==3'.*no run is left; seed has: 0$"):
        chosen(RUNS, ["step_size==0.1", "seed==3"])
