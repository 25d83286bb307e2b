"""Mistakes that others made in online continual learning, each as a test with the mistake as its name."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop, PackedContinualBackprop
from lop_sweeps.benchmarks.incremental_cifar100 import IncrementalCIFAR100
from lop_sweeps.build import locate, options, parameters, parts_of
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused import learner as fused
from lop_sweeps.fused.arrays import Net, Stream
from lop_sweeps.fused.train import compiled
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers import schedule
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.planning import Plan, Point, make_plan
from lop_sweeps.training import checkpoint, online
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import restore
from tests import runs, stream_options
from tests.contracts.table import FUSED, VGG, VIT
from tests.images import CIFAR_FILE, image_data

ROOT = Path(__file__).parents[1]
CBP = "algorithm.continual_backprop"
OFTEN = ["algorithm=continual_backprop", f"{CBP}.replacement_rate=0.01", f"{CBP}.maturity_threshold=20"]


def make(
    cbp: ContinualBackprop, optimizer: Optimizer, network: type[MLP] = MLP, **options: Any
) -> tuple[TorchLearner, PackedContinualBackprop]:
    learner = TorchLearner(
        lambda: network(6, 3, [8, 7], **options), [optimizer], [[cbp]], [0], "cross_entropy", torch.float64
    )
    packed = learner.interventions[0]
    assert isinstance(packed, PackedContinualBackprop)
    return learner, packed


def learn(learner: TorchLearner, steps: range, planned: int = 10) -> None:
    for t in steps:
        if t % planned == 0:
            learner.plan(t, planned)
        generator = np.random.default_rng(t)
        x = torch.from_numpy(generator.normal(size=(1, 2, 6)))
        learner.learn(x, torch.from_numpy(generator.integers(0, 3, (1, 2))), t)


def replace_now(packed: PackedContinualBackprop, step: int, layer: int, number: int) -> list[int]:
    """Replace units of a hidden layer, whatever the schedule says; which."""
    packed.first_step, packed.due = step, np.array([True])
    packed.counts = np.zeros((1, len(packed.layers), 1), np.int64)
    packed.counts[0, layer, 0] = number
    with torch.no_grad():
        packed.after_update(step)
    units: list[int] = torch.nonzero(packed.layers[layer].age[0] == 0).flatten().tolist()
    assert len(units) == number
    return units


def test_raw_instead_of_bias_corrected_utility() -> None:
    """Averages start at zero: uncorrected, whatever has just become mature looks useless and is replaced again."""
    learner, packed = make(ContinualBackprop(1e-6, 5, 0.99, "weight"), SGD(1e-300))  # nothing moves: utility = w_out
    learn(learner, range(200))
    worth = learner.view(learner.parameters, "layers.1.weight")[0].abs().mean(0)
    young, useless = int(worth.argmax()), int(worth.argmin())
    layer = packed.layers[0]
    for average in (layer.utility, layer.mean_activation, layer.age):
        average[0, young] = 0  # the most useful unit begins again
    learn(learner, range(200, 206))
    assert int(layer.age[0, young]) == 6  # mature
    assert int(layer.utility[0].argmin()) == young, "raw, it would be the lowest"
    torch.testing.assert_close(packed.corrected_utility(206, 0)[0], worth, rtol=1e-9, atol=0)
    assert replace_now(packed, 206, 0, 1) == [useless]


def test_replacement_budget_accruing_before_any_unit_is_mature_then_wiping_a_layer() -> None:
    """8 units x 0.02 x 50 steps = 8 replacements would be due at once when the units become mature together."""
    learner, packed = make(ContinualBackprop(0.02, 50), SGD(0.01))
    counts = []
    for t in range(80):
        learn(learner, range(t, t + 1))
        counts.append(packed.report(0)["replaced_units"])
        if t < 50:
            assert counts[-1] == [0, 0]
            assert not any(float(layer.accumulated[0]) for layer in packed.layers)
    assert counts[50] == [0, 0], "at the first eligible step, 0.16 of a unit has accrued"
    assert np.diff(counts, axis=0).max() == 1
    assert counts[-1] == [3, 3]  # one after 7 steps of 0.16, one after 7 more of 0.14, one after 8 more of 0.12


def test_newborn_unit_inheriting_the_dead_units_adam_moments() -> None:
    """Without a gradient, what is new stays where it was put, while everything else coasts on."""
    learner, packed = make(ContinualBackprop(1e-6, 5), Adam(0.01), norm="layer")
    learn(learner, range(40))
    units = replace_now(packed, 40, 0, 2)
    before = learner.parameters.clone()
    learner.optimizer.update(learner.parameters, torch.zeros_like(before))
    moved = learner.parameters != before
    for name in ("layers.0.weight", "layers.0.bias", "norms.0.weight", "norms.0.bias"):
        rows = learner.view(moved, name)[0]
        others = [unit for unit in range(8) if unit not in units]
        assert not rows[units].any(), name
        assert bool(rows[others].any()), name
    columns = learner.view(moved, "layers.1.weight")[0]
    assert not columns[:, units].any()
    assert bool(columns[:, others].any())
    assert bool(learner.view(moved, "layers.1.bias").any())
    gradient = torch.ones_like(before)
    before = learner.parameters.clone()
    learner.optimizer.update(learner.parameters, gradient)  # the second step of the new weights, their first gradient
    step = learner.view(before - learner.parameters, "layers.1.weight")[0][:, units]
    expected = 0.01 * (0.1 / (1 - 0.9**2)) / (0.001 / (1 - 0.999**2)) ** 0.5  # step counts were reset, too
    torch.testing.assert_close(step, torch.full_like(step, expected), rtol=1e-6, atol=0)


class Reordered(MLP):
    """The same network, its parameters registered in another order: normalisation first, biases before weights."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._modules["layers"] = self._modules.pop("layers")
        for layer in self.layers:
            layer._parameters["weight"] = layer._parameters.pop("weight")


def by_name(learner: TorchLearner) -> dict[str, Tensor]:
    """Parameters and optimiser state by the names of the parameters."""
    tensors = {"value": learner.parameters, **learner.optimizer.state()}
    names = [name for name, _ in learner.network.named_parameters()]
    return {f"{kind} {name}": learner.view(flat, name).clone() for kind, flat in tensors.items() for name in names}


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert set(one) == set(other)
    for name, value in one.items():
        torch.testing.assert_close(
            value, other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_optimiser_state_matched_by_position(tmp_path: Path) -> None:
    """By name, in every place: the update, the reset of a unit's state, a checkpoint."""
    cbp = ContinualBackprop(0.02, 10)
    usual, _ = make(cbp, Adam(0.01), norm="layer")
    other, _ = make(cbp, Adam(0.01), Reordered, norm="layer")
    assert [n for n, _ in usual.network.named_parameters()] != [n for n, _ in other.network.named_parameters()]
    assert_equal(by_name(usual), by_name(other))
    learn(usual, range(50))
    learn(other, range(50))
    assert_equal(by_name(usual), by_name(other), 1e-9)
    payload = {"learner": {name: value[0].clone() for name, value in other.state().items()}}
    checkpoint.save(tmp_path, payload)
    loaded, _ = make(cbp, Adam(0.01), Reordered, norm="layer")
    restore(loaded, checkpoint.load_all(tmp_path))
    assert_equal(by_name(loaded), by_name(other))
    learn(usual, range(50, 100))
    learn(loaded, range(50, 100))
    assert_equal(by_name(usual), by_name(loaded), 1e-9)


def test_moments_belong_to_the_parameter_of_that_name() -> None:
    """After one step Adam's first moment is 0.1 times the gradient; autograd says of which parameter."""
    learner, _ = make(ContinualBackprop(0.0), Adam(0.01), Reordered, norm="layer")
    x, y = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 4, 6))), torch.tensor([[0, 1, 2, 1]])
    twin = Reordered(6, 3, [8, 7], norm="layer").double()
    twin.load_state_dict({name: value[0] for name, value in by_value(learner).items()})
    torch.nn.functional.cross_entropy(twin(x[0])[0], y[0]).backward()
    learner.plan(0, 1)
    learner.learn(x, y, 0)
    for name, parameter in twin.named_parameters():
        moment = learner.view(learner.optimizer.state()["moment1"], name)[0]
        torch.testing.assert_close(moment, 0.1 * parameter.grad, rtol=1e-10, atol=1e-14)


def by_value(learner: TorchLearner) -> dict[str, Tensor]:
    return {name: learner.view(learner.parameters, name).clone() for name, _ in learner.network.named_parameters()}


EVERYTHING_RANDOM = [
    "algorithm=[continual_backprop,dropout,shrink_and_perturb]",
    f"{CBP}.replacement_rate=0.01",
    f"{CBP}.maturity_threshold=20",
    f"{CBP}.utility=random",
    f"{CBP}.fractional=bernoulli",
]


ENGINES = pytest.mark.parametrize("engine", ["torch", "fused"])


@ENGINES
@pytest.mark.parametrize("benchmark", ["permuted_digits", "slowly_changing_regression"])
def test_no_seed_set(tmp_path: Path, benchmark: str, engine: str) -> None:
    """The seed decides everything; global generators are neither read nor moved."""
    overrides = [*runs.SMALL, f"benchmark={benchmark}", *EVERYTHING_RANDOM, f"engine={engine}"]
    overrides += ["benchmark.num_tasks=2", "benchmark.examples_per_task=200"]
    logs = []
    for attempt in range(2):
        torch.manual_seed(attempt)
        np.random.seed(attempt)
        random.seed(attempt)
        before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
        plan = runs.plan(tmp_path / str(attempt), *overrides, seeds=2)
        runs.train(plan)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (str(np.random.get_state()), random.getstate()) == before[1:]
        logs.append([runs.metrics(point) for point in plan.points])
    assert logs[0] == logs[1]
    assert logs[0][0] != logs[0][1]


def test_no_module_draws_from_a_global_generator() -> None:
    found = []
    drawing = r"\b(np|numpy)\.random\.(?!Generator|SeedSequence|PCG64|default_rng\()\w+"
    drawing += r"|\btorch\.(rand(?!om\.fork_rng)|manual_seed|bernoulli)"  # a fork leaves the generator as it was
    templates = ROOT / "lop_sweeps" / "templates"  # their tests draw inputs
    for path in (path for path in (ROOT / "lop_sweeps").rglob("*.py") if templates not in path.parents):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if re.search(drawing, line) or re.match(r"\s*(import random\b|from random import)", line):
                found.append(f"{path.name}:{number}: {line.strip()}")
    assert found == []


@pytest.fixture
def boundaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are possible after every 70 of a task's 200 steps."""
    monkeypatch.setattr(online, "INTERVAL", 70)
    monkeypatch.setattr(fused, "_WORK_PER_CALL", 0)  # one interval to a call


def interrupt(plan: Plan, after: int) -> None:
    """Train until the `after`-th boundary."""
    boundaries = 0

    def on_progress(*progress: float) -> None:
        nonlocal boundaries
        boundaries += 1

    (pack,) = plan.packs
    outcomes = run_pack(pack, on_progress, lambda: boundaries == after)
    assert {outcome.state for outcome in outcomes} == {"interrupted"}


RESUMED = [*runs.SMALL, *OFTEN, "optimizer=adam", "optimizer.step_size=0.01", "benchmark.num_tasks=2"]


@ENGINES
@pytest.mark.usefixtures("boundaries")
def test_resume_that_forgets_utilities_or_ages(tmp_path: Path, engine: str) -> None:
    """Interrupted inside a task and resumed, the log is the same; with any part of the state forgotten it is not."""
    line = [*RESUMED, f"engine={engine}"]
    whole = runs.plan(tmp_path / "whole", *line)
    runs.train(whole)
    expected = runs.metrics(whole.points[0])
    stopped = runs.plan(tmp_path / "resumed", *line)
    interrupt(stopped, after=5)
    directory = stopped.points[0].directory.path
    payload = checkpoint.load_all(directory)[0]
    assert (payload["task"], payload["step"]) == (1, 140)
    learned = set(payload["learner"])
    for number in range(len(learned)):
        shutil.copytree(tmp_path / "resumed", tmp_path / str(number))
    runs.train(runs.plan(tmp_path / "resumed", *line))
    assert runs.metrics(stopped.points[0]) == expected

    needed = {"parameters", "optimizer/moment1", "optimizer/moment2", "optimizer/power1", "optimizer/power2"}
    assert learned == needed | {f"interventions/0/{i}.{name}" for i in (0, 1) for name in NAMES}
    for number, forgotten in enumerate(sorted(learned)):
        plan = runs.plan(tmp_path / str(number), *line)
        fresh = 1.0 if "power" in forgotten else 0.0
        tensors = {**payload["learner"], forgotten: torch.full_like(payload["learner"][forgotten], fresh)}
        assert not torch.equal(tensors[forgotten], payload["learner"][forgotten]), forgotten
        rewritten = {key: value for key, value in payload.items() if key != "format"} | {"learner": tensors}
        checkpoint.save(plan.points[0].directory.path, rewritten)
        runs.train(plan)
        assert runs.metrics(plan.points[0]) != expected, f"{forgotten} does not matter, or this test sees nothing"


NAMES = ("utility", "mean_activation", "age", "accumulated", "replaced")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of all mini-batches that learners are shown, in the order of their steps."""
    seen: list[str] = []

    def note(x: NDArray[Any], y: NDArray[Any], step: int) -> None:
        seen.append(hashlib.sha256(x.tobytes() + y.tobytes() + bytes(str(step), "ascii")).hexdigest())

    learn_step, learn_stretch = TorchLearner.learn, compiled.train

    def learn(self: TorchLearner, x: Tensor, y: Tensor, step: int) -> Any:
        note(x.numpy(), y.numpy(), step)
        return learn_step(self, x, y, step)

    def train(net: Net, stream: Stream, *others: Any) -> Any:
        first, batch, steps = others[5:8]
        for t in range(steps):
            examples = range(t * batch, (t + 1) * batch)
            y = stream.targets if stream.targets.size else stream.labels
            note(np.stack([inputs(net, stream, e) for e in examples]), y[examples.start : examples.stop], first + t)
        return learn_stretch(net, stream, *others)

    monkeypatch.setattr(TorchLearner, "learn", learn)
    monkeypatch.setattr(fused, "compiled", compiled._replace(train=train))
    return seen


def inputs(net: Net, stream: Stream, example: int) -> NDArray[Any]:
    """The inputs of an example of a stream, which for images holds only the pixels that are not 0."""
    if stream.dense.size:
        return np.asarray(stream.dense[example])
    image = stream.order[example]
    pixels = slice(stream.starts[image], stream.starts[image + 1])
    x = np.zeros(net.layers[0, 2], stream.grey.dtype)
    x[stream.place[stream.columns[pixels]]] = stream.grey[stream.bytes[pixels]]
    return x


@pytest.mark.usefixtures("boundaries")
@pytest.mark.parametrize("benchmark", ["permuted_digits", "slowly_changing_regression"])
@pytest.mark.parametrize("after", [1, 4, 6])
def test_sequence_repeated_from_the_start_after_resume(
    tmp_path: Path, shown: list[str], benchmark: str, after: int
) -> None:
    """Inside the first task, inside a later one, between two: what comes next is what would have come.

    And both engines show a run the same.
    """
    overrides = [*runs.SMALL, f"benchmark={benchmark}", "benchmark.num_tasks=3", "benchmark.examples_per_task=200"]
    wholes = []
    for engine in ("torch", "fused"):
        line = [*overrides, f"engine={engine}"]
        shown.clear()
        runs.train(runs.plan(tmp_path / f"whole-{engine}", *line))
        whole = shown.copy()
        assert len(set(whole)) == len(whole) == 600
        shown.clear()
        interrupt(runs.plan(tmp_path / f"resumed-{engine}", *line), after)
        assert 0 < len(shown) < 600
        runs.train(runs.plan(tmp_path / f"resumed-{engine}", *line))
        assert shown == whole
        wholes.append(whole)
    assert wholes[0] == wholes[1]


def test_a_batch_augmented_with_one_crop_and_one_flip_for_all_its_images() -> None:
    """As torchvision's v2 transforms do on a batch: here equal images of a mini-batch come out different."""
    benchmark = IncrementalCIFAR100(1, batch_size=90)
    image = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32).to(torch.uint8)
    draws = torch.from_numpy(np.random.default_rng(0).random((90, benchmark.DRAWS)))
    shown = benchmark.prepare(image.expand(90, -1, -1, -1), draws, torch.float32)
    assert len({row.numpy().tobytes() for row in shown}) > 80


# A setting read under another key, or by nobody. One row for every option of every choice in conf/: what else must be
# set for it to matter, and a value that is not its own. The tests demand that rows and options are the same set.

DIGITS, REGRESSION = ["benchmark=permuted_digits"], ["benchmark=slowly_changing_regression"]
SGD_M, ADAM, ADAMW = ["optimizer=momentum"], ["optimizer=adam"], ["optimizer=adamw"]
ADAMS = {"step_size": "0.002", "beta1": "0.8", "beta2": "0.9", "eps": "1e-2", "weight_decay": "0.1"}
GATED = {"step_size": "0.02", "noise_std": "0.1", "beta_utility": "0.9", "weight_decay": "0.5"}
GATED |= {"scope": "local", "protecting": "false"}
MUON = {"step_size": "0.02", "momentum": "0.5", "weight_decay": "0.5", "iterations": "2", "bfloat16": "true"}
MUON |= {"adam_step_size": "0.01", "adam_beta1": "0.5", "adam_beta2": "0.5", "adam_eps": "1e-2"}
TRAC = {"step_size": "0.002", "weight_decay": "0.5", "betas": "[0.9,0.99]", "s_prev": "1e-4", "eps": "1e-7"}
TRAC |= {"erfi": "authors"}
TRACKING = ["benchmark.batch_size=10", "optimizer.s_prev=0.1"]  # with fewer it does not begin to move
CHURN = "algorithm.c_chain"
SNP = "algorithm.shrink_and_perturb"
DASH, HARE, INJECTION = "algorithm.dash", "algorithm.hare_and_tortoise", "algorithm.plasticity_injection"
IMAGENET = ["benchmark=continual_imagenet", "network.channels=[4,4,4]", "network.hidden=[6,6]"]
CIFAR = ["benchmark=incremental_cifar100", f"benchmark.file={CIFAR_FILE}", "network.width=2"]
CHURNING = [*IMAGENET, "algorithm=c_chain", f"{CHURN}.form=cross_entropy", f"{CHURN}.coefficient=0.5"]
CHURNING += ["benchmark.epochs=15"]
RETRAINED = "algorithm.retrained_network"
ANT, SLIPPERY = (
    [
        f"benchmark={name}",
        "network.hidden=[12,12]",
        "benchmark.num_steps=128",
        "benchmark.log_every=64",
        "agent.rollout=32",
        "agent.batch_size=16",
        "agent.epochs=2",
        "benchmark.max_episode_steps=10",
    ]
    for name in ("ant", "slippery_ant")
)
SLIPPERY.append("benchmark.change_every=20")
CARTPOLE = ["benchmark=continual_cartpole", *ANT[1:], "benchmark.change_every=32"]
# Those that act at every step, on the torch engine.
REGULARISERS: list[tuple[list[str], str, str]] = [
    ([], "l2_init.strength", "0.1"),
    ([], "l2_init.anchor", "resampled"),
    ([], "l2_init.penalty", "l1"),
    (["optimizer=adam"], "l2_init.coupling", "decoupled"),
    ([], "wasserstein.strength", "0.1"),
    (["algorithm.wasserstein.strength=0.1"], "wasserstein.biases", "true"),
    ([], "spectral.strength", "0.01"),
    ([], "spectral.k", "3"),
    ([], "spectral.power_steps", "3"),
    (["algorithm.spectral.strength=0.1"], "spectral.bias_exponent", "1"),
    (["network.norm=layer", "algorithm.spectral.strength=0.1"], "spectral.norm_scales", "false"),
    ([], "parseval.strength", "0.01"),
    ([], "parseval.scale", "2"),
    ([], "parseval.output", "true"),
    (["network.norm=layer", "algorithm.parseval.strength=0.1"], "parseval.norm_scales", "true"),
    ([], "parseval.effective", "true"),
    ([], "isometry.strength", "0.01"),
    ([], "isometry.step_size", "0.1"),
    ([], "isometry.output", "false"),
    ([], "weight_clipping.kappa", "0.5"),
    ([], "weight_clipping.output", "false"),
    ([], "soft_weight_rescaling.strength", "0.5"),
    ([], "normalize_and_project.period", "3"),
    ([], "normalize_and_project.output", "true"),
    ([], "normalize_and_project.drop_biases", "false"),
    ([], "normalize_and_project.scale_offset", "free"),
    (
        ["algorithm.normalize_and_project.scale_offset=regularise"],
        "normalize_and_project.strength",
        "0.5",
    ),
]
# Those that reset units or weights; each resets much and often enough to be seen in 200 steps.
REDOES = ["algorithm.redo.period=5", "algorithm.redo.threshold=0.9"]
GRAMAS = ["algorithm.regrama.period=5", "algorithm.regrama.threshold=0.9"]
SILENCES = [
    f"algorithm.self_normalized_resets.{option}"
    for option in ("initial_threshold=8", "floor=2", "refresh_every=20", "refresh_in=steps", "percentile=0.5")
]
WEIGHTS = ["algorithm.selective_weight_reinitialization.period=5"]
MANY_WEIGHTS = [*WEIGHTS, "algorithm.selective_weight_reinitialization.reinit_factor=0.1"]
PARTIAL = [
    "algorithm.calibrated_partial_resets.period=5",
    "algorithm.calibrated_partial_resets.replacement_rate=0.2",
    "algorithm.calibrated_partial_resets.decay_rate=0.5",
]
RESETS: list[tuple[list[str], str, str]] = [
    ([*REDOES, "network.hidden=[12,1]"], "redo.score", "eps"),
    ([*REDOES, "network.init=default"], "redo.new_bias", "initial"),
    (REDOES, "redo.outgoing", "initial"),
    ([*REDOES, "optimizer=adam"], "redo.step_counts", "layers"),
    (GRAMAS, "regrama.threshold", "0.5"),
    (GRAMAS, "regrama.period", "7"),
    (GRAMAS, "regrama.signal", "weight_gradient"),
    (GRAMAS, "regrama.max_reset_fraction", "0.1"),
    ([*GRAMAS, "optimizer=adam"], "regrama.reset_optimizer", "none"),
    ([], "reset.of", "head"),
    (["algorithm.reset.of=last_k"], "reset.k", "2"),
    ([], "reset.to", "initial"),
    ([], "reset.at", "{every: 50}"),
    (["optimizer=adam"], "reset.reset_optimizer", "false"),
    (SILENCES, "self_normalized_resets.percentile", "0.95"),
    (SILENCES, "self_normalized_resets.refresh_every", "40"),
    (SILENCES, "self_normalized_resets.refresh_in", "tasks"),
    (SILENCES, "self_normalized_resets.expansion", "3"),
    (SILENCES, "self_normalized_resets.tau_max", "12"),
    (SILENCES, "self_normalized_resets.initial_threshold", "4"),
    (SILENCES, "self_normalized_resets.floor", "6"),
    ([*SILENCES, "benchmark.examples_per_task=100"], "self_normalized_resets.empty", "authors"),
    ([*SILENCES, "optimizer=adam"], "self_normalized_resets.reset_optimizer", "none"),
    (MANY_WEIGHTS, "selective_weight_reinitialization.period", "7"),
    (WEIGHTS, "selective_weight_reinitialization.reinit_factor", "0.2"),
    (MANY_WEIGHTS, "selective_weight_reinitialization.pruning", "proportional"),
    (MANY_WEIGHTS, "selective_weight_reinitialization.utility", "magnitude"),
    (MANY_WEIGHTS, "selective_weight_reinitialization.decay_rate", "0.9"),
    (MANY_WEIGHTS, "selective_weight_reinitialization.reinitialisation", "mean"),
    (PARTIAL, "calibrated_partial_resets.replacement_rate", "0.1"),
    (PARTIAL, "calibrated_partial_resets.period", "7"),
    (PARTIAL, "calibrated_partial_resets.sharpness", "4"),
    (PARTIAL, "calibrated_partial_resets.threshold", "0.5"),
    (PARTIAL, "calibrated_partial_resets.decay_rate", "0.9"),
    (PARTIAL, "calibrated_partial_resets.transform", "exp"),
]
DECAYING = ("momentum", "adam", "adamw", "upgd", "adaupgd", "muon")
# Of activations: with which each is read, and another value.
SLOPES = {
    "leaky_slope": ("leaky_relu", "0.5"),
    "prelu_per": ("prelu", "layer"),
    "slope_bounds": ("rrelu", "[0.5,0.7]"),
    "smooth_leaky": ("smooth_leaky", "[0.3,3,5]"),
    "aid_p": ("aid", "0.7"),
    "adalin_of": ("adalin", "tanh"),
}
OPTIONS: list[tuple[list[str], str, str]] = [
    *[
        ([*needs, f"network.activation={name}"], f"network.{key}", value)
        for needs in ([], IMAGENET, CIFAR, ANT, VGG, VIT)
        for key, (name, value) in SLOPES.items()
    ],
    *stream_options.ROWS,
    (CIFAR, "network.activation", "tanh"),
    (DIGITS, "benchmark.inputs", "minus_one_one"),
    (IMAGENET, "benchmark.inputs", "zero_one"),
    (CIFAR, "benchmark.inputs", "minus_one_one"),
    (DIGITS, "benchmark.examples_per_task", "40"),
    (DIGITS, "benchmark.batch_size", "5"),
    (REGRESSION, "benchmark.examples_per_task", "40"),
    (REGRESSION, "benchmark.batch_size", "5"),
    (REGRESSION, "benchmark.change", "flip_one"),
    (REGRESSION, "benchmark.input_bits", "19"),
    (REGRESSION, "benchmark.slow_bits", "14"),
    (REGRESSION, "benchmark.target_units", "90"),
    (REGRESSION, "benchmark.beta", "0.6"),
    ([], "network.hidden", "[12,11]"),
    (["network.init=lecun"], "network.activation", "tanh"),  # under other laws it changes the initial weights as well
    ([], "network.init", "lecun"),
    ([], "network.dropout", "0.1"),
    ([], "network.norm", "layer"),
    (["network.norm=layer"], "network.norm_after", "true"),
    ([], "optimizer.step_size", "0.02"),
    ([], "optimizer.momentum", "0.5"),
    ([], "optimizer.weight_decay", "0.1"),
    ([*SGD_M, *OFTEN], "optimizer.reset_momentum", "true"),
    *[(choice, f"optimizer.{key}", value) for choice in (ADAM, ADAMW) for key, value in ADAMS.items()],
    (ADAM, "optimizer.correction", "authors"),
    (ADAMW, "optimizer.correction", "authors"),
    (OFTEN, f"{CBP}.replacement_rate", "0.02"),
    (OFTEN, f"{CBP}.maturity_threshold", "40"),
    (OFTEN, f"{CBP}.decay_rate", "0.5"),
    (OFTEN, f"{CBP}.utility", "adaptation"),
    (OFTEN, f"{CBP}.fractional", "bernoulli"),
    (OFTEN, f"{CBP}.bias_transfer", "true"),
    (OFTEN, f"{CBP}.rate_of", "all"),
    ([*OFTEN, f"{CBP}.utility=contribution"], f"{CBP}.averaging", "sum"),
    (["algorithm=shrink_and_perturb"], f"{SNP}.noise_std", "1e-3"),
    (["algorithm=shrink_and_perturb"], f"{SNP}.noise", "lazy"),
    ([*CIFAR, "algorithm=shrink_and_perturb", f"{SNP}.noise_std=0.1"], f"{SNP}.normalisation", "true"),
    (["algorithm=shrink_and_perturb", f"{SNP}.noise_std=0.1"], f"{SNP}.when", "task"),
    (["algorithm=shrink_and_perturb_task"], f"{SNP}.law", "fresh"),
    (["algorithm=shrink_and_perturb_task"], f"{SNP}.shrink", "0.2"),
    (["algorithm=shrink_and_perturb_task", f"{SNP}.law=initial"], f"{SNP}.perturb_scale", "0.3"),
    (["algorithm=fire"], "algorithm.fire.iterations", "3"),
    (["algorithm=dash", f"{DASH}.batch_size=30"], f"{DASH}.alpha", "0.9"),
    (["algorithm=dash"], f"{DASH}.minimum", "0.8"),
    (["algorithm=dash"], f"{DASH}.samples", "40"),
    (["algorithm=dash"], f"{DASH}.batch_size", "30"),
    (["algorithm=hare_and_tortoise", f"{HARE}.period=1"], f"{HARE}.mu", "0.9"),
    (["algorithm=hare_and_tortoise", f"{HARE}.period=1"], f"{HARE}.period", "3"),
    (["algorithm=hare_and_tortoise", f"{HARE}.period=9"], f"{HARE}.period_in", "updates"),
    (["algorithm=plasticity_injection"], "network.injection", "3"),
    (["algorithm=plasticity_injection"], f"{INJECTION}.at", "{step:20}"),
    ([*ANT, "algorithm=plasticity_injection", f"{INJECTION}.at={{step:3}}"], "network.injection", "3"),
    (IMAGENET, "benchmark.epochs", "2"),
    (IMAGENET, "benchmark.batch_size", "10"),
    (IMAGENET, "benchmark.classes", "6"),
    (IMAGENET, "benchmark.classes_per_task", "4"),
    (IMAGENET, "benchmark.train_per_class", "10"),
    (IMAGENET, "benchmark.test_per_class", "5"),
    (IMAGENET, "benchmark.new_heads", "false"),
    (IMAGENET, "benchmark.evaluate_every", "1"),
    (CIFAR, "benchmark.epochs", "2"),
    (CIFAR, "benchmark.batch_size", "5"),
    (CIFAR, "benchmark.classes_per_task", "10"),
    (CIFAR, "benchmark.train_per_class", "11"),
    ([*CIFAR, "benchmark.batch_size=5"], "benchmark.validation_per_class", "2"),
    (CIFAR, "benchmark.test_per_class", "3"),
    (CIFAR, "benchmark.restore_best", "false"),
    (CIFAR, "benchmark.augment_test", "false"),
    (CIFAR, "benchmark.evaluate_every", "2"),
    (CIFAR, "benchmark.file", "other.npz"),
    (IMAGENET, "network.channels", "[4,4,5]"),
    (IMAGENET, "network.kernels", "[3,3,3]"),
    (IMAGENET, "network.hidden", "[6,7]"),
    (IMAGENET, "network.activation", "tanh"),
    (IMAGENET, "network.init", "kaiming"),
    (IMAGENET, "network.dropout", "0.2"),
    (IMAGENET, "network.norm", "batch"),
    (IMAGENET, "network.padding", "1"),
    (IMAGENET, "network.pool", "[2,2,1]"),
    (IMAGENET, "network.conv_activation", "identity"),
    (VGG, "network.width", "2"),
    (VGG, "network.hidden", "[5]"),
    (VGG, "network.activation", "tanh"),
    (VGG, "network.init", "kaiming"),
    (VGG, "network.dropout", "0.2"),
    (VGG, "network.norm", "none"),
    (VIT, "network.patch", "8"),
    (VIT, "network.width", "8"),
    (VIT, "network.heads", "3"),
    (VIT, "network.depth", "1"),
    (VIT, "network.mlp_ratio", "3"),
    (VIT, "network.patch_norm", "false"),
    (VIT, "network.qkv_bias", "true"),
    (VIT, "network.dropout", "0.2"),
    (VIT, "network.activation", "relu"),
    (CIFAR, "network.width", "3"),
    (CIFAR, "network.dropout", "0.2"),
    *[([*IMAGENET, f"optimizer={rule}"], "optimizer.decay_at", "[0.3]") for rule in DECAYING],
    *[([*IMAGENET, f"optimizer={rule}", "optimizer.decay_at=[0.3]"], "optimizer.decay_by", "0.3") for rule in DECAYING],
    (ANT, "benchmark.log_every", "32"),
    (ANT, "benchmark.max_episode_steps", "5"),
    (ANT, "benchmark.physics", "paper"),
    (SLIPPERY, "benchmark.log_every", "32"),
    (SLIPPERY, "benchmark.max_episode_steps", "5"),
    (SLIPPERY, "benchmark.physics", "paper"),
    (SLIPPERY, "benchmark.change_every", "40"),
    (SLIPPERY, "benchmark.frictions", "[0.1,0.3]"),
    (ANT, "network.hidden", "[12,11]"),
    ([*ANT, "network.init=default"], "network.activation", "tanh"),
    (ANT, "network.init", "kaiming"),
    (ANT, "network.dropout", "0.1"),
    (ANT, "network.norm", "layer"),
    ([*ANT, "network.norm=layer"], "network.norm_after", "true"),
    (ANT, "network.log_std", "-1.0"),
    (ANT, "agent.rollout", "64"),
    (ANT, "agent.epochs", "3"),
    (ANT, "agent.batch_size", "8"),
    (ANT, "agent.environments", "2"),
    (ANT, "agent.discount", "0.9"),
    (ANT, "agent.gae_lambda", "0.8"),
    (ANT, "agent.clip", "0.01"),
    (ANT, "agent.value_coefficient", "0.1"),
    (ANT, "agent.entropy_coefficient", "0.1"),
    (ANT, "agent.normalise_advantages", "false"),
    (ANT, "agent.max_gradient_norm", "0.1"),
    (ANT, "agent.time_limit", "bootstrap"),
    (ANT, "agent.value_target", "return"),
    (ANT, "agent.reward_scale", "5"),
    (ANT, "agent.advantage_eps", "0.1"),
    (CARTPOLE, "benchmark.log_every", "32"),
    (CARTPOLE, "benchmark.max_episode_steps", "5"),
    (CARTPOLE, "benchmark.change_every", "64"),
    (CARTPOLE, "benchmark.offset_std", "1"),
    (CARTPOLE, "benchmark.new_episode_each_rollout", "false"),
    ([*ANT, "algorithm=redo", "algorithm.redo.period=2"], "algorithm.redo.threshold", "0.5"),
    ([*ANT, "algorithm=redo", "algorithm.redo.threshold=0.5"], "algorithm.redo.period", "2"),
    ([*ANT, "algorithm=redo", "algorithm.redo.period=2"], "algorithm.redo.reset_optimizer", "false"),
    ([*ADAM, *OFTEN], f"{CBP}.reset_optimizer", "false"),
    *[
        ([f"algorithm={key.split('.')[0]}", *needs], f"algorithm.{key}", value)
        for needs, key, value in (*REGULARISERS, *RESETS)
    ],
    (
        [*IMAGENET, "algorithm=soft_weight_rescaling"],
        "algorithm.soft_weight_rescaling.classifier_strength",
        "0.5",
    ),
    *[(["optimizer=upgd"], f"optimizer.{key}", value) for key, value in {**GATED, "profile": "readme"}.items()],
    *[(["optimizer=adaupgd"], f"optimizer.{key}", value) for key, value in {**GATED, "profile": "paper"}.items()],
    *[(["optimizer=adaupgd"], f"optimizer.{key}", ADAMS[key]) for key in ("beta1", "beta2", "eps")],
    *[(["optimizer=muon"], f"optimizer.{key}", value) for key, value in MUON.items()],
    *[([*TRACKING, "optimizer=trac"], f"optimizer.{key}", value) for key, value in TRAC.items()],
    ([*IMAGENET, "algorithm=c_chain"], f"{CHURN}.coefficient", "10"),
    ([*IMAGENET, "algorithm=c_chain"], f"{CHURN}.form", "cross_entropy"),
    ([*IMAGENET, "algorithm=c_chain"], f"{CHURN}.absent", "4"),
    ([*CHURNING, f"{CHURN}.rule=fixed"], f"{CHURN}.rule", "gym"),
    ([*CHURNING, f"{CHURN}.rule=gym"], f"{CHURN}.rho", "3"),
    ([*CIFAR, "algorithm=reset"], "algorithm.reset.buffers", "false"),
    ([*CIFAR, "algorithm=retrained_network"], f"{RETRAINED}.reset_statistics", "true"),
    ([*CIFAR, "algorithm=retrained_network"], f"{RETRAINED}.reset_optimizer", "true"),
]
# They change what is measured, and not what is learned.
LOGGED = {"buffers", "test_per_class", "restore_best", "augment_test", "evaluate_every", "reset_statistics"}
# All other options are promised on both engines, where their benchmark and network are.
ELEMENTWISE = {"leaky_slope", "smooth_leaky"}  # options of activations that the fused engine has
TORCH_ONLY = {f"network.{key}" for key in ("norm_after", "injection", *(SLOPES.keys() - ELEMENTWISE))}
TORCH_ONLY |= {"algorithm.selective_weight_reinitialization.decay_rate", "optimizer.scope"}
TORCH_ONLY |= {f"{CBP}.rate_of", f"{CBP}.averaging", f"{CBP}.reset_optimizer"}
TORCH_ONLY |= {f"algorithm.l2_init.{key}" for key in ("anchor", "penalty", "coupling")}
TORCH_ONLY |= {f"algorithm.{key}" for _, key, _ in RESETS if key.startswith("self_normalized")}  # refreshed in steps
FUSED_ONLY = {f"{SNP}.noise"}
FUSED_METHODS = FUSED["algorithm"] | FUSED["optimizer"]
# Whose options are tried in `make test`: the paper's.
CORE = {"sgd", "momentum", "adam", "adamw", "l2", "dropout", "shrink_and_perturb", "continual_backprop", "redo"}
CORE |= {"head_resetting", "retrained_network", "layer_norm", "batch_norm", "online_norm"}
BASE = [
    "scale=tiny",
    "network=mlp",
    "network.hidden=[12,12]",
    "benchmark.num_tasks=2",
    "benchmark.examples_per_task=60",
]


def base(needs: Sequence[str]) -> list[str]:
    """The small experiment in which an option is tried."""
    if "benchmark/protocol=epochs" in needs:
        return [*stream_options.BASE, f"paths.data={image_data()}"]
    if needs[:2] == stream_options.CIFAR[:2]:
        return [*BASE, f"paths.data={image_data()}"]
    if needs[:1] and needs[0] in (ANT[0], SLIPPERY[0], CARTPOLE[0]):
        return ["scale=tiny"]
    images = ("benchmark=continual_imagenet", "benchmark=incremental_cifar100")
    return (
        ["scale=tiny", "benchmark.num_tasks=2", f"paths.data={image_data()}"]
        if needs[:1] and needs[0] in images
        else BASE
    )


def _methods(needs: Sequence[str], key: str) -> set[str]:
    """The algorithms and the optimiser with which an option is tried."""
    found = {key.split(".")[1]} if key.startswith("algorithm.") else set()
    for line in needs:
        group, _, names = line.partition("=")
        found |= set(names.strip("[]").split(",")) if group in ("algorithm", "optimizer") else set()
    return found


def _of_the_field(needs: Sequence[str], key: str) -> bool:
    """Whether it is one of a newer method, or activation; those are tried in `make slow`."""
    return not _methods(needs, key) <= CORE or key.removeprefix("network.") in SLOPES


def _fused(needs: Sequence[str], key: str) -> bool:
    """Whether the fused engine is promised to read it."""
    return base(needs) is BASE and key not in TORCH_ONLY and _methods(needs, key) <= FUSED_METHODS


ROWS = pytest.mark.parametrize(
    ("needs", "key", "value"),
    [
        pytest.param(
            needs,
            key,
            value,
            id=f"{''.join(needs[:1])}-{key}",
            marks=[pytest.mark.slow] * _of_the_field(needs, key),
        )
        for needs, key, value in OPTIONS
    ],
)


ROWS_ON_ENGINES = pytest.mark.parametrize(
    ("needs", "key", "value"),
    [
        pytest.param(
            [*needs, f"engine={engine}"],
            key,
            value,
            id=f"{''.join(needs[:1])}-{key}-{engine}",
            # What both read is tried on the fused one; packs, below, are of the torch engine.
            marks=[pytest.mark.slow] * (_of_the_field(needs, key) or (engine == "torch" and _fused(needs, key))),
        )
        for engine in ("torch", "fused")
        for needs, key, value in OPTIONS
        if (key not in FUSED_ONLY if engine == "torch" else _fused(needs, key))
    ],
)
SCHEDULE = {f"optimizer.{key}" for key in schedule.KEYS}
FROM_THE_CODE = {"inputs", "outputs", "shape", "discrete"}  # of a network: what its benchmark has


def nodes(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The components of a composed configuration, each with its path."""
    for group in ("benchmark", "network", "optimizer"):
        yield group, {key: value for key, value in config[group].items() if key != "scales"}
    for part in ("data", "change"):  # of a stream
        if isinstance(node := config["benchmark"].get(part), dict):
            yield f"benchmark.{part}", node
    if "agent" in config:
        yield "agent", config["agent"]
    for name, node in config["algorithm"].items():
        yield f"algorithm.{name}", node


@cache
def composed(*overrides: str) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(runs.composer().compose(list(overrides))[0], resolve=True)
    return dict(plain)


def constructor(node: dict[str, Any], path: str) -> str:
    """Where the options are read: two classes may share a base's constructor."""
    return str(locate(node, path).__init__.__qualname__)


def choices() -> list[str]:
    found = [
        path
        for group in ("benchmark", "network", "optimizer", "agent", "algorithm")
        for path in (ROOT / "conf" / group).iterdir()
    ]
    parts = [path for part in ("data", "change", "protocol") for path in (ROOT / "conf" / "benchmark" / part).iterdir()]
    return sorted(
        [f"{path.parent.name}={path.stem}" for path in found if path.suffix == ".yaml"]
        + [f"benchmark/{path.parent.name}={path.stem}" for path in parts if path.suffix == ".yaml"]
    )


def chosen(choice: str) -> list[str]:
    """What is composed to look at a choice."""
    return ["benchmark=stream", choice] if choice.startswith("benchmark/") else [choice]


@pytest.mark.parametrize("choice", choices())
def test_option_in_yaml_that_no_constructor_has_or_the_reverse(choice: str) -> None:
    """Every option of a choice is a parameter, and every parameter can be set without a `+`."""
    for path, node in nodes(composed(*chosen(choice))):
        known = set(parameters(locate(node, path)))
        given = set(options(node)) - (set(schedule.KEYS) if path == "optimizer" else set())
        assert given == known - (FROM_THE_CODE if path == "network" else set()), path


def test_every_option_has_a_row_here() -> None:
    wanted, tested = set(), set()
    for choice in choices():
        for path, node in nodes(composed(*chosen(choice))):
            parts = parts_of(locate(node, path), path)  # are components, with rows of their own
            wanted |= {(constructor(node, path), f"{path}.{key}") for key in options(node) if key not in parts}
    wanted = {(where, key) for where, key in wanted if key not in ("benchmark.num_tasks", "benchmark.num_steps")}
    wanted = {(where, key) for where, key in wanted if key not in SCHEDULE}  # tests/optimizers/test_schedule.py
    for needs, key, _ in OPTIONS:
        path = key.rpartition(".")[0]
        tested.add((constructor(dict(nodes(composed(*base(needs), *needs)))[path], path), key))
    assert tested == wanted


checked = cache(runs.point)


@lru_cache(maxsize=64)
def trained(folder: Path, *overrides: str) -> tuple[Point, bytes]:
    plan = runs.plan(folder, *overrides)
    assert {outcome.state for outcome in runs.train(plan)} <= {"done"}  # none if other overrides meant the same run
    return plan.points[0], runs.metrics(plan.points[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options")


def changed(needs: Sequence[str], key: str, value: str) -> tuple[list[str], list[str]]:
    return [*base(needs), *needs], [*base(needs), *needs, f"{key}={value}"]


def last(log: bytes) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(log.splitlines()[-1])
    return row


@ROWS_ON_ENGINES
def test_setting_that_is_ignored(folder: Path, needs: list[str], key: str, value: str) -> None:
    """Another value is another run, with another identity and other results, on each engine."""
    one, other = changed(needs, key, value)
    folder /= needs[-1].removeprefix("engine=")
    (point, log), (changed_point, changed_log) = trained(folder, *one), trained(folder, *other)
    assert point.directory.name != changed_point.directory.name
    row, changed_row = last(log), last(changed_log)
    if key.rpartition(".")[2] in LOGGED:
        assert row != changed_row
    else:
        assert row["weight_magnitude_task"] != changed_row["weight_magnitude_task"]


@pytest.mark.parametrize(
    ("needs", "key", "value"),
    [
        pytest.param(needs, key, value, marks=[pytest.mark.slow] * _of_the_field(needs, key))
        for needs, key, value in OPTIONS
        if base(needs) is BASE and (key in FUSED_ONLY or not _fused(needs, key))
        if not key.endswith(
            (".refresh_in", "normalize_and_project.period")
        )  # the value that it is changed to is one of both
    ],
)
def test_option_of_one_engine_that_the_other_ignores(tmp_path: Path, needs: list[str], key: str, value: str) -> None:
    refusing, able = ("torch", "fused") if key in FUSED_ONLY else ("fused", "torch")
    _, overrides = changed(needs, key, value)
    assert runs.point(tmp_path, *overrides).engine == able
    with pytest.raises(ConfigError, match=f"engine = '{refusing}'"):
        runs.point(tmp_path, *overrides, f"engine={refusing}")


def test_number_of_tasks_is_the_length_of_the_run_and_not_its_identity(folder: Path) -> None:
    point, log = trained(folder, *BASE)
    longer = [line for line in BASE if "num_tasks" not in line]
    extended, long_log = trained(folder / "longer", *longer, "benchmark.num_tasks=3")
    assert extended.directory.name == point.directory.name
    assert long_log.startswith(log)
    assert len(long_log.splitlines()) == 3


@ROWS
def test_setting_of_the_first_run_of_a_pack_applied_to_all(
    tmp_path: Path, folder: Path, needs: list[str], key: str, value: str
) -> None:
    """Runs that differ in it share a pack only if each keeps its own; the others must not meet."""
    points = [checked(folder, *overrides) for overrides in changed(needs, key, value)]
    path, _, name = key.rpartition(".")
    (node,) = [node for where, node in nodes(composed(*base(needs), *needs)) if where == path]
    mixed = name in getattr(locate(node, path), "PER_RUN", ())
    assert (points[0].pack_key == points[1].pack_key) == mixed
    if not mixed:
        return
    one, other = changed([*needs, "precision=float64", runs.TORCH], key, value)  # the engine that trains packs in step
    points = [runs.point(tmp_path, *overrides) for overrides in (one, other)]
    together = make_plan(points, workers=1, pack=2, threads=1)
    assert len(together.packs) == 1
    runs.train(together)
    for overrides, point in zip((one, other), points, strict=True):
        alone, log = trained(folder / "alone", *overrides)
        assert alone.directory.name == point.directory.name
        runs.assert_close(log, runs.metrics(point), 1e-8)


def test_constructors_are_found() -> None:
    """What the tests above rest on: they do read signatures."""
    assert "replacement_rate" in inspect.signature(ContinualBackprop).parameters
    assert len(choices()) > 15
