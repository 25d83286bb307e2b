"""Diagnostics of users, good and bad, for tests; each as short as one may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, StepView, Value


@dataclass(frozen=True)
class Vandal(Diagnostic):
    """Destroys everything that it is given, and draws from every generator that there is."""

    values = (Value("wreck", "network", "Wreck", "nothing"),)

    def measure(self, run: Any) -> Mapping[str, float]:
        with torch.no_grad():
            for value in (*run.parameters.values(), *run.weights, *run.initial_weights, run.inputs):
                value.zero_()
            for made in (run.network(), run.updated(slice(0, 2))):
                for tensor in (*made.parameters(), *made.buffers()):
                    tensor.fill_(7.0)
                made.train()(torch.ones(4, run.inputs.shape[1], dtype=run.inputs.dtype))
        for gradient in run.gradients.values():
            gradient.fill_(9.0)
        torch.rand(3)
        return {"wreck": float(run.generator("wreck").random())}


@dataclass(frozen=True)
class Wrong(Diagnostic):
    """Does what it is told not to. how: which of it."""

    values = (Value("right", "network", "Right", "a number"), Value("layers", "layer", "Layers", "one for each layer"))
    how: str = "unknown"

    def measure(self, run: Any) -> Mapping[str, Any]:
        found: dict[str, Any] = {
            "unknown": {"other": 1.0},
            "list": {"right": [1.0]},
            "number": {"layers": 1.0},
            "infinite": {"right": float("inf"), "layers": [1.0, float("nan")]},
        }
        return found[self.how] if self.how != "error" else {"right": 1 / 0}


@dataclass(frozen=True)
class Counting(Diagnostic):
    """How often it was taken of a run."""

    values = (Value("taken", "network", "Times taken", "how often this was measured", "times"),)

    def measure(self, run: Any) -> Mapping[str, float]:
        run.memory["taken"] = run.memory.get("taken", torch.zeros(())) + 1
        return {"taken": float(run.memory["taken"])}


@dataclass(frozen=True)
class Updates(Diagnostic):
    """Mean loss before each update."""

    values = (Value("loss_of_updates", "network", "Loss before updates", "mean over the task"),)
    needs = frozenset({"steps"})

    def measure_step(self, step: StepView) -> Mapping[str, Tensor]:
        return {"loss_of_updates": step.losses_before.mean(1)}
