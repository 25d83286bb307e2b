"""ReDo in the form of timoklein/redo against its trajectories: one event, and what Adam makes of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lop_sweeps.algorithms.redo import PackedReDo, ReDo
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import PACKS, Golden, needs_field, run_of

pytestmark = needs_field


class Given(Network):
    """Convolutions without padding or pooling, then linear layers, with ReLU between them, by their given weights.

    inputs: shape of one example.
    """

    def __init__(self, given: dict[str, NDArray[Any]], inputs: Sequence[int]) -> None:
        super().__init__()
        self.given, self.layers, self.sides = given, nn.ModuleList(), []
        side = inputs[-1]
        for i in range(len(given) // 2):
            shape = given[f"layers.{i}.weight"].shape
            if len(shape) == 4:
                side -= shape[2] - 1
                self.layers.append(nn.Conv2d(shape[1], shape[0], shape[2:]))
            else:
                self.layers.append(nn.Linear(shape[1], shape[0]))
            self.sides.append(side if len(shape) == 4 else 0)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        activations = []
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x.flatten(1) if isinstance(layer, nn.Linear) else x))
            activations.append(x)
        return self.layers[-1](x.flatten(1)), activations

    def weights(self) -> tuple[str, ...]:
        return tuple(f"layers.{i}.weight" for i in range(len(self.layers)))

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        with torch.no_grad():
            for name, value in self.given.items():
                self.get_parameter(name).copy_(torch.from_numpy(value))

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph = []
        for i, layer in enumerate(self.layers[:-1]):
            flattened = self.sides[i] and not self.sides[i + 1]
            graph.append(
                UnitLayer(
                    weight=f"layers.{i}.weight",
                    bias=f"layers.{i}.bias",
                    next_weight=f"layers.{i + 1}.weight",
                    next_bias=f"layers.{i + 1}.bias",
                    units=len(layer.weight),  # type: ignore[arg-type]
                    fan_in=layer.weight[0].numel(),  # type: ignore[index]
                    bound=1.0,
                    spread=self.sides[i] ** 2 if flattened else 1,
                )
            )
        return tuple(graph)


def inject(golden: Golden, packed: PackedReDo, run: int) -> None:
    """The file's run draws what its authors drew, one row for each dormant unit."""
    draw, redrawn = packed.resets.draw, packed._redrawn

    def incoming(step: int, i: int, of: int, units: Tensor) -> Tensor:
        if of == run:
            assert units.tolist() == np.flatnonzero(golden[f"mask{i}"]).tolist()
        return torch.from_numpy(golden[f"new_incoming{i}"]) if of == run else draw(step, i, of, units)

    def biases(step: int) -> dict[str, Tensor]:
        drawn = redrawn(step)
        for i in range(len(packed.units)):
            drawn[f"layers.{i}.bias"][run, golden[f"mask{i}"]] = torch.from_numpy(golden[f"new_bias{i}"])
        return drawn

    packed.resets.draw, packed._redrawn = incoming, biases  # type: ignore[method-assign]


def assert_state(golden: Golden, learner: TorchLearner, prefix: str) -> None:
    """Parameters, moments and step counts."""
    state = learner.optimizer.state()
    found = {"": learner.parameters, "m_": state["moment1"], "v_": state["moment2"]}
    for kind, flat in found.items():
        for name, value in golden.parameters(f"{prefix}{kind}").items():
            np.testing.assert_allclose(run_of(learner, flat, name), value, rtol=0, atol=1e-10, err_msg=f"{kind} {name}")
    for power, beta in zip((state["power1"], state["power2"]), golden.meta["betas"], strict=True):
        for name, count in golden.parameters(f"{prefix}step_").items():
            np.testing.assert_allclose(run_of(learner, power, name), beta ** float(count), rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", ["redo_mlp", "redo_cnn"])
def test_redo_as_its_reimplementation_has_it(name: str, pack: int) -> None:
    golden, run = Golden(name), pack // 2
    meta = golden.meta
    new_bias = "zero" if meta["use_lecun_init"] else "initial"
    method = ReDo(meta["tau"], 10**9, score="eps", new_bias=new_bias, step_counts="layers")
    optimizer = Adam(meta["lr"], *meta["betas"], meta["eps"])
    given = golden.parameters("init_")
    learner = golden.learner(optimizer, [method], pack, lambda: Given(given, golden["x"].shape[2:]))
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReDo)
    inject(golden, packed, run)

    def event(step: int) -> None:
        if step != meta["warm_steps"] - 1:
            return
        assert_state(golden, learner, "before_")
        probe = torch.from_numpy(golden["probe"])
        with torch.no_grad():
            learner.activations = learner.forward(probe.expand(pack, *probe.shape))[1]
            for i, activation in enumerate(learner.activations):
                np.testing.assert_allclose(activation[run], golden[f"activations{i}"], rtol=0, atol=1e-10)
                assert packed.dormant(i)[run].tolist() == golden[f"mask{i}"].tolist()
            packed.after_update(step)
        assert_state(golden, learner, "after_")

    losses = golden.replay(learner, event)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    assert sum(packed.report(run)["replaced_units"]) == int(golden["dormant_count"])
    assert_state(golden, learner, "final_")


def test_a_threshold_of_zero_means_what_is_hardly_zero() -> None:
    """`zero_mask` is what their rule chooses with threshold 0, from the same activations."""
    for name in ("redo_mlp", "redo_cnn"):
        golden = Golden(name)
        given = golden.parameters("init_")
        learner = golden.learner(
            Adam(), [ReDo(0.0, score="eps")], network=lambda g=given, f=golden: Given(g, f["x"].shape[2:])
        )
        packed = learner.interventions[0]
        assert isinstance(packed, PackedReDo)
        layers = range(len(learner.graph))
        learner.activations = [torch.from_numpy(golden[f"activations{i}"])[None] for i in layers]
        for i in layers:
            assert packed.dormant(i)[0].tolist() == golden[f"zero_mask{i}"].tolist()
