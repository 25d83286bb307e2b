"""What only a machine with a GPU can show; `make gpu` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.training import epochs, online
from lop_sweeps.training.learner import TorchLearner
from tests import runs
from tests.contracts.table import IMAGENET, SOON, rows, small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step on the GPU that makes the host wait raises; the first few allocate what they keep."""
    begun: dict[int, int] = {}

    def watch(name: str) -> None:
        act = getattr(TorchLearner, name)

        def step(learner: TorchLearner, *arguments: Any) -> Any:
            begun[id(learner)] = begun.get(id(learner), 0) + 1
            strict = learner.device.type == "cuda" and begun[id(learner)] > 6
            torch.cuda.set_sync_debug_mode("error" if strict else "default")
            try:
                return act(learner, *arguments)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        monkeypatch.setattr(TorchLearner, name, step)

    for name in ("learn", "predict", "learn_from"):
        watch(name)


@pytest.mark.usefixtures("watched")
@rows(engine="torch")
def test_row_on_a_gpu_differs_in_rounding_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    """Its whole log in float64: hundreds of steps online, tens on images and in control; and no step waits."""
    monkeypatch.setattr(online, "INTERVAL", 70)
    monkeypatch.setattr(epochs, "INTERVAL", 2)
    logs = []
    for device in ("cpu", "cuda"):
        line = [*small(overrides), "precision=float64", f"device={device}", "checkpoint.every=100"]
        plan = runs.plan(tmp_path / device, *line, seeds=2, pack=2)
        outcomes = runs.train(plan)
        assert {outcome.state for outcome in outcomes} == {"done"}, [outcome.message for outcome in outcomes]
        logs.append([runs.metrics(point) for point in plan.points])
    for one, other in zip(*logs, strict=True):
        runs.assert_close(one, other, 1e-9)


@rows("cbp_adam", "cbp_norm_dropout", "imagenet_norm_cbp", "cifar_cbp", "redo_adam_batch", engine="torch")
def test_pack_of_sixteen_equals_each_run_alone(tmp_path: Path, overrides: list[str]) -> None:
    line = [*small(overrides), "precision=float64", "device=cuda", "checkpoint.every=100"]
    together = runs.plan(tmp_path / "16", *line, seeds=16, pack=16)
    runs.train(together)
    alone = runs.plan(tmp_path / "1", *line, seeds=3, pack=1)
    runs.train(alone)
    for one, other in zip(together.points, alone.points, strict=False):
        runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)


def test_killed_on_a_gpu_and_resumed(tmp_path: Path) -> None:
    """SIGKILL, several times, from outside; the log is that of the run that nobody killed, up to rounding.

    PyTorch's sums on a GPU may add in another order at another go, so this is no comparison of bytes.
    """
    line = ["-m", "scale=tiny", *IMAGENET, "algorithm=continual_backprop", *SOON, "seed=0,1", "benchmark.epochs=30"]
    line += ["precision=float64", "device=cuda", "checkpoint.first=0", "checkpoint.every=0", "sweep=s"]

    def start(folder: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "lop_sweeps", *line, f"paths.sweeps={folder}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)

    whole = start(tmp_path / "whole")
    kills = 0
    for _ in range(20):
        attempt = start(tmp_path / "killed")
        if kills < 2:
            _wait_for_a_checkpoint(tmp_path / "killed", attempt)
        else:
            attempt.wait(120)
        if attempt.poll() is None:
            os.killpg(attempt.pid, signal.SIGKILL)
            kills += 1
        if attempt.wait() == 0:
            break
    assert kills
    assert whole.wait(120) == 0, whole.stdout and whole.stdout.read().decode()
    logs = [sorted((tmp_path / name / "s").glob("*/metrics.jsonl")) for name in ("whole", "killed")]
    assert len(logs[0]) == 2
    for one, other in zip(*logs, strict=True):
        runs.assert_close(one.read_bytes(), other.read_bytes(), 1e-9)


def _wait_for_a_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has written one that was not there before, or has ended."""
    newest = {path: path.stat().st_mtime_ns for path in folder.glob("s/*/checkpoint.pt")}
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        found = {path: path.stat().st_mtime_ns for path in folder.glob("s/*/checkpoint.pt")}
        if found != newest:
            return
        time.sleep(0.05)


def test_a_pack_without_enough_memory_is_halved_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocator is given room for a few runs; that they do not fit is found out in the middle of training."""
    line = ["scale=tiny", *IMAGENET, "network.channels=[64,64,64]", "precision=float64", "device=cuda"]
    line += ["checkpoint.first=0", "checkpoint.every=0"]
    alone = runs.plan(tmp_path / "alone", *line, seeds=8, pack=1)
    torch.cuda.reset_peak_memory_stats()
    runs.train(alone)
    peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    together = runs.plan(tmp_path / "together", *line, seeds=8, pack=8)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3.5 * peak / total)
    monkeypatch.setattr("lop_sweeps.training.devices.runs_that_fit", lambda step: 8)
    try:
        assert {outcome.state for outcome in runs.train(together)} == {"done"}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    sizes = {len((point.directory.pack() or {})["members"]) for point in together.points}
    assert max(sizes) < 8
    for one, other in zip(together.points, alone.points, strict=True):
        runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)
