"""A method for one run as a user might write it, that uses what a run offers; tests copy it to a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lop_sweeps.algorithms.intervention import every
from lop_sweeps.algorithms.one_run import OneRun, Run


@dataclass(frozen=True)
class Restless(OneRun):
    """Keeps a mean of the gradient, pulls by it, resets units at times and between tasks, and counts them."""

    PER_RUN = frozenset({"strength"})
    resets_units = True

    strength: float = 0.1
    period: int = 9

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def start(self, run: Run) -> dict[str, Tensor]:
        means = {name: torch.zeros_like(value) for name, value in run.parameters.items()}
        return {**means, "resets": torch.zeros(len(run.graph), dtype=torch.int64)}

    def before_update(self, run: Run) -> None:
        for name, gradient in run.gradient.items():
            run.state[name] = 0.9 * run.state[name] + 0.1 * gradient
            run.gradient[name] = gradient + self.strength * run.state[name]

    def after_optimizer(self, run: Run) -> None:
        noise = run.generator("restless", run.step).normal()
        name = run.weight_names[0]
        run.parameters[name] = run.before[name].lerp(run.parameters[name], 0.9) * (1 + 0.001 * noise)

    def after_update(self, run: Run) -> None:
        for layer, activations in enumerate(run.activations):
            self._reset(run, layer, activations.abs().mean(0).argmin().view(1))

    def before_task(self, run: Run, task: int) -> None:
        self._reset(run, 0, torch.tensor([task % run.graph[0].units]))
        run.restart_optimizer(counts_only=True)

    def _reset(self, run: Run, layer: int, units: Tensor) -> None:
        run.reset_units(layer, units)
        run.state["resets"][layer] += len(units)

    def report(self, run: Run) -> dict[str, list[float]]:
        return {"resets": run.state["resets"].tolist()}

    def clear_report(self, run: Run) -> None:
        run.state["resets"] = 0


@dataclass(frozen=True)
class Checker(OneRun):
    """In control and epochs: gradients of what it is shown are those that it is shown."""

    needs = frozenset({"other_batch"})
    strength: float = 0.0

    def before_update(self, run: Run) -> None:
        again = run.gradient_of(run.inputs, run.targets)
        other = run.gradient_of(*run.other_batch())
        for name, gradient in run.gradient.items():
            torch.testing.assert_close(again[name], gradient, rtol=1e-9, atol=1e-9)
        assert any(not torch.equal(other[name], again[name]) for name in again)
