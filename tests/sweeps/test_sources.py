"""Code of the user's own counts (DESIGN 7.6, cases 1.10)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lop_sweeps import build
from lop_sweeps.sweeps import provenance
from lop_sweeps.sweeps.report import SweepFailed, finish
from lop_sweeps.sweeps.run_directory import RunDirectory
from tests import runs

IDEA = Path(__file__).parents[1] / "bad_input" / "users_idea.py"
LINE = [
    *runs.SMALL,
    runs.TORCH,
    "benchmark.examples_per_task=40",
    "+algorithm.idea._target_=own_idea.idea.Idea",
    "trusted=[own_idea]",
]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a user's component, in a package of its own."""
    package = tmp_path / "code" / "own_idea"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "idea.py").write_bytes(IDEA.read_bytes())
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield package / "idea.py"
    for name in [name for name in sys.modules if name.startswith("own_idea")]:
        del sys.modules[name]
    build._import.cache_clear()


def change(module: Path) -> None:
    module.write_text(module.read_text() + "\n# argmin, not argmax\n")


def sessions(run: RunDirectory) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((run.path / "provenance.json").read_text())["sessions"]
    return found


def test_sources_are_recorded_by_module_name(tmp_path: Path, module: Path) -> None:
    plan = runs.plan(tmp_path, *LINE)
    runs.train(plan)
    (session,) = sessions(plan.points[0].directory)
    assert session["sources"] == provenance.sources(["own_idea"])
    assert sorted(provenance.sources(["own_idea"])) == ["own_idea", "own_idea.idea"]
    assert provenance.sources(["own"]) == {}


def test_what_is_recorded_is_the_code_that_was_loaded(tmp_path: Path, module: Path) -> None:
    """Edited while the sweep runs: what waits is still trained with what was loaded before."""
    plan = runs.plan(tmp_path, *LINE)
    loaded = provenance.sources(["own_idea"])
    change(module)
    runs.train(plan)
    run = plan.points[0].directory
    assert sessions(run)[0]["sources"] == loaded
    assert provenance.changed_sources(run, ["own_idea"]) == [str(module)]


def test_finished_runs_of_a_changed_module_are_skipped_and_said(
    tmp_path: Path, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.train(runs.plan(tmp_path, *LINE, seeds=2))
    change(module)
    with caplog.at_level(logging.WARNING, "lop"):
        plan = runs.plan(tmp_path, *LINE, seeds=2)
    assert (plan.finished, plan.packs) == (2, [])
    (line,) = [record.message for record in caplog.records]
    for word in (str(module), "`version`", *(point.directory.name for point in plan.points)):
        assert word in line


@pytest.mark.parametrize("extended", [False, True], ids=["unfinished", "to be extended"])
def test_a_begun_run_of_a_changed_module_is_not_continued_unless_accepted(
    tmp_path: Path, module: Path, extended: bool
) -> None:
    line = [*LINE, "benchmark.num_tasks=5"] if extended else LINE
    plan = runs.plan(tmp_path, *LINE)
    run = plan.points[0].directory
    if extended:
        runs.train(plan)
    else:
        assert runs.train_and_kill(plan.packs[0], after_intervals=2)
    planned = runs.plan(tmp_path, *line)  # before the change, as a job that waits
    change(module)
    (outcome,) = runs.train(planned)
    assert outcome.state == "failed"
    assert str(module) in outcome.message
    again = runs.plan(tmp_path, *line)
    assert again.packs == []
    with pytest.raises(SweepFailed, match="trusted_changes=accept") as caught:
        finish(again, [])
    assert run.name in str(caught.value)
    accepted = runs.plan(tmp_path, *line, "trusted_changes=accept")
    assert accepted.points[0].directory.path == run.path
    assert [outcome.state for outcome in runs.train(accepted)] == ["done"]
    assert sessions(run)[-1]["trusted_changes"] == "accept"
    assert sessions(run)[-1]["sources"] == provenance.sources(["own_idea"])


def test_a_run_that_has_no_checkpoint_starts_over_with_the_new_code(tmp_path: Path, module: Path) -> None:
    """As one that failed by a mistake in the module, which is then mended."""
    plan = runs.plan(tmp_path, *LINE, "checkpoint.first=99")
    assert runs.train_and_kill(plan.packs[0], after_intervals=1)
    change(module)
    assert [outcome.state for outcome in runs.train(runs.plan(tmp_path, *LINE))] == ["done"]


def test_runs_without_a_record_are_not_asked(tmp_path: Path, module: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = runs.plan(tmp_path, *LINE)
    runs.train(plan)
    run = plan.points[0].directory
    content = json.loads((run.path / "provenance.json").read_text())
    del content["sessions"][0]["sources"]
    (run.path / "provenance.json").write_text(json.dumps(content))
    change(module)
    with caplog.at_level(logging.WARNING, "lop"):
        assert runs.plan(tmp_path, *LINE).finished == 1
    assert caplog.text == ""
    assert len(runs.plan(tmp_path, *LINE, "benchmark.num_tasks=5").packs) == 1


def test_a_module_that_a_file_names_is_not_imported(tmp_path: Path, module: Path) -> None:
    """To find a.b, Python runs a; the provenance of a run may have been written by anybody."""
    plan = runs.plan(tmp_path, *LINE)
    runs.train(plan)
    run = plan.points[0].directory
    (module.parents[1] / "stranger").mkdir()
    (module.parents[1] / "stranger" / "__init__.py").write_text("raise SystemExit('run')\n")
    content = json.loads((run.path / "provenance.json").read_text())
    content["sessions"][0]["sources"] |= {"stranger.part": "0", "own_idea_too.part": "0", "own_idea.idea": "0"}
    (run.path / "provenance.json").write_text(json.dumps(content))
    assert provenance.changed_sources(run, ["own_idea"]) == [str(module)]
