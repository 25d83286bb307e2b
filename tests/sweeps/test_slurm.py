"""What sweeps on SLURM are made of, without SLURM: programs of that name answer from files (tests/cluster has one)."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from hydra_plugins.lop_sweeps import SlurmLauncher
from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.sweeps import job as job_module
from lop_sweeps.sweeps import queue, slurm, snapshot
from lop_sweeps.sweeps.job import Job
from lop_sweeps.sweeps.planning import Plan, make_plan
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.status import main as lop_status
from lop_sweeps.sweeps.status import summarise
from lop_sweeps.sweeps.sweeper import chosen
from lop_sweeps.sweeps.timing import core_seconds
from tests import runs
from tests.contracts.table import ANT, IMAGENET


class Programs:
    """Stand-ins on the path: what each prints, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def say(self, name: str, text: str = "", code: int = 0) -> None:
        (self.folder / f"{name}.txt").write_text(text)
        program = self.folder / name
        program.write_text(
            f'#!/bin/sh\necho "$0 $@" >> {self.folder}/asked\ncat {self.folder}/{name}.txt\nexit {code}\n'
        )
        program.chmod(0o755)

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return [line.removeprefix(f"{self.folder}/") for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Programs(folder)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return runs.plan(tmp_path / "sweeps", *runs.SMALL, seeds=4, pack=1)


class Executor:
    """Takes jobs as submitit's does."""

    made: ClassVar[list[Executor]] = []

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.parameters, self.jobs = folder, dict[str, Any](), list[Job]()
        self.environment: dict[str, str] = {}
        Executor.made.append(self)

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters = parameters

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, job: Job) -> Any:
        self.jobs.append(job)
        self.environment = dict(os.environ)
        number = f"{len(Executor.made)}_{len(self.jobs) - 1}"
        return SimpleNamespace(job_id=number, paths=SimpleNamespace(stdout=self.folder / f"{number}.out"))


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[Executor]:
    import submitit.slurm.slurm

    monkeypatch.setattr(submitit.slurm.slurm, "SlurmExecutor", Executor)
    Executor.made = []
    return Executor.made


# --- what the queue says ---


def test_states_come_from_squeue_and_what_it_has_forgotten_from_sacct(programs: Programs) -> None:
    programs.say("squeue", "7_0 RUNNING\n7_1 PENDING\n8 COMPLETED\n")
    programs.say("sacct", "9_4|CANCELLED by 1000\n9_5|TIMEOUT\n")
    found = queue.states(["7_0", "7_1", "8", "9_4", "9_5", "10"])
    assert found == {"7_0": "RUNNING", "7_1": "PENDING", "8": "COMPLETED", "9_4": "CANCELLED", "9_5": "TIMEOUT"}
    active = [job for job, state in found.items() if queue.is_active(state)]
    assert active == ["7_0", "7_1"]
    assert not queue.is_active(found.get("10"))
    assert "--jobs=10,9_4,9_5" in programs.asked()[-1]


@pytest.mark.parametrize("code", [0, 1])
def test_no_slurm_or_one_that_does_not_answer_is_no_error(
    programs: Programs, plan: Plan, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDirectory(plan.packs[0].folder / plan.packs[0].todo[0])
    queue.record(run, "3_1", Path("/nowhere"))
    if code:
        programs.say("squeue", "3_1 RUNNING\n", code)
    else:
        monkeypatch.setattr(queue.shutil, "which", lambda name: None)
    assert queue.ask(["3_1"]) == (None if code else {})
    assert queue.states(["3_1"]) == {}
    assert queue.active_runs([run]) == {}
    assert summarise(plan.folders[0], every_run=True)[1] == {"waiting": 4}


def test_runs_that_wait_in_the_queue_are_not_planned_again(programs: Programs, plan: Plan) -> None:
    """Neither for SLURM nor for this machine; when their jobs are gone, they are."""
    for pack in plan.packs[:3]:
        queue.record(RunDirectory(pack.folder / pack.todo[0]), f"5_{plan.packs.index(pack)}", Path("/nowhere"))
    programs.say("squeue", "5_0 PENDING\n5_1 RUNNING\n5_2 FAILED\n")
    again = make_plan(plan.points, workers=1, pack=None, threads=1)
    assert (again.busy, len(again.packs)) == (2, 2)


def test_status_tells_queued_running_lost_and_waiting_apart(programs: Programs, plan: Plan, tmp_path: Path) -> None:
    log = tmp_path / "job.out"
    log.write_text("one\ntwo\nkilled by nobody knows what\n")
    for i, pack in enumerate(plan.packs):
        run = RunDirectory(pack.folder / pack.todo[0])
        queue.record(run, f"5_{i}", log)
        if i in (1, 2):
            run.write_status(state="running")
    programs.say("squeue", "5_0 PENDING\n5_1 PENDING\n5_2 NODE_FAIL\n5_3 CANCELLED\n")
    text, counts = summarise(plan.folders[0], every_run=False)
    assert counts == {"queued": 2, "lost": 1, "waiting": 1}
    lost = plan.packs[2].folder / plan.packs[2].todo[0]
    assert f"lost: {lost}" in text
    assert "its job 5_2 has ended (NODE_FAIL)" in text
    assert "killed by nobody knows what" in text
    assert lop_status([str(plan.folders[0])]) == 3


def test_cancel_ends_the_jobs_that_are_left(programs: Programs, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    for i, pack in enumerate(plan.packs):
        queue.record(RunDirectory(pack.folder / pack.todo[0]), f"5_{i // 2}", Path("/nowhere"))
    programs.say("squeue", "5_0 RUNNING\n5_1 COMPLETED\n")
    programs.say("scancel")
    assert lop_status(["--cancel", str(plan.folders[0])]) == 0
    assert programs.asked()[-1] == "scancel 5_0"
    assert "1 jobs cancelled" in capsys.readouterr().out
    programs.say("scancel", code=1)
    assert lop_status(["--cancel", str(plan.folders[0])]) == 1


def test_run_that_is_trained_here_after_all_forgets_its_job(
    programs: Programs, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    run = RunDirectory(plan.packs[0].folder / plan.packs[0].todo[0])
    queue.record(run, "5_0", Path("/nowhere"))
    runs.train(replace(plan, packs=plan.packs[:1]))
    assert queue.job_of(run) is None


# --- submitting ---


def test_packs_become_arrays_no_longer_than_the_cluster_allows(
    programs: Programs, plan: Plan, executors: list[Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs.say("scontrol", "MaxJobCount = 10000\nMaxArraySize            = 3\n")
    monkeypatch.setattr(slurm, "follow", lambda submitted: [])
    slurm.run_on_slurm(plan.points, SlurmLauncher(pack=1, wait=False))
    assert [len(one.jobs) for one in executors] == [3, 1]
    for executor in executors:
        for i, one in enumerate(executor.jobs):
            (pack,) = one.packs
            facts = queue.job_of(RunDirectory(pack.folder / pack.todo[0]))
            assert facts is not None
            assert facts["job"] == f"{executors.index(executor) + 1}_{i}"
            assert pack.folder.is_absolute()


def test_options_reach_sbatch(programs: Programs, plan: Plan, executors: list[Executor]) -> None:
    launcher = SlurmLauncher(
        partition="long",
        account="me",
        qos="low",
        time=30,
        cpus=4,
        mem="8GB",
        gpus=2,
        constraint="fast",
        exclude="n7",
        sbatch={"nice": 100, "requeue": False},
        setup=["module load x"],
        array_parallelism=9,
        signal_delay=45,
        workers=2,
        pack=1,
        packs_per_job=4,
        wait=False,
        max_array=10,
    )
    slurm.run_on_slurm(plan.points, launcher)
    (executor,) = executors
    given = executor.parameters
    expected = {"partition": "long", "account": "me", "qos": "low", "time": 30, "cpus_per_task": 4, "mem": "8GB"}
    expected |= {
        "gpus_per_node": 2,
        "constraint": "fast",
        "exclude": "n7",
        "array_parallelism": 9,
        "signal_delay_s": 45,
    }
    assert {key: given[key] for key in expected} == expected
    assert given["additional_parameters"] == {"nice": 100, "requeue": False}
    assert given["setup"][0] == "module load x"
    assert given["setup"][1].startswith("export PYTHONPATH=/")
    (one,) = executor.jobs
    assert (len(one.packs), one.workers, one.seconds, one.margin) == (4, 2, 1800, 45)
    assert {pack.threads for pack in one.packs} == {2}


@pytest.mark.parametrize("name", ["my study", "it's", 'a "b" $HOME `c`', "größe;x", "plain"])
def test_a_job_runs_the_copy_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    """Cases 5.4 and 5.6: not what the user's lines put on the path, and not the folder that it is started in."""
    code, elsewhere = tmp_path / name / "code", tmp_path / "elsewhere"
    for folder in (code, elsewhere):
        folder.mkdir(parents=True)
        (folder / "probe.py").write_text(f"print({folder.name!r})\n")
    (elsewhere / "users.py").write_text("print('users')\n")
    launcher = SlurmLauncher(setup=[f"export PYTHONPATH={elsewhere}"])
    lines = slurm.parameters(launcher, "s", code)["setup"]
    script = "\n".join([*lines, *(f"{shlex.quote(sys.executable)} -S -m {module}" for module in ("probe", "users"))])
    done = subprocess.run(["bash", "-c", script], cwd=elsewhere, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["code", "users"]


@pytest.mark.parametrize("name", ["50%", "a:b", "a\\b"])
def test_a_folder_that_jobs_cannot_have_is_refused_at_once(
    tmp_path: Path, executors: list[Executor], name: str
) -> None:
    """Case 5.4."""
    points = [runs.point(tmp_path, *runs.SMALL, f"sweep='{name}'")]
    with pytest.raises(ConfigError, match=r"paths\.sweeps"):
        slurm.run_on_slurm(points, SlurmLauncher(wait=False, max_array=9))
    assert not executors
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_finds_other_code_than_its_copy_fails(plan: Plan, tmp_path: Path) -> None:
    """Case 5.4: silently running the working copy would be worse."""
    with pytest.raises(LopError, match="copy of the code"):
        Job(tuple(plan.packs), code=tmp_path / "code")()
    Job(tuple(plan.packs), code=Path(slurm.__file__).parents[2]).check_code()


def test_jobs_do_not_inherit_an_allocation(
    plan: Plan, executors: list[Executor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 5.5: nor do they lose what the user has set for sbatch, or where SLURM is."""
    gone = ("SLURM_CPU_BIND", "SLURM_MEM_PER_NODE", "SLURM_JOB_ID", "SRUN_CPUS_PER_TASK", "SBATCH_CPU_BIND_TYPE")
    kept = ("SBATCH_ACCOUNT", "SLURM_CONF", "SLURM_JWT", "LOP_DATA")
    for name in (*gone, *kept):
        monkeypatch.setenv(name, "x")
    slurm.run_on_slurm(plan.points, SlurmLauncher(wait=False, max_array=9))
    (executor,) = executors
    assert not set(gone) & executor.environment.keys()
    assert set(kept) <= executor.environment.keys()
    assert set(gone) <= os.environ.keys()
    assert all(job.code and job.code.is_dir() for job in executor.jobs)


@pytest.mark.parametrize("asked", [{"gpus": 1}, {"gres": "gpu:a100:1"}, {}])
def test_packs_for_a_gpu_are_large_though_there_is_none_here(
    tmp_path: Path, programs: Programs, executors: list[Executor], asked: dict[str, Any]
) -> None:
    points = [runs.point(tmp_path, "scale=tiny", *IMAGENET, f"seed={seed}") for seed in range(3)]
    points += [runs.point(tmp_path, "scale=tiny", *ANT, "seed=0")]  # its environments are on the host
    slurm.run_on_slurm(points, SlurmLauncher(wait=False, max_array=9, **asked))
    packs = [pack for one in executors[0].jobs for pack in one.packs]
    found = sorted((pack.device, len(pack.todo)) for pack in packs)
    assert found == ([("cpu", 1), ("cuda", 3)] if asked else [("cpu", 1)] * 4)


def test_requeueing_is_asked_for_unless_the_user_forbids_it() -> None:
    assert slurm.parameters(SlurmLauncher(), "s", Path("/c"))["additional_parameters"] == {"requeue": True}


def test_slurm_that_does_not_answer_for_a_while_has_lost_no_job(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers and does not know a job, some time after it was handed over, has."""
    answers: Iterator[dict[str, str] | None] = iter([None, {"5_0": "RUNNING"}, None, {"5_0": "COMPLETED"}])
    monkeypatch.setattr(slurm, "POLL", 0.0)
    monkeypatch.setattr(queue, "ask", lambda jobs: next(answers))
    directories = tuple(RunDirectory(pack.folder / name) for pack in plan.packs for name in pack.todo)
    runs.train(plan)
    submitted = slurm.Submitted("5_0", directories, Path("/nowhere"))
    assert [outcome.state for outcome in slurm.follow([submitted])] == ["done"] * 4
    assert next(answers, "none left") == "none left"

    monkeypatch.setattr(slurm, "MISSING", 0.0)
    monkeypatch.setattr(queue, "ask", lambda jobs: {})
    directories[0].write_status(state="running")
    ended = slurm.follow([submitted])
    assert [outcome.state for outcome in ended] == ["failed", "done", "done", "done"]
    assert "unknown to SLURM" in ended[0].message


@pytest.mark.parametrize(("option", "value"), [("cpus", 0), ("time", 0), ("pack", 0), ("wait", "yes"), ("gpus", -1)])
def test_options_out_of_range_are_named(plan: Plan, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.{option}"):
        slurm.run_on_slurm(plan.points, SlurmLauncher(**{option: value}))


def test_slurm_that_refuses_is_quoted(programs: Programs, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    import submitit.slurm.slurm

    def refuse(**arguments: Any) -> None:
        raise RuntimeError("sbatch: error: invalid partition specified: nowhere")

    monkeypatch.setattr(submitit.slurm.slurm, "SlurmExecutor", refuse)
    with pytest.raises(LopError, match="invalid partition specified"):
        slurm.run_on_slurm(plan.points, SlurmLauncher(max_array=5))


def test_plan_says_what_would_be_and_leaves_nothing_behind(
    tmp_path: Path, programs: Programs, executors: list[Executor], capsys: pytest.CaptureFixture[str]
) -> None:
    points = [runs.point(tmp_path / "sweeps", *runs.SMALL, f"seed={seed}") for seed in range(5)]
    slurm.run_on_slurm(points, SlurmLauncher(pack=2, plan=True, max_array=2))
    said = capsys.readouterr().err
    assert "would submit 5 runs in 3 packs as 3 jobs in 2 arrays" in said
    assert "of one core like this one" in said
    assert not executors
    assert not (tmp_path / "sweeps").exists()


def test_estimate_is_of_the_size_of_what_it_estimates(tmp_path: Path) -> None:
    points = [runs.point(tmp_path, *runs.SMALL, "benchmark.num_tasks=60", f"seed={seed}") for seed in range(3)]
    expected = core_seconds(points)
    assert expected is not None
    start = time.process_time()  # whatever else the machine does
    runs.train(make_plan(points, workers=1, pack=None, threads=1))
    assert 0.05 < expected / (time.process_time() - start) < 20


def test_only_failed_runs_if_asked(plan: Plan) -> None:
    assert chosen(plan.points, "all") == plan.points
    with pytest.raises(ConfigError, match="none of the 4 runs has failed"):
        chosen(plan.points, "failed")
    plan.points[2].directory.write_status(state="failed")
    assert chosen(plan.points, "failed") == [plan.points[2]]
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.only"):
        chosen(plan.points, "lost")


# --- the copy of the code ---


def test_copy_runs_by_itself_and_says_what_it_was_copied_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "users_own_idea.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    code = snapshot.take(tmp_path / "code", ["users_own_idea"])
    facts = json.loads((code / snapshot.FACTS).read_text())
    assert set(facts) == {"commit", "diff"}
    (tmp_path / "mine" / "users_own_idea.py").write_text("VALUE = 4\n")  # edited while it is queued
    program = (
        "import lop_sweeps, lop_sweeps.analysis, users_own_idea; from lop_sweeps.sweeps import provenance;"
        "print(lop_sweeps.__file__, lop_sweeps.analysis.__file__, users_own_idea.VALUE, provenance._code() == "
        f"{facts!r})"
    )
    environment = {**os.environ, "PYTHONPATH": str(code)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    package, analysis, value, same = done.stdout.split()
    assert package.startswith(str(code))
    assert analysis.startswith(str(code))
    assert (value, same) == ("3", "True")


def test_of_the_users_package_only_its_code_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 2.4: no secrets, no data, nothing behind links, however they lead round in circles."""
    outer = tmp_path / "mine" / "outer_idea"
    inner = outer / "inner"
    (inner / "deep").mkdir(parents=True)
    for path in (outer / "__init__.py", inner / "__init__.py", inner / "a.py", inner / "deep" / "b.py"):
        path.write_text("VALUE = 3\n")
    for name in (".env", "key.pem", "id_rsa", "secrets.yaml", "token.json", "data.npy", ".hidden.py"):
        (inner / name).write_text("secret")
    for name in (".venv", "venv"):
        (inner / name).mkdir()
        (inner / name / "pyvenv.cfg").touch()
        (inner / name / "c.py").touch()
    (inner / "up").symlink_to("..")
    (inner / "root").symlink_to("/")
    (inner / "linked.py").symlink_to("/etc/passwd")
    os.mkfifo(inner / "pipe.py")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    code = snapshot.take(tmp_path / "code", ["outer_idea.inner.", "torch.optim", "sys"])
    copied = {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()}
    theirs = {name for name in copied if not name.startswith(("lop_sweeps/", "hydra_plugins/lop_sweeps/"))}
    package = {"__init__.py", "inner/__init__.py", "inner/a.py", "inner/deep/b.py"}
    assert theirs == {snapshot.FACTS} | {f"outer_idea/{name}" for name in package}
    assert {Path(name).suffix for name in copied - theirs} <= {".py", ".yaml", ".typed", ".nbi", ".nbc"}
    assert "lop_sweeps/conf/config.yaml" in copied


def test_a_module_that_is_too_large_to_be_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 2.4."""
    (tmp_path / "large_idea").mkdir()
    with (tmp_path / "large_idea" / "weights.py").open("wb") as stream:
        stream.truncate(1 << 40)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LopError, match="large_idea"):
        snapshot.take(tmp_path / "code", ["large_idea"])


def test_module_that_cannot_be_copied_is_named(tmp_path: Path) -> None:
    with pytest.raises(LopError, match="no module no_such_thing"):
        snapshot.take(tmp_path / "code", ["no_such_thing"])


# --- a job ---


def run_job(job: Job, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a job in a process of its own, because it takes over signals; a copy of this one."""
    said = folder / "job.err"

    def child() -> None:
        os.dup2(os.open(said, os.O_CREAT | os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        job_module.WAIT_FOR_THE_END = 0.5
        os.environ["SLURM_JOB_ID"] = "5"
        job()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return process.exitcode or 0, said.read_text()


def test_job_trains_its_packs(plan: Plan, tmp_path: Path) -> None:
    code, said = run_job(Job(tuple(plan.packs)), tmp_path)
    assert code == 0, said
    assert {pack.folder / name for pack in plan.packs for name in pack.todo} == {
        point.directory.path for point in plan.points if point.is_finished()
    }


def test_failed_run_fails_its_job_after_the_others_are_done(plan: Plan, tmp_path: Path) -> None:
    victim = plan.points[1].directory
    (victim.path / "metrics.jsonl").mkdir()
    code, said = run_job(Job(tuple(plan.packs)), tmp_path)
    assert code != 0
    assert f"1 of 4 runs failed:\n  {victim.path}" in said
    assert [point.is_finished() for point in plan.points] == [True, False, True, True]


def test_time_that_is_over_means_another_turn(tmp_path: Path, programs: Programs) -> None:
    """The job's own clock says so, without any signal."""
    endless = runs.plan(tmp_path / "sweeps", *runs.SMALL, runs.TORCH, "benchmark.num_tasks=100000")
    programs.say("scontrol")
    code, said = run_job(Job(tuple(endless.packs), 1, 3.0, 1.0), tmp_path)
    assert programs.asked() == ["scontrol requeue 5"], said
    assert code != 0  # SLURM did not end it meanwhile, as it would have
    assert endless.points[0].directory.status()["state"] == "waiting"
    assert endless.points[0].directory.steps_done() > 0


@pytest.mark.parametrize(("turns", "progress"), [(0, False), (job_module.PATIENCE, False), (job_module.PATIENCE, True)])
def test_turns_that_lead_nowhere_come_to_an_end(
    plan: Plan, programs: Programs, monkeypatch: pytest.MonkeyPatch, turns: int, progress: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(turns))
    monkeypatch.setattr(job_module, "WAIT_FOR_THE_END", 0.0)
    programs.say("scontrol")
    hopeless = turns == job_module.PATIENCE and not progress
    end: Any = SimpleNamespace(time_is_up=True)
    with pytest.raises(LopError, match="too short for the runs" if hopeless else "stopped by a signal"):
        Job(tuple(plan.packs), 1, 60.0)._wait_for_the_end(end, progress=progress)
    assert programs.asked() == ([] if hopeless else ["scontrol requeue 5"])


def test_job_that_is_ended_by_others_does_not_come_back_by_itself(
    plan: Plan, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scancel sends SIGTERM, and so does preemption, after which SLURM itself requeues."""
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(job_module, "WAIT_FOR_THE_END", 0.0)
    programs.say("scontrol")
    end: Any = SimpleNamespace(time_is_up=False)
    with pytest.raises(LopError, match="stopped by a signal"):
        Job(tuple(plan.packs))._wait_for_the_end(end, progress=True)
    assert programs.asked() == []


def test_what_submitit_is_to_start_again_is_the_same_job(plan: Plan) -> None:
    one = Job(tuple(plan.packs), 2, 60.0, 5.0)
    assert one.checkpoint().function == one
    assert job_module.PATIENCE > 1
