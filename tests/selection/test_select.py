"""A selection from its line to its report: equal budgets, seeds apart, any kill, any second process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lop_sweeps import sweep
from lop_sweeps.analysis.__main__ import main as figures
from lop_sweeps.errors import ConfigError
from lop_sweeps.selection import record
from lop_sweeps.sweeps.status import main as status
from tests.command import Command, lop

__all__ = ["lop"]

LOP = [sys.executable, "-m", "lop_sweeps"]

SELECT = [
    *("-m", "hydra/sweeper=select", "scale=tiny", "network.hidden=[8]", "benchmark.num_tasks=9"),
    *("algorithm=backprop,l2_init", "optimizer.step_size=0.1,0.01,0.001", "algorithm.l2_init.strength=1e-2,1e-3"),
    *("seed=range(2)", "tuning.settings=4", "tuning.seeds=[1000,1001]", "sweep=chosen"),
]


def files(folder: Path) -> dict[str, bytes]:
    """Everything of a selection that is promised to be the same whatever happened on the way."""
    logs = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("metrics.jsonl"))}
    return logs | {record.FILE: (folder / record.FILE).read_bytes()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed selection."""
    folder = tmp_path_factory.mktemp("whole")
    ended = subprocess.run([*LOP, *SELECT], cwd=folder, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return folder / "sweeps" / "chosen"


def test_every_method_has_the_same_budget_and_only_the_chosen_setting_is_reported(whole: Path) -> None:
    found = record.read(whole)
    assert found is not None
    assert found["rungs"] == [1, 3, 9]
    assert {name: len(of) for name, of in found["settings"].items()} == {"backprop": 3, "l2_init": 4}
    for name, method in found["methods"].items():
        entered = [len(rung["values"]) for rung in method["rungs"]]
        assert entered == ([3, 2, 2] if name == "backprop" else [4, 2, 2])
        values = {label: sum(of) / len(of) for label, of in method["rungs"][-1]["values"].items()}
        assert method["chosen"] == max(values, key=lambda label: values[label])
        assert 0 < method["stability"] <= 1
    reported = {folder.name for folder in whole.iterdir() if (folder / "config.yaml").exists()}
    assert reported == {run for names in found["report"].values() for run in names}
    assert all("-seed0-" in run or "-seed1-" in run for run in reported)
    lengths = {
        run: len((whole / "tuning" / run / "metrics.jsonl").read_text().splitlines())
        for of in found["settings"]["l2_init"].values()
        for run in of
    }
    assert sorted(lengths.values()) == [1, 1, 1, 1, 9, 9, 9, 9]  # two settings of four, on two seeds, went on


def test_a_value_is_the_mean_over_the_first_tasks_of_the_log(whole: Path) -> None:
    found = record.read(whole)
    assert found is not None
    for rung in found["methods"]["backprop"]["rungs"]:
        for label, values in rung["values"].items():
            for run, value in zip(found["settings"]["backprop"][label], values, strict=True):
                rows = (whole / "tuning" / run / "metrics.jsonl").read_text().splitlines()[: rung["tasks"]]
                assert value == pytest.approx(sum(json.loads(row)["accuracy"] for row in rows) / rung["tasks"])


def test_the_same_line_again_trains_nothing(whole: Path, tmp_path: Path, lop: Command) -> None:
    copy = _copy(whole, tmp_path)
    ended = lop(*SELECT)
    assert ended.code == 0, ended.err
    assert "to run (" not in ended.err
    assert files(copy) == files(whole)


def test_more_seeds_of_the_report_leave_the_choice_as_it_is(whole: Path, tmp_path: Path, lop: Command) -> None:
    copy = _copy(whole, tmp_path)
    ended = lop(*SELECT, "seed=range(3)")
    assert ended.code == 0, ended.err
    before, after = record.read(whole), record.read(copy)
    assert before is not None
    assert after is not None
    assert before["methods"] == after["methods"]
    assert [len(names) for names in after["report"].values()] == [3, 3]


def test_a_method_is_added_to_those_that_are_there(whole: Path, tmp_path: Path, lop: Command) -> None:
    copy = _copy(whole, tmp_path)
    line = [word for word in SELECT if "l2_init" not in word]
    ended = lop(*line, "algorithm=head_resetting")
    assert ended.code == 0, ended.err
    before, after = record.read(whole), record.read(copy)
    assert before is not None
    assert after is not None
    for key in ("settings", "methods", "report"):
        assert list(after[key]) == ["backprop", "l2_init", "head_resetting"]
        assert {name: of for name, of in after[key].items() if name != "head_resetting"} == before[key]


@pytest.mark.slow
def test_a_selection_that_is_killed_in_every_rung_equals_an_undisturbed_one(
    whole: Path, tmp_path: Path, lop: Command
) -> None:
    folder = tmp_path / "sweeps" / "chosen"
    moments = [
        lambda: len(list(folder.glob("tuning/*/metrics.jsonl"))) > 3,  # in the first rung
        lambda: (folder / record.FILE).exists(),  # in the second
        lambda: bool(list(folder.glob("*/metrics.jsonl"))),  # in the report
    ]
    for there in moments:
        process = subprocess.Popen([*LOP, *SELECT], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and not there():
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the workers, too
        process.wait()
    ended = lop(*SELECT)
    assert ended.code == 0, ended.err
    assert files(tmp_path / "sweeps" / "chosen") == files(whole)


@pytest.mark.slow
def test_two_people_typing_it_at_once_run_everything_once(whole: Path, tmp_path: Path) -> None:
    both = [subprocess.Popen([*LOP, *SELECT], cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert files(tmp_path / "sweeps" / "chosen") == files(whole)


def test_a_changed_record_is_refused_and_so_is_another_selection_in_the_folder(
    whole: Path, tmp_path: Path, lop: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = _copy(whole, tmp_path)
    ended = lop(*SELECT, "tuning.keep=0.5")
    assert ended.code != 0
    assert "is of another selection (tuning: not the same); sweep=NAME" in ended.err
    ended = lop(*SELECT, "optimizer.step_size=0.1,0.02")
    assert ended.code != 0
    assert "the settings of backprop" in ended.err
    text = (copy / record.FILE).read_text()
    assert status([str(copy), "--verify"]) == 0
    assert "2 of 2 methods have their settings, chosen on seeds 1000, 1001" in capsys.readouterr().out
    (copy / record.FILE).write_text(text.replace('"chosen": "step_size=0.1"', '"chosen": "step_size=0.01"'))
    assert status([str(copy), "--verify"]) != 0
    assert "is not as it was written" in capsys.readouterr().out
    ended = lop(*SELECT)
    assert ended.code != 0
    assert "is not as it was written" in ended.err


def test_a_run_of_the_choice_that_cannot_be_taken_is_named_with_the_figures(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = _copy(whole, tmp_path)
    edited = sorted((copy / record.TUNING).glob("*/config.yaml"))[0]
    edited.write_text(edited.read_text() + "more: 1\n")
    figures([str(copy), "--format", "tex", "--csv", "--out", str(tmp_path / "figures")])
    assert f"Note: of the choice: left out: {edited}" in capsys.readouterr().out


def test_a_record_that_the_logs_do_not_bear_out_is_refused(whole: Path, tmp_path: Path, lop: Command) -> None:
    copy = _copy(whole, tmp_path)
    found = record.read(copy)
    assert found is not None
    label = next(iter(found["methods"]["backprop"]["rungs"][0]["values"]))
    found["methods"]["backprop"]["rungs"][0]["values"][label][0] += 0.1
    record.write(copy, {key: value for key, value in found.items() if key != "schema"})
    ended = lop(*SELECT)
    assert ended.code != 0
    assert "rung 1 of backprop is not what the logs" in ended.err


REFUSED = {
    "seeds that meet": (["tuning.seeds=[1,1000]"], ["tuning.seeds", "in both: 1"]),
    "a sweep over tuning seeds": (["tuning.seeds=1000,1001"], ["tuning.seeds", "must be one value", "[1000,1001]"]),
    "two benchmarks": (["benchmark=permuted_digits,slowly_changing_regression"], ["benchmark", "one stream"]),
    "shares that fall": (["tuning.shares=[0.5,0.1]"], ["tuning.shares", "must rise"]),
    "no settings": (["tuning.settings=0"], ["tuning.settings", ">= 1"]),
    "an unknown key": (["tuning.setings=4"], ["tuning.setings", "settings"]),
    "an option that no method has": (["algorithm.redo.period=1,2"], ["algorithm.redo.period"]),
    "an unknown summary": (["tuning.by=best"], ["tuning.by", "mean, late, final"]),
}


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_before_anything_runs(
    tmp_path: Path, more: list[str], words: list[str], lop: Command
) -> None:
    ended = lop(*SELECT, *more)
    assert ended.code != 0
    for word in words:
        assert word in ended.err
    assert not (tmp_path / "sweeps").exists()


def test_the_plan_says_what_is_tried_and_what_it_costs(tmp_path: Path, lop: Command) -> None:
    ended = lop(*SELECT, "hydra.launcher.plan=true")
    assert ended.code == 0, ended.err
    assert "backprop: 3 settings, the whole grid (the budget is 4)" in ended.err
    assert "l2_init: 4 settings drawn from 6" in ended.err
    assert "seeds 1000, 1001" in ended.err
    assert "of one core like this one" in ended.err
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_one_per_cent_of_the_stream_and_one_rung_less(tmp_path: Path, lop: Command) -> None:
    ended = lop(*SELECT, "tuning.share=0.2", "hydra.launcher.plan=true")
    assert ended.code == 0, ended.err
    assert "one rung less: a share of 0.111 comes to the same number of tasks" in ended.err  # 1, 1, 2 tasks


EXPERIMENT = """\
# @package _global_
defaults:
  - override /benchmark: permuted_digits
  - _self_
scale: tiny
sweep: study
variants:
  Backprop: [algorithm=backprop]
  L2 Init: [algorithm=l2_init]
grids:
  Backprop: {optimizer.step_size: "0.1,0.01"}
  L2 Init: {optimizer.step_size: 0.1, algorithm.l2_init.strength: "tag(log,interval(1e-4,1e-1))"}
tuning: {settings: 3, seeds: "7,8", shares: [0.5, 1]}
"""


def test_an_experiment_gives_each_method_its_grid_and_figures_say_how_it_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lop: Command
) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "study.yaml").write_text(EXPERIMENT)
    line = ["-m", "--config-dir", "mine", "experiment=study", "network.hidden=[8]", "seed=range(3)"]
    ended = lop(*line)
    assert ended.code == 0, ended.err
    folder = tmp_path / "sweeps" / "study"
    found = record.read(folder)
    assert found is not None
    assert list(found["settings"]) == ["Backprop", "L2 Init"]
    assert [len(of) for of in found["settings"].values()] == [2, 3]
    strengths = [float(label.rpartition("=")[2]) for label in found["settings"]["L2 Init"]]
    assert all(1e-4 <= strength <= 1e-1 for strength in strengths)
    assert len(set(strengths)) == 3
    ended = lop(*line, "variant=L2 Init")
    assert ended.code == 0, ended.err
    assert "to run (" not in ended.err
    assert record.read(folder) == found
    assert figures([str(folder), "--report", "--format", "png", "--leaderboard", "--csv"]) == 0
    out = capsys.readouterr().out
    assert "selection.md" in out
    table = (folder / "figures" / "selection.md").read_text()
    assert "| Backprop |" in table
    assert "Stable: share of resamples" in table
    assert "best on seeds 7–8" in (folder / "figures" / "table.md").read_text()
    page = (folder / "figures" / "report.html").read_text()
    assert "How hyper-parameters were selected" in page
    assert "Methods and benchmarks" in page
    assert "L2 Init" in (folder / "figures" / "leaderboard.md").read_text()
    lines = (folder / "figures" / "study.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * (2 + 3) + 3 * 2  # of the choice, and of the report
    assert figures([str(folder / "figures" / "study.csv"), "--out", str(tmp_path / "again"), "--format", "png"]) == 0
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert (tmp_path / "again" / name).read_text() == (folder / "figures" / name).read_text()


def _copy(whole: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "sweeps" / "chosen"
    shutil.copytree(whole, copy, copy_function=shutil.copy2)
    return copy


def test_a_setting_that_diverges_is_the_worst_and_the_first_of_all_may(tmp_path: Path, lop: Command) -> None:
    ended = lop(
        *("-m", "hydra/sweeper=select", "scale=tiny", "network.hidden=[8]", "benchmark=slowly_changing_regression"),
        *("optimizer.step_size=1e30,0.01,0.001", "seed=0", "tuning.seeds=[7,8]", "sweep=chosen"),
    )
    assert ended.code == 0, ended.err
    found = record.read(tmp_path / "sweeps" / "chosen")
    assert found is not None
    first = found["methods"]["backprop"]["rungs"][0]
    assert first["values"]["step_size=1e+30"] == [None, None]
    assert "step_size=1e+30" not in first["kept"]
    assert not found["methods"]["backprop"]["larger_is_better"]  # it is an error


def test_from_python_a_selection_is_refused_and_not_taken_for_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "study.yaml").write_text(EXPERIMENT)
    with pytest.raises(ConfigError, match="the command line does"):
        sweep("experiment=study", config_dir="mine")
    with pytest.raises(ConfigError, match="must be grid, from Python"):
        sweep("hydra/sweeper=select", "optimizer.step_size=0.1,0.01")
    assert not (tmp_path / "sweeps").exists()
