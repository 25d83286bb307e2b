"""Packs on a device: how many runs share one, and what happens when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.load_run import components_of
from lop_sweeps.sweeps.memory import is_lack_of_memory
from lop_sweeps.sweeps.planning import PACK_RUNS_GPU, make_plan
from lop_sweeps.sweeps.report import describe
from lop_sweeps.training import devices
from lop_sweeps.training.components import make_learner
from lop_sweeps.training.learner import TorchLearner
from tests import runs
from tests.contracts.table import CIFAR, IMAGENET, ROWS, SOON

TINY = ["scale=tiny", *IMAGENET, "checkpoint.first=0", "checkpoint.every=0"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(devices, "count", lambda: 2)


def test_on_a_cpu_maps_are_trained_one_run_at_a_time(tmp_path: Path) -> None:
    """Side by side they would be grouped convolutions, which are slower there; an MLP on images is stacked."""
    conv = runs.plan(tmp_path / "conv", *TINY, "device=cpu", seeds=3)
    assert [len(pack.members) for pack in conv.packs] == [1, 1, 1]
    mlp = runs.plan(tmp_path / "mlp", "scale=tiny", *ROWS["imagenet_mlp_cbp"], "device=cpu", "engine=torch", seeds=3)
    assert [len(pack.members) for pack in mlp.packs] == [3]


@pytest.mark.usefixtures("gpus")
def test_on_gpus_runs_share_one_evenly_up_to_a_limit(tmp_path: Path) -> None:
    points = [runs.point(tmp_path, *TINY, f"seed={seed}") for seed in range(70)]
    assert {point.device for point in points} == {"cuda"}
    sizes = [len(pack.members) for pack in make_plan(points, workers=2, pack=None, threads=1).packs]
    assert sizes == [35, 35]
    sizes = [len(pack.members) for pack in make_plan(points, workers=1, pack=None, threads=1).packs]
    assert sizes == [35, 35]
    assert max(sizes) <= PACK_RUNS_GPU


def test_device_is_no_part_of_the_identity_and_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "count", lambda: 0)
    assert runs.point(tmp_path, *TINY).device == "cpu"
    with pytest.raises(ConfigError, match="device = 'cuda': cannot be had"):
        runs.point(tmp_path, *TINY, "device=cuda")
    with pytest.raises(ConfigError, match="device = 'tpu'"):
        runs.point(tmp_path, *TINY, "device=tpu")
    on_cpu = runs.point(tmp_path, *TINY).directory.name
    monkeypatch.setattr(devices, "count", lambda: 1)
    assert runs.point(tmp_path, *TINY, "device=cuda").directory.name == on_cpu


@pytest.mark.usefixtures("gpus")
def test_the_compiled_engine_stays_on_the_cpu_unless_a_gpu_is_asked_for(tmp_path: Path) -> None:
    digits = ["benchmark=permuted_digits", "scale=tiny"]
    point = runs.point(tmp_path, *digits)
    assert (point.engine, point.device) == ("fused", "cpu")
    point = runs.point(tmp_path, *digits, "device=cuda")
    assert (point.engine, point.device) == ("torch", "cuda")
    with pytest.raises(ConfigError, match=r"engine = .fused.: .*GPU was asked for"):
        runs.point(tmp_path, *digits, "device=cuda", "engine=fused")


def test_memory_of_a_run_is_the_difference_between_packs_of_two_and_one() -> None:
    assert devices.fitting(one=300, two=400, free=10_000) == 78  # 200 + 78 * 100 <= 8,000
    assert devices.fitting(one=300, two=300, free=10_000) > 1_000
    assert devices.fitting(one=9_000, two=18_000, free=10_000) == 1


CIFAR_CBP = [*CIFAR, "algorithm=continual_backprop", *SOON]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (IMAGENET, torch.OutOfMemoryError),
        pytest.param(IMAGENET, MemoryError, marks=pytest.mark.slow),
        pytest.param(CIFAR_CBP, torch.OutOfMemoryError, marks=pytest.mark.slow),
        pytest.param(CIFAR_CBP, MemoryError, marks=pytest.mark.slow),
    ],
    ids=["conv", "conv on the host", "residual", "residual on the host"],
)
def test_a_pack_that_runs_out_of_memory_is_halved_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], row: list[str]
) -> None:
    """In the middle of its second task; what was learned until then is not learned again."""
    line = ["scale=tiny", *row, "precision=float64", "checkpoint.first=0", "checkpoint.every=0"]
    alone = runs.plan(tmp_path / "alone", *line, seeds=5)
    runs.train(alone)
    learn, begun = TorchLearner.learn, []

    def limited(learner: TorchLearner, x: Any, y: Any, step: int, outputs: Any = None) -> Any:
        if len(learner.seeds) > 2 and step >= 8:
            raise error("no room")
        begun.append((len(learner.seeds), step))
        return learn(learner, x, y, step, outputs)

    monkeypatch.setattr(TorchLearner, "learn", limited)
    together = runs.plan(tmp_path / "together", *line, seeds=5, pack=5)
    assert {outcome.state for outcome in runs.train(together)} == {"done"}
    sizes = [len((point.directory.pack() or {})["members"]) for point in together.points]
    assert sizes == [2, 2, 1, 2, 2]
    assert min(step for runs_, step in begun if runs_ < 5) > 0  # they went on from their checkpoints
    for one, other in zip(together.points, alone.points, strict=True):
        runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-8)


def test_a_pack_that_fails_otherwise_is_not_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its runs are tried one by one, so that only the one that is at fault is lost."""
    assert not is_lack_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_lack_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))


@pytest.mark.usefixtures("gpus")
def test_auto_decides_for_a_device_and_says_why(tmp_path: Path) -> None:
    small = runs.point(tmp_path, "benchmark=permuted_digits", "scale=tiny")
    assert (small.engine, small.device) == ("fused", "cpu")
    assert "cores" in small.device_reason
    wide = runs.point(tmp_path, "benchmark=permuted_digits", "scale=tiny", "network=mlp", "network.hidden=[2000,2000]")
    assert (wide.engine, wide.device) == ("torch", "cuda")
    assert "GPU" in wide.reason
    control = runs.point(tmp_path, "scale=tiny", *ROWS["ant_backprop"])
    assert (control.device, "environments" in control.device_reason) == ("cpu", True)
    plan = make_plan([wide, small, control], workers=1, pack=None, threads=1)
    assert all(word in describe(plan) for word in ("GPUs", "CPU cores", "environments"))


@pytest.mark.usefixtures("gpus")
def test_a_network_says_where_packs_of_it_pay(tmp_path: Path) -> None:
    residual = [runs.point(tmp_path, "scale=tiny", *CIFAR, f"seed={seed}") for seed in range(3)]
    assert [len(pack.members) for pack in make_plan(residual, workers=1, pack=None, threads=1).packs] == [1, 1, 1]
    assert [len(pack.members) for pack in make_plan(residual, workers=1, pack=3, threads=1).packs] == [3]


def test_without_a_gpu_there_is_nothing_to_say(tmp_path: Path) -> None:
    point = runs.point(tmp_path, "benchmark=permuted_digits", "scale=tiny")
    assert (point.device, point.device_reason) == ("cpu", "")


def test_tf32_is_off_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a precision, so part of a run's identity, and a GPU's."""
    with pytest.raises(ConfigError, match=r"precision = 'tf32'.*GPU"):
        runs.point(tmp_path, *TINY, "precision=tf32")
    monkeypatch.setattr(devices, "count", lambda: 1)
    asked = runs.point(tmp_path, *TINY, "precision=tf32")
    assert asked.directory.name != runs.point(tmp_path, *TINY).directory.name
    digits = runs.point(tmp_path, "benchmark=permuted_digits", "scale=tiny", "precision=tf32")
    assert (digits.engine, digits.device) == ("torch", "cuda")
    for overrides, expected in ((["precision=tf32"], True), ([], False)):
        made = components_of(dict(runs.point(tmp_path, *TINY, *overrides).config))
        make_learner([made], [0], "torch")
        assert torch.backends.cuda.matmul.allow_tf32 is expected
        assert torch.backends.cudnn.allow_tf32 is expected
