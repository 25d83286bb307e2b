"""The authors' trajectories, and the same steps taken by the learner that users get, alone and in a pack of three.

A file has a fully connected network's initial and final weights and the examples of each step; see its README.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.algorithms.intervention import Intervention
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import slope
from tests.shared import SHARED

FOLDER = SHARED / "golden" / "field"
LOSSES = {"nll": "cross_entropy", "mse": "squared_error"}
PACKS = (1, 3)


def alone_and_in_a_pack(names: Iterable[str]) -> pytest.MarkDecorator:
    """Parametrise with (name, pack); all but the first file of a family are replayed in a pack by `make slow`."""
    slow = pytest.mark.slow
    cases = [
        pytest.param(name, pack, marks=[slow] if pack > 1 and i else [])
        for i, name in enumerate(names)
        for pack in PACKS
    ]
    return pytest.mark.parametrize(("name", "pack"), cases)


needs_field = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="trajectories of the field's methods (../shared/golden/field) are not here"
)


class GivenMLP(MLP):
    """A network whose initial parameters are given, by name."""

    def __init__(self, given: dict[str, NDArray[Any]], inputs: int, outputs: int, **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        self.given = given

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        super().initialize(draw)
        with torch.no_grad():
            for name, value in self.given.items():
                self.get_parameter(name).copy_(torch.from_numpy(np.asarray(value)))


@dataclass(frozen=True)
class Golden:
    """One file: its arrays, and what it says of them."""

    name: str

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        with np.load(FOLDER / f"{self.name}.npz", allow_pickle=False) as file:
            return dict(file)

    @cached_property
    def meta(self) -> dict[str, Any]:
        return dict(json.loads(str(self.arrays["meta"])))

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.arrays[key]

    def parameters(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Those that begin with e.g. `init_` or `final_`, by the names of our network."""
        kinds = {"w": "weight", "b": "bias"}
        return {
            f"layers.{key[len(prefix) + 1 :]}.{kinds[key[len(prefix)]]}": value
            for key, value in self.arrays.items()
            if key.startswith(prefix) and key[len(prefix)] in kinds and key[len(prefix) + 1 :].isdigit()
        }

    def network(self, **options: Any) -> Callable[[], GivenMLP]:
        """Makes its network, with its initial parameters; options: of `MLP`, beside widths and activation."""
        given = self.parameters("init_")
        weights = [value for name, value in given.items() if name.endswith("weight")]
        sizes = [weight.shape[0] for weight in weights]
        arguments = {"hidden": sizes[:-1], "activation": self.meta.get("activation", "relu"), **options}
        return lambda: GivenMLP(given, weights[0].shape[1], sizes[-1], **arguments)

    def learner(
        self,
        optimizer: Optimizer,
        interventions: Sequence[Intervention] = (),
        pack: int = 1,
        network: Callable[[], Network] | None = None,
    ) -> TorchLearner:
        """In a pack of three the file's run is in the middle, and the others learn from its examples in other orders.

        network: instead of the file's own; it must begin with the file's parameters.
        """
        learner = TorchLearner(
            network or self.network(),
            [optimizer] * pack,
            [[one] * pack for one in interventions],
            range(pack),
            LOSSES[self.meta.get("loss", "nll")],
            torch.float64,
        )
        learner.plan(0, 1)
        return learner

    def replay(
        self, learner: TorchLearner, each: Callable[[int], None] | None = None, steps: int | None = None
    ) -> NDArray[Any]:
        """Losses (steps,) of the file's run; each: called after every step.

        Where the file cuts the gradient to a length (`clip_global_norm`), so does every step, as PPO's do.
        """
        x, y = torch.from_numpy(self["x"]), torch.from_numpy(self["y"])
        pack, total = len(learner.seeds), len(x) if steps is None else steps
        orders = [torch.arange(len(x)), torch.arange(len(x)).flip(0), torch.arange(len(x)).roll(7)]
        chosen = torch.stack(orders[:1] if pack == 1 else [orders[1], orders[0], orders[2]])
        losses = []
        for step in range(total):
            at = chosen[:, step]
            losses.append(self._learn(learner, x[at], y[at], step)[pack // 2].item())
            if each is not None:
                each(step)
        return np.array(losses)

    def _learn(self, learner: TorchLearner, x: Tensor, y: Tensor, step: int) -> Tensor:
        """One step; its losses (runs,)."""
        longest = self.meta.get("clip_global_norm")
        if longest is None:
            return learner.learn(x, y, step)[0]
        output = learner.predict(x, step)
        losses = learner.score(output.detach(), y)[0]
        max_norm = torch.full((len(x), 1), float(longest), dtype=torch.float64)
        learner.learn_from(output, slope(learner.loss, output.detach(), y), step, max_norm)
        return losses


def run_of(learner: TorchLearner, flat: Tensor, name: str) -> Tensor:
    """Parameter `name` of the file's run in a tensor (runs, parameters)."""
    return learner.view(flat, name)[len(learner.seeds) // 2]


def assert_final(golden: Golden, learner: TorchLearner, atol: float = 1e-10, prefix: str = "final_") -> None:
    """The run's parameters are those of the file."""
    final = golden.parameters(prefix)
    assert final
    for name, value in final.items():
        np.testing.assert_allclose(run_of(learner, learner.parameters, name).numpy(), value, rtol=0, atol=atol)
