"""A folder from somebody runs nothing, and what the caller trusts travels with the call (cases 2.1, 2.2)."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lop_sweeps import load_run
from lop_sweeps.errors import LopError
from lop_sweeps.sweeps import video
from lop_sweeps.sweeps.job import Job
from lop_sweeps.sweeps.planning import Pack, Plan
from lop_sweeps.sweeps.run_directory import RunDirectory
from tests import runs
from tests.bad_input.conftest import Command, idea

LINE = ["benchmark=slowly_changing_regression", "scale=tiny", "benchmark.num_tasks=1", "network.hidden=[4]"]
SMALL = [*LINE, "engine=fused"]
MINE = [*LINE, "engine=torch", "benchmark.examples_per_task=50"]


@pytest.fixture
def pwned(tmp_path: Path) -> Path:
    """What an attack would leave."""
    return tmp_path / "PWNED"


# What a run's config.yaml may be changed to; `command` leaves a file.
STORED: dict[str, Callable[[str], dict[str, Any]]] = {
    "a function of torch": lambda command: {
        "optimizer": {"_target_": "torch.utils.collect_env.run", "command": command}
    },
    "the system, trusted by the same file": lambda command: {
        "optimizer": {"_target_": "os.system", "command": command},
        "trusted": ["os"],
    },
    "a network of the system": lambda command: {
        "network": {"_target_": "subprocess.Popen", "args": command, "shell": True},
        "trusted": ["subprocess"],
    },
    "a command of this project": lambda command: {
        "algorithm": {"x": {"_target_": "lop_sweeps.sweeps.status.main", "argv": ["--prune", "."]}}
    },
    "among options": lambda command: {
        "network": {
            "_target_": "lop_sweeps.networks.mlp.MLP",
            "hidden": {"_target_": "os.system", "command": command},
        }
    },
    "tracking": lambda command: {"tracking": {"_target_": "os.system", "command": command}, "trusted": ["os"]},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A run that is done."""
    (pack,) = runs.plan(tmp_path_factory.mktemp("theirs"), *SMALL).packs
    assert runs.train(Plan(packs=[pack]))[0].state == "done"
    return pack


@pytest.mark.parametrize("changes", STORED.values(), ids=list(STORED))
def test_a_changed_configuration_is_neither_loaded_nor_trained(
    finished: Pack, tmp_path: Path, pwned: Path, changes: Callable[[str], dict[str, Any]]
) -> None:
    shutil.copytree(finished.folder, tmp_path / "sweep")
    pack = replace(finished, folder=tmp_path / "sweep")
    directory = RunDirectory(pack.folder / pack.todo[0])
    config = {**directory.config(), **changes(f"touch {pwned}")}
    (directory.path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(LopError):
        load_run(directory.path)
    directory.write_status(state="waiting")
    (outcome,) = runs.train(Plan(packs=[pack]))
    assert outcome.state == "failed"
    assert not pwned.exists()
    assert list(directory.path.glob("checkpoint*.pt"))


# Files of a config folder, `experiment/theirs.yaml` being chosen; PWNED is what they would leave.
FOLDERS: dict[str, str] = {
    "a function of torch": "optimizer: {_target_: torch.utils.collect_env.run, command: touch PWNED}",
    "the system, trusted by the same file": "trusted: [os]\noptimizer: {_target_: os.system, command: touch PWNED}",
    "a variant that trusts": "variants: {a: ['trusted=[os]']}\nhydra: {mode: MULTIRUN}",
    "parameters that trust": "hydra: {mode: MULTIRUN, sweeper: {params: {trusted: '[os]'}}}",
    "as if it had been typed": "trusted: [os]\nhydra: {overrides: {task: ['trusted=[os]']}}",
    "callbacks of Hydra": "hydra: {callbacks: {x: {_target_: os.system, command: touch PWNED}}}",
    "logging of the job": "hydra: {job_logging: {version: 1, handlers: {x: {(): os.system, command: touch PWNED}}}}",
    "logging of Hydra": "hydra: {hydra_logging: {version: 1, filters: {x: {(): os.system, command: touch PWNED}}}}",
    "a handler of logging": "hydra: {job_logging: {handlers: {x: {class: logging.FileHandler, filename: PWNED}}}}",
    "an option of the launcher": "hydra: {launcher: {workers: {_target_: os.system, command: touch PWNED}}}",
    "an option of the sweeper": "hydra: {sweeper: {params: {x: {_target_: os.system, command: touch PWNED}}}}",
    "another launcher": "hydra: {launcher: {_target_: os.system, command: touch PWNED}}",
    "variables": "hydra: {job: {env_set: {PYTHONPATH: /theirs}}}",
}


@pytest.mark.parametrize("name", list(FOLDERS))
def test_a_config_folder_runs_nothing(lop: Command, tmp_path: Path, pwned: Path, name: str) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "theirs.yaml").write_text(f"# @package _global_\n{FOLDERS[name]}\n")
    flags = ["-m"] if "launcher" in name or "sweeper" in name else []
    ended = lop(*flags, *LINE, "hydra.searchpath=[file://conf]", "experiment=theirs")
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert not pwned.exists()
    assert not (tmp_path / "sweeps").exists()


def test_a_file_that_trusts_is_told_where_trust_is_said(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    """The same on the command line is believed, and then the file may say it, too."""
    (tmp_path / "conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "conf" / "algorithm" / "mine.yaml").write_text(
        "# @package _global_\ntrusted: [users_idea]\nalgorithm: {mine: {_target_: users_idea.Idea}}\n"
    )
    line = [*LINE, "hydra.searchpath=[file://conf]", "algorithm=mine"]
    refused = lop(*line)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "trusted" in refused.err
    assert lop(*line, "trusted=[users_idea]").code == 0


@pytest.mark.parametrize("given", ["trusted=[os],[sys]", "trusted=os", "trusted=['']", "trusted=[lop_sweeps]"])
def test_trust_is_one_list_of_modules(lop: Command, given: str) -> None:
    ended = lop("-m", *LINE, given)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("lop: trusted")


# --- own components keep working ---


@pytest.fixture
def trained(tmp_path: Path, users_idea: Path) -> Plan:
    plan = runs.plan(tmp_path / "sweeps", *MINE, *idea())
    (outcome,) = runs.train(plan)
    assert outcome.state == "done"
    return plan


def test_a_sweep_trusts_in_its_workers(lop: Command, users_idea: Path) -> None:
    ended = lop("-m", *LINE, *idea(), "seed=0,1", "hydra.launcher.workers=2", "engine=torch")
    assert (ended.code, "2 done" in ended.err) == (0, True)


def test_hydras_own_launcher_trusts_in_its_jobs(lop: Command, users_idea: Path) -> None:
    ended = lop("-m", *LINE, *idea(), "seed=0,1", "hydra/launcher=basic", "engine=torch")
    assert (ended.code, ended.err.count("1 done")) == (0, 2)


def test_a_plan_is_forecast_with_what_it_trusts(lop: Command, users_idea: Path) -> None:
    ended = lop("-m", *LINE, *idea(), "seed=0,1", "hydra.launcher.plan=true", "engine=torch")
    assert (ended.code, "could not be timed" in ended.err) == (0, False)


def test_a_run_is_loaded_by_who_trusts_its_modules(trained: Plan) -> None:
    """Its config.yaml says which they were, and that is not asked."""
    path = trained.points[0].directory.path
    assert trained.points[0].directory.config()["trusted"] == ["users_idea"]
    with pytest.raises(LopError, match="trusted"):
        load_run(path)
    network, config = load_run(path, trusted=["users_idea"])
    assert config["seed"] == 0
    assert not network.training


def test_a_slurm_job_carries_the_trust_of_its_caller(tmp_path: Path, users_idea: Path) -> None:
    """Pickled, as submitit does it, also when it is requeued; a job without it fails the run, with one line."""
    plan = runs.plan(tmp_path / "sweeps", *MINE, *idea(), seeds=2, pack=1)
    job: Job = pickle.loads(pickle.dumps(Job(tuple(plan.packs))))
    requeued: Job = pickle.loads(pickle.dumps(job.checkpoint().function))
    assert {pack.trusted for pack in (*job.packs, *requeued.packs)} == {("users_idea",)}
    mine, other = requeued.packs
    assert runs.train(Plan(packs=[mine]))[0].state == "done"
    (outcome,) = runs.train(Plan(packs=[replace(other, trusted=())]))
    assert outcome.state == "failed"
    assert "trusted" in outcome.message


def test_the_trust_of_lop_figures_reaches_its_videos(
    trained: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lop_sweeps.analysis.__main__ import parser, videos
    from lop_sweeps.analysis.reading.load import load

    told: list[Any] = []

    def record(run: Path, file: Path, steps: int = 300, trusted: Any = ()) -> Path:
        told.append(tuple(trusted))
        load_run(run, trusted)
        return file

    monkeypatch.setattr(video, "record", record)
    sweep = load(trained.folders[0])
    options = parser().parse_args([str(trained.folders[0]), "--video", "--trusted", "users_idea"])
    assert len(videos(sweep, tmp_path, options.trusted)) == 1
    with pytest.raises(LopError, match="trusted"):
        videos(sweep, tmp_path)
    assert told == [("users_idea",), ()]
