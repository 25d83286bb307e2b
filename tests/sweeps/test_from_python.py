"""`compose`, `run` and `sweep` in somebody else's process: what they do, and what they leave as it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from importlib import import_module, reload
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose as their_compose
from hydra import initialize_config_dir
from hydra import version as hydra_version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from lop_sweeps import compose, load, load_run, run, sweep
from lop_sweeps.build import _import
from lop_sweeps.errors import ConfigError, DataError, Interrupted, LopError
from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.from_python import RunFailed
from lop_sweeps.sweeps.report import SweepFailed
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training.learner import TorchLearner
from tests import runs

IDEA = Path(__file__).parents[1] / "bad_input" / "users_idea.py"
FAST = {"benchmark.examples_per_task": 40, "engine": "torch"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def my_idea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a user's component, in the current folder, as beside a notebook."""
    file = tmp_path / "my_idea.py"
    file.write_bytes(IDEA.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("my_idea", None)
    _import.cache_clear()


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


# --- imports ---


def test_the_function_and_the_package_of_nearly_its_name_are_imported_in_either_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lop_sweeps"]:
            monkeypatch.delitem(sys.modules, name)

    forget()
    package = import_module("lop_sweeps.sweeps")
    face = import_module("lop_sweeps")
    assert callable(face.sweep)
    assert face.sweeps is package
    forget()
    face = import_module("lop_sweeps")
    assert callable(face.sweep)
    assert face.sweeps is import_module("lop_sweeps.sweeps")
    assert callable(face.sweep)


# --- compose ---


def test_texts_and_mappings_compose_to_the_run_that_run_trains() -> None:
    texts = compose(*runs.SMALL, "seed=2", "optimizer.step_size=0.02", "engine=torch", "benchmark.examples_per_task=40")
    given = {"scale": "tiny", "seed": 2, "network": "mlp", "network.hidden": [12, 12], "optimizer": {"step_size": 0.02}}
    mapping = compose(given, FAST)
    assert texts.run == mapping.run
    assert (mapping.optimizer.step_size, mapping.num_tasks) == (0.02, 4)
    assert run(given, FAST, quiet=True) == Path(mapping.paths.sweeps, mapping.sweep, mapping.run)


def test_a_configuration_needs_no_data_and_is_not_to_be_changed() -> None:
    config = compose("benchmark=permuted_mnist", "paths.data=nowhere")
    assert config.layers.inputs == 784
    with pytest.raises(ReadonlyConfigError):
        config.seed = 3
    with pytest.raises(DataError):
        run("benchmark=permuted_mnist", "paths.data=nowhere")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer.step_size=-1"], r"optimizer\.step_size = -1: must be"),
        (["optimizer.stepsize=1"], "did you mean step_size"),
        (["benchmark=nothing"], "must be one of: .*permuted_digits"),
        (["seed=1,2"], "are 2 runs: give one value of each key, or use sweep"),
        (["experiment=demo_digits"], r"are 5 runs: give variant=\.\.\. \(one of: backprop, "),
        (["seed=[1"], "is not Hydra's syntax|mismatched|extraneous|no viable"),
        (["trusted=[os]"], "is an argument of this function"),
        (["hydra/launcher=nothing"], "hydra/launcher"),
        ([{"optimizer.step_size": "fast"}], r"optimizer\.step_size = 'fast'"),
    ],
)
def test_what_is_not_allowed_is_one_error_in_one_line(overrides: list[Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        compose(*overrides)
    assert "\n" not in str(caught.value)


def test_a_folder_of_ones_own_has_more_choices(here: Path) -> None:
    folder = here / "my_conf" / "optimizer"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: lop_sweeps.optimizers.sgd.SGD\nstep_size: 0.125\n")
    assert compose("optimizer=mine", config_dir="my_conf").optimizer.step_size == 0.125
    assert compose("optimizer=mine", f"hydra.searchpath=[file://{here}/my_conf]").optimizer.step_size == 0.125
    with pytest.raises(ConfigError, match="there is no such folder"):
        compose(config_dir="your_conf")


# --- run ---


def test_a_run_tells_its_rows_is_not_run_twice_and_goes_on_with_more_tasks() -> None:
    told: list[dict[str, Any]] = []
    path = run(*runs.SMALL, FAST, on_row=told.append, quiet=True)
    assert [{"run": path.name, **row} for row in rows_of(path)] == told
    assert run(*runs.SMALL, FAST, on_row=told.append, quiet=True) == path
    assert len(told) == 4
    assert run(*runs.SMALL, FAST, {"benchmark.num_tasks": 6}, on_row=told.append, quiet=True) == path
    assert [row["task"] for row in told] == list(range(6))
    network, config = load_run(path)
    assert isinstance(network, torch.nn.Module)
    assert len(load(path).tasks) == config["num_tasks"] == 6


def test_a_row_is_in_the_file_when_it_is_told() -> None:
    seen = []

    def look(row: dict[str, Any]) -> None:
        (path,) = Path("sweeps").glob(f"*/{row['run']}")
        seen.append(rows_of(path)[-1] | {"run": path.name} == row)

    run(*runs.SMALL, FAST, on_row=look, quiet=True)
    assert seen == [True] * 4


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_what_on_row_raises_stops_the_run_with_a_checkpoint(engine: str, here: Path) -> None:
    def enough(row: dict[str, Any]) -> None:
        if row["task"] == 1:
            raise KeyError("seen enough")

    line = [*runs.SMALL, "checkpoint.first=1000", f"engine={engine}"]  # no other checkpoint than the one at the stop
    with pytest.raises(KeyError, match="seen enough"):
        run(*line, on_row=enough, quiet=True)
    (path,) = here.glob("sweeps/*/*")
    assert RunDirectory(path).status()["state"] == "waiting"
    assert [row["task"] for row in rows_of(path)] == [0, 1]
    told: list[dict[str, Any]] = []
    assert run(*line, on_row=told.append, quiet=True).resolve() == path
    assert [row["task"] for row in told] == [2, 3]
    whole = run(*line, "paths.sweeps=other", quiet=True)
    assert (whole / "metrics.jsonl").read_bytes() == (path / "metrics.jsonl").read_bytes()


def test_a_failure_is_raised_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("the idea broke")

    monkeypatch.setattr(TorchLearner, "learn", broken)
    with pytest.raises(RunFailed, match="RuntimeError: the idea broke") as caught:
        run(*runs.SMALL, FAST, quiet=True)
    assert "in broken" in caught.value.__notes__[0]


def test_a_run_that_somebody_else_has_is_not_called_trained(here: Path) -> None:
    path = run(*runs.SMALL, FAST, quiet=True)
    claim = Claim(path)
    assert claim.take()
    with pytest.raises(RunFailed, match="is queued or being trained by another process"):
        run(*runs.SMALL, FAST, {"benchmark.num_tasks": 6}, quiet=True)
    claim.release()


def test_a_folder_that_is_not_what_it_was_is_refused() -> None:
    path = run(*runs.SMALL, FAST, quiet=True)
    (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("step_size: 0.0", "step_size: 0.1"))
    with pytest.raises(RunFailed, match="not as it was written"):
        run(*runs.SMALL, FAST, quiet=True)


def test_a_plan_is_shown_and_nothing_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run(*runs.SMALL, FAST, "hydra.launcher.plan=true")
    (same,) = sweep(*runs.SMALL, FAST, "hydra.launcher.plan=true")
    assert same == path
    assert capsys.readouterr().err.count("would train 1 runs") == 2
    assert not (here / "sweeps").exists()


# --- the caller's process ---


def test_interrupt_stops_cleanly_and_the_handlers_are_as_they_were(here: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        run(*runs.SMALL, FAST, on_row=lambda row: os.kill(os.getpid(), signal.SIGINT), quiet=True)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    (path,) = here.glob("sweeps/*/*")
    assert (path / "checkpoint.pt").exists()


def test_it_works_in_a_thread_and_where_an_event_loop_runs() -> None:
    found = []
    thread = threading.Thread(target=lambda: found.append(run(*runs.SMALL, FAST, quiet=True)))
    thread.start()
    thread.join()

    async def cell() -> None:
        found.append(run(*runs.SMALL, FAST, "seed=1", quiet=True))

    asyncio.run(cell())
    assert [RunDirectory(path).status()["state"] for path in found] == ["done", "done"]


def test_torch_keeps_its_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(*runs.SMALL, FAST, quiet=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_hydra_is_as_the_caller_has_it(here: Path) -> None:
    (here / "theirs").mkdir()
    (here / "theirs" / "config.yaml").write_text("when: ${now:%Y}\n")
    kept = Singleton.get_state()
    try:
        with initialize_config_dir(str(here / "theirs"), version_base="1.2"):
            OmegaConf.register_new_resolver("now", lambda pattern: "their now", replace=True)
            theirs, shown = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
            assert compose(*runs.SMALL, "sweep='${hydra:runtime.choices.network}'").sweep == "mlp"
            assert GlobalHydra.instance().hydra is theirs
            assert HydraConfig.instance().cfg is shown
            assert str(hydra_version.getbase()) == "1.2"
            assert their_compose("config").when == "their now"
    finally:
        Singleton.set_state(kept)


# --- trust ---


def test_what_is_trusted_is_an_argument(my_idea: Path) -> None:
    line = [*runs.SMALL, FAST, "+algorithm.idea._target_=my_idea.Idea"]
    with pytest.raises(ConfigError, match=r"add your module's name to `trusted`"):
        run(*line, quiet=True)
    path = run(*line, trusted=["my_idea"], quiet=True)
    assert path.name.startswith("my_idea-seed0-")
    with pytest.raises(ConfigError, match=r"__main__.*has no file"):
        run(*line, trusted=["__main__"])


def test_a_module_that_was_edited_is_loaded_again_or_refused(my_idea: Path) -> None:
    line = [*runs.SMALL, FAST, "+algorithm.idea._target_=my_idea.Idea"]
    one = compose(*line, trusted=["my_idea"])
    my_idea.write_text(
        my_idea.read_text().replace("version: ClassVar[int] = 1", "version: ClassVar[int] = 2  # better")
    )
    with pytest.raises(LopError, match=r"my_idea\.py has changed since this process loaded it"):
        compose(*line, trusted=["my_idea"])
    reload(sys.modules["my_idea"])
    assert compose(*line, trusted=["my_idea"]).run != one.run


# --- sweep ---


def test_a_sweep_in_this_process_tells_rows_of_all_runs_and_returns_their_folders() -> None:
    told: list[dict[str, Any]] = []
    swept = {"seed": range(2), "algorithm": ("backprop", ["l2", "shrink_and_perturb"])}
    paths = sweep(*runs.SMALL, FAST, swept, workers=1, on_row=told.append, quiet=True)
    assert len(set(paths)) == 4
    assert sorted({row["run"] for row in told}) == sorted(path.name for path in paths)
    for path in paths:
        assert [row for row in told if row["run"] == path.name] == [{"run": path.name, **row} for row in rows_of(path)]
    assert sorted(load(paths).runs["seed"]) == [0, 0, 1, 1]
    assert sweep(*runs.SMALL, FAST, swept, workers=1, on_row=told.append, quiet=True) == paths
    assert len(told) == 16


def test_failures_are_one_error_that_names_each_and_the_others_are_trained(my_idea: Path) -> None:
    idea = {"+algorithm.idea._target_": "my_idea.Idea", "+algorithm.idea.action": "raise", "+algorithm.idea.seed": 1}
    line = [*runs.SMALL, FAST, idea, {"seed": range(3), "hydra.launcher.pack": 1}]
    with pytest.raises(SweepFailed, match="1 of 3 runs failed") as caught:
        sweep(*line, workers=1, trusted=["my_idea"], quiet=True)
    ((path, why),) = caught.value.failed.items()
    assert why == "RuntimeError: the idea broke at step 0"
    states = {each.name: RunDirectory(each).status()["state"] for each in path.parent.iterdir() if each.is_dir()}
    assert sorted(states.values()) == ["done", "done", "failed"]
    assert states[path.name] == "failed"


def test_workers_are_processes_of_their_own_that_find_the_users_modules(my_idea: Path, here: Path) -> None:
    """They import what lies beside the notebook; an error of on_row stops them, and the same call goes on."""
    told: list[dict[str, Any]] = []

    def listen(row: dict[str, Any]) -> None:
        told.append(row)
        if len(told) == 3:
            raise KeyError("seen enough")

    slow = here / "slow"
    slow.touch()  # for as long as it is there, a step takes 3 ms
    idea = {"_target_": "my_idea.Idea", "action": "sleep", "while_exists": slow}
    swept = {"seed": range(2), "hydra.launcher.pack": 2, "benchmark.num_tasks": 50, "+algorithm.idea": idea}
    with pytest.raises(KeyError, match="seen enough"):
        sweep(*runs.SMALL, FAST, swept, workers=2, trusted=["my_idea"], on_row=listen, quiet=True)
    slow.unlink()
    paths = list(here.glob("sweeps/*/my_idea-*"))
    assert "waiting" in {RunDirectory(path).status()["state"] for path in paths}
    told.clear()
    paths = sweep(*runs.SMALL, FAST, swept, workers=1, trusted=["my_idea"], quiet=True)
    assert {RunDirectory(path).status()["state"] for path in paths} == {"done"}


def test_what_cannot_be_told_or_launched_from_python_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_row.*use hydra/launcher=local"):
        sweep(*runs.SMALL, "hydra/launcher=slurm", on_row=print)
    with pytest.raises(ConfigError, match="must be local or slurm"):
        sweep(*runs.SMALL, "hydra/launcher=basic")
    with pytest.raises(ConfigError, match=r"launches sweeps: use sweep\(\.\.\.\)"):
        run(*runs.SMALL, "hydra/launcher=slurm")
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.workers = 0"):
        sweep(*runs.SMALL, workers=0)
