"""The choice of diagnostics is no part of a run: what a plan says of it, what is refused, what is recorded."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps import measures
from lop_sweeps.sweeps.diagnostics_file import FILE, read
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.planning import make_plan
from lop_sweeps.training.components import STANDARD
from tests import runs
from tests.command import Command, lop

__all__ = ["lop"]

LINE = [*runs.SMALL, "benchmark=permuted_digits", "benchmark.num_tasks=2", "benchmark.examples_per_task=40"]
CHURN = "diagnostics=[standard,churn]"


def test_runs_that_say_nothing_of_it_measure_the_standard_set() -> None:
    config, _ = runs.composer().compose([])
    assert config.diagnostics == {key: {**node, "every": 1} for key, node in STANDARD.items()}
    assert measures.of({}) == measures.of({"diagnostics": config.diagnostics})


def test_a_run_is_the_same_whatever_is_measured_of_it_but_not_its_pack(tmp_path: Path) -> None:
    plain, more, other = (
        runs.point(tmp_path, *LINE, *choice)
        for choice in ([], [CHURN], [CHURN, "diagnostics.churn.updates=2", "seed=1"])
    )
    assert plain.directory.name == more.directory.name
    assert len({plain.pack_key, more.pack_key, other.pack_key}) == 3
    assert runs.point(tmp_path, *LINE, CHURN, "seed=1").pack_key == more.pack_key


def test_the_plan_says_what_finished_runs_lack_and_runs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.train(runs.plan(tmp_path, *LINE, seeds=2))
    with caplog.at_level(logging.WARNING, "lop"):
        again = runs.plan(tmp_path, *LINE, "diagnostics=[churn,units,isometry]", seeds=3)
    assert (again.finished, [len(pack.todo) for pack in again.packs]) == (2, [1])
    assert (
        "2 finished runs were not measured by churn, isometry with these options; nothing is trained again for that"
        in caplog.text
    )
    assert "another sweep=NAME measures it" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "lop"):
        runs.plan(tmp_path, *LINE, "diagnostics=[units]", seeds=2)
        (elsewhere,) = runs.plan(tmp_path, *LINE, CHURN, "sweep=elsewhere").packs
    assert not caplog.text
    assert elsewhere.folder.name == "elsewhere"


def test_other_options_are_another_measure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runs.train(runs.plan(tmp_path, *LINE, CHURN))
    with caplog.at_level(logging.WARNING, "lop"):
        runs.plan(tmp_path, *LINE, CHURN)
        assert not caplog.text
        runs.plan(tmp_path, *LINE, CHURN, "diagnostics.churn.updates=2")
    assert "1 finished run was not measured by churn" in caplog.text


def test_runs_from_before_there_was_a_choice_have_the_standard_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their configuration has no such key, and nothing is recorded."""
    plan = runs.plan(tmp_path, *LINE)
    runs.train(plan)
    run = plan.points[0].directory
    (run.path / FILE).unlink()
    (run.path / "identity.json").unlink()
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    del config["diagnostics"]
    (run.path / "config.yaml").write_text(yaml.safe_dump(config))
    with caplog.at_level(logging.WARNING, "lop"):
        assert runs.plan(tmp_path, *LINE).finished == 1
        assert not caplog.text
        assert runs.plan(tmp_path, *LINE, CHURN).finished == 1
    assert "not measured by churn with these options;" in caplog.text
    longer = runs.plan(tmp_path, *LINE, "benchmark.num_tasks=3")
    assert {outcome.state for outcome in runs.train(longer)} == {"done"}


@pytest.mark.parametrize(
    "line",
    [
        ["diagnostics=standard,churn"],
        ["diagnostics=[standard],[standard,churn]"],
        [CHURN, "diagnostics.churn.updates=1,2"],
        [CHURN, "diagnostics.units.every=1,2", "hydra/launcher=basic"],
    ],
    ids=" ".join,
)
def test_diagnostics_are_not_swept_over(lop: Command, tmp_path: Path, line: list[str]) -> None:
    ended = lop("-m", *LINE, *line)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "diagnostics: is not swept over, since a run is the same whatever is measured of it" in ended.err
    assert not (tmp_path / "sweeps").exists()


def test_each_set_may_have_a_sweep_of_its_own(lop: Command, tmp_path: Path) -> None:
    ended = lop("-m", *LINE, "diagnostics=units,churn", "sweep=${hydra:runtime.choices.diagnostics}")
    assert (ended.code, ended.err.count("2 done")) == (0, 1)
    assert sorted(path.name for path in (tmp_path / "sweeps").iterdir()) == ["churn", "units"]


def test_variants_may_be_measured_each_in_its_way_unless_they_are_the_same_run(tmp_path: Path) -> None:
    one, other = runs.point(tmp_path, *LINE, "optimizer.step_size=0.1"), runs.point(tmp_path, *LINE, CHURN)
    assert len(make_plan([one, other], workers=1, pack=None, threads=1).packs) == 2
    with pytest.raises(ConfigError, match="is not swept over"):
        make_plan([other, runs.point(tmp_path, *LINE)], workers=1, pack=None, threads=1)


REFUSED = {
    "sample_plasticity": (["engine=fused"], "looks at each update, which the fused engine does not show: engine=torch"),
    "sample_plasticity ": ([], "looks at each update, which the fused engine does not show: engine=torch"),
    "sample_plasticity in control": (
        ["benchmark=ant", "network=actor_critic", "diagnostics=[sample_plasticity]"],
        "is of single examples' losses, which control does not have",
    ),
    "churn": (["diagnostics.churn.updates=0"], "must be an integer >= 1"),
    "units": (["diagnostics.units.every=0"], "must be an integer >= 1"),
    "rank": (["+diagnostics.rank.tau=0.1"], "is not an option of Rank"),
    "cloned_units": (["diagnostics.cloned_units.threshold=2"], "must be a finite number >= 0 and < 1"),
    "gradient_dormancy": (["diagnostics.gradient_dormancy.thresholds=0.1"], "must be a list of numbers"),
    "weight_norms": (
        ["+diagnostics.again={_target_: lop_sweeps.diagnostics.weight_norms.WeightNorms}"],
        "measures weight_norm, and so does",
    ),
    "isometry": (["diagnostics.isometry._target_=lop_sweeps.optimizers.sgd.SGD"], "must be a diagnostic of"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_when_it_is_planned(tmp_path: Path, name: str) -> None:
    more, words = REFUSED[name]
    choice = [] if "control" in name else [*LINE, f"diagnostics=[{name.strip()}]"]
    with pytest.raises(ConfigError) as error:
        runs.point(tmp_path, *choice, *more)
    assert words in str(error.value)
    assert str(error.value).startswith("diagnostics.")


def test_the_engine_does_not_depend_on_what_is_measured(tmp_path: Path) -> None:
    """And a run that was started on the other one is not measured by what only one has."""
    assert runs.point(tmp_path, *LINE, CHURN).engine == runs.point(tmp_path, *LINE).engine == "fused"
    runs.train(runs.plan(tmp_path, *LINE))
    longer = [*LINE, "benchmark.num_tasks=3", "engine=torch", "diagnostics=[sample_plasticity]"]
    plan = runs.plan(tmp_path, *longer)
    (why,) = plan.refused.values()
    assert plan.packs == []
    assert "looks at each update, which the fused engine does not show, and the run was started there" in why


def test_a_record_says_what_each_value_is_and_from_which_task_on(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *LINE, "diagnostics=[churn,units]")
    runs.train(plan)
    run = plan.points[0].directory
    record = read(run)
    assert record["diagnostics"]["churn"] == {
        "target": "lop_sweeps.diagnostics.churn.Churn",
        "version": 1,
        "options": {},
        "since": 0,
    }
    assert record["values"]["dead_fraction"] == {
        "per": "layer",
        "title": "Dead units",
        "meaning": "share of units that are exactly 0 on every probe example",
        "unit": "%",
        "scale": 100.0,
        "positive": True,
        "weighted": True,
        "diagnostic": "units",
        "standard": True,
        "shown": True,
    }
    assert [record["values"][name]["shown"] for name in ("churn", "churn_kl")] == [True, False]
    assert not look(run.path, everything=True).problem
    (run.path / FILE).write_text("{")
    assert look(run.path, everything=True).problem.startswith(f"{FILE}: cannot be read")
    assert look(run.path).problem == ""
    assert read(run) == {}


def test_packs_that_were_started_together_are_parted_by_what_is_measured(tmp_path: Path) -> None:
    line = [*LINE, runs.TORCH, "benchmark.num_tasks=1"]
    points = [runs.point(tmp_path, *line, f"seed={seed}") for seed in range(2)]
    runs.train(make_plan(points, workers=1, pack=2, threads=1))
    longer = [runs.point(tmp_path, *line, "benchmark.num_tasks=2", *more) for more in (["seed=0"], ["seed=1", CHURN])]
    plan = make_plan(longer, workers=1, pack=2, threads=1)
    assert [(len(pack.members), len(pack.todo)) for pack in plan.packs] == [(2, 1), (2, 1)]
    assert {outcome.state for outcome in runs.train(plan)} == {"done"}
    rows = [json.loads(runs.metrics(point).splitlines()[-1]) for point in longer]
    assert ["churn" in row for row in rows] == [False, True]
