"""from_task and until_task: outside of them a method is not called, and the run is the one without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.load_run import components_of
from lop_sweeps.sweeps.planning import Point
from tests import runs
from tests.contracts.table import CBP, DIGITS, HARE, IMAGENET, OFTEN, SLIPPERY, SNP, small
from tests.training.witness import CALLS, NAMES, TESTED

WITNESS = "algorithm.witness"
MODULE = "tests.training.witness"
REDO = ["algorithm=redo", "algorithm.redo.threshold=0.5", "algorithm.redo.period=40"]
ENGINES = ("engine=torch", "engine=fused")


def trained(folder: Path, *line: str) -> tuple[Point, list[dict[str, Any]]]:
    plan = runs.plan(folder, *small(list(line)))
    assert {outcome.state for outcome in runs.train(plan)} == {"done"}
    return plan.points[0], [json.loads(row) for row in runs.metrics(plan.points[0]).splitlines()]


def without_report(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "replaced_units"} for row in rows]


@pytest.mark.parametrize(
    ("line", "period", "names"),
    [
        ([DIGITS, "engine=torch"], 1, NAMES),
        ([DIGITS, "engine=fused"], 50, NAMES),
        (IMAGENET, 1, NAMES + TESTED),
        # In control a row's task is not that of `before_task`: the environment changes when it does.
        (SLIPPERY, 1, NAMES),
    ],
    ids=["torch", "fused", "epochs", "control"],
)
def test_a_users_method_is_called_in_its_tasks_only(
    tmp_path: Path, line: list[str], period: int, names: tuple[str, ...]
) -> None:
    CALLS.clear()
    node = f"+{WITNESS}={{_target_:{MODULE}.Witness,period:{period},from_task:1,until_task:2}}"
    trained(tmp_path, *line, node, f"trusted=[{MODULE}]")
    assert {(name, 1) for name in names} == CALLS


@pytest.mark.parametrize("engine", ENGINES)
def test_the_run_is_the_one_without_the_method_before_its_tasks_and_goes_on_without_it_after_them(
    tmp_path: Path, engine: str
) -> None:
    _, plain = trained(tmp_path, DIGITS, engine)
    for name, options in {"redo": REDO, "continual_backprop": ["algorithm=continual_backprop", *OFTEN]}.items():
        line = [DIGITS, engine, *options]
        _, always = trained(tmp_path, *line)
        _, late = trained(tmp_path, *line, f"algorithm.{name}.from_task=1")
        _, early = trained(tmp_path, *line, f"algorithm.{name}.until_task=2")
        assert late[0] == plain[0]
        assert without_report(late)[1] != plain[1]
        assert early[:2] == always[:2]
        assert without_report(early)[2] != without_report(always)[2]
        assert ["replaced_units" in row for row in late] == [False, True, True]
        assert ["replaced_units" in row for row in early] == [True, True, False]


@pytest.mark.parametrize("engine", ENGINES)
def test_both_compiled_methods_in_tasks_of_their_own(tmp_path: Path, engine: str) -> None:
    """Noise in task 0 alone, then continual backprop: each task is like the run in which it is all the time."""
    both = [DIGITS, engine, "algorithm=[shrink_and_perturb,continual_backprop]", *OFTEN, f"{SNP}.noise_std=0.01"]
    _, first = trained(tmp_path, *both, f"{CBP}.from_task=1", f"{SNP}.until_task=1")
    noise = ["algorithm=shrink_and_perturb", f"{SNP}.noise_std=0.01"]
    _, noisy = trained(tmp_path, DIGITS, engine, *noise, f"{SNP}.until_task=1")
    assert first[0] == noisy[0]
    assert [row.get("replaced_units") is None for row in first] == [True, False, False]
    assert sum(first[2]["replaced_units"]) > 0


def test_what_is_kept_begins_at_the_first_of_its_tasks(tmp_path: Path) -> None:
    """A tortoise that never moves is what the network was before task 1, to which the hare then returns."""
    hare = ["algorithm=hare_and_tortoise", f"{HARE}.mu=1", f"{HARE}.period=1", f"{HARE}.from_task=1"]
    _, rows = trained(tmp_path, DIGITS, *hare)
    before = [row["weight_magnitude"] for row in rows]
    assert before[0] != before[1] == before[2]


def test_what_a_users_method_keeps_begins_there_too(tmp_path: Path) -> None:
    node = f"+{WITNESS}={{_target_:{MODULE}.Returning,from_task:1}}"
    _, rows = trained(tmp_path, DIGITS, node, f"trusted=[{MODULE}]")
    before = [row["weight_magnitude"] for row in rows]
    assert before[0] != before[1] == before[2]


def test_initial_weights_are_those_of_the_run(tmp_path: Path) -> None:
    all_of_it = ["algorithm=shrink_and_perturb", f"{SNP}.law=initial", f"{SNP}.shrink=1", f"{SNP}.from_task=1"]
    _, rows = trained(tmp_path, DIGITS, *all_of_it)
    before = [row["weight_magnitude"] for row in rows]
    assert before[0] == before[2] != before[1]


def name(tmp_path: Path, *line: str) -> str:
    return runs.point(tmp_path, *runs.SMALL, DIGITS, *line).directory.name


def test_they_count_in_the_identity_where_they_are_given(tmp_path: Path) -> None:
    redo = "algorithm=redo", "algorithm.redo."
    plain = name(tmp_path, redo[0])
    for same in ("from_task=0", "from_task=null", "until_task=null"):
        assert name(tmp_path, redo[0], redo[1] + same) == plain
    others = [name(tmp_path, redo[0], redo[1] + other) for other in ("from_task=1", "from_task=2", "until_task=2")]
    assert len({plain, *others}) == 4
    assert name(tmp_path, redo[0], "+algorithm.redo.from_task=1.0") == others[0]


def test_runs_of_a_pack_share_them(tmp_path: Path) -> None:
    keys = [
        runs.point(tmp_path, *runs.SMALL, DIGITS, *REDO, *more).pack_key
        for more in (["algorithm.redo.from_task=1"], ["algorithm.redo.from_task=2"])
    ]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["from_task=-1"], r"algorithm\.redo\.from_task = -1: must be an integer >= 0"),
        (["from_task=soon"], r"algorithm\.redo\.from_task = 'soon': must be an integer"),
        (["until_task=0"], r"algorithm\.redo\.until_task = 0: must be an integer >= 1"),
        (["from_task=3", "until_task=3"], r"algorithm\.redo\.until_task = 3: must be > from_task \(3\)"),
    ],
)
def test_what_is_no_span_of_tasks(tmp_path: Path, given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        name(tmp_path, "algorithm=redo", *(f"algorithm.redo.{one}" for one in given))


def test_a_class_with_such_an_option_keeps_it(tmp_path: Path) -> None:
    node = f"+{WITNESS}={{_target_:{MODULE}.WithOwn,from_task:3}}"
    point = runs.point(tmp_path, *runs.SMALL, DIGITS, node, f"trusted=[{MODULE}]")
    made = components_of(dict(point.config), [MODULE])
    assert made.interventions[0].from_task == 3  # type: ignore[attr-defined]
    assert 0 in made.spans[0]


def test_they_are_set_of_those_methods_of_a_sweep_that_are_there() -> None:
    line = "algorithm.redo.from_task=1"
    for there in (line, f"+{line}"):
        left_out: list[str] = []
        config, _, left_out = runs.composer()._compose(("algorithm=redo", there), strict=False)
        assert (OmegaConf.select(config, "algorithm.redo.from_task"), left_out) == (1, [])
        _, _, left_out = runs.composer()._compose(("algorithm=l2", there), strict=False)
        assert left_out == [there]
