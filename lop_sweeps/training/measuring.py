"""Takes a pack's diagnostics, before tasks and at updates, and has them ready for the log.

Training never notices: what diagnostics are shown are copies, what they draw is drawn from streams of their own, and
what they add up and remember lies beside the learning state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lop_sweeps.build import described
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Learning, Measured
from lop_sweeps.diagnostics.measure import LayerSample
from lop_sweeps.errors import LopError
from lop_sweeps.training.components import Components
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import example_losses
from lop_sweeps.training.session import Position, Stage
from lop_sweeps.training.view import Moment

UPDATES = "updates"  # in the memory of a diagnostic of updates: how many there were
DURING = frozenset({"steps", "learning"})  # needs of diagnostics that are taken while a task is learned


def _begun(names: Sequence[str]) -> dict[str, Tensor]:
    return {name: torch.zeros((), dtype=torch.float64) for name in (UPDATES, *names)}


class Measuring:
    """components: of each run of the pack, which agree in their diagnostics. name: of the engine."""

    def __init__(self, learner: Learner, components: Sequence[Components], name: str) -> None:
        self.learner, self.components, self.name = learner, components, name
        self.diagnostics = dict(components[0].diagnostics)

    def before(
        self, stage: Stage, position: Position, layers: Sequence[LayerSample], active: Sequence[bool]
    ) -> list[dict[str, Any]]:
        """What is measured of each run before the task at `position`, and begin what is measured in it."""
        task, memories = position.task, position.memories
        for gone in memories.keys() - self.diagnostics.keys():
            del memories[gone]
        moment = Moment(
            self.learner, self.components, self.name, stage, task, layers, self.learner.magnitudes(), active
        )
        found: list[dict[str, Any]] = [{} for _ in active]
        with _one_thread():
            for key, diagnostic in self.diagnostics.items():
                due = task % diagnostic.every == 0
                if during := diagnostic.needs & DURING:
                    names = [one.name for one in diagnostic.values] if "steps" in during else []
                    memories[key] = [_begun(names) if due else {} for _ in active]
                elif due:
                    kept = memories.setdefault(key, [{} for _ in active])
                    for view, memory in zip(moment.runs, kept, strict=True):
                        view.memory = memory
                    with _explained(key):
                        measured = diagnostic.measure_pack(moment)
                    for run, row in enumerate(found):
                        if active[run]:
                            row |= _checked(key, diagnostic, measured[run])
        return found

    def watch(self, stage: Stage, position: Position) -> None:
        """Have updates, and how the task is learned, shown to the diagnostics of them that are taken of this task."""
        watched, followed = (
            {
                key: position.memories[key]
                for key, diagnostic in self.diagnostics.items()
                if need in diagnostic.needs and any(position.memories.get(key, ()))
            }
            for need in ("steps", "learning")
        )
        if isinstance(self.learner, TorchLearner):
            self.learner.show = _Watch(self, watched) if watched else None
        stage.follow = partial(self._follow, followed, stage.batch_size) if followed else None

    def _follow(
        self,
        memories: Mapping[str, list[dict[str, Tensor]]],
        batch_size: int,
        losses: Tensor,
        accuracies: Tensor,
        examples: Tensor,
    ) -> None:
        for key, of_runs in memories.items():
            for run, memory in enumerate(of_runs):
                if memory:  # of a run that is trained
                    memory[UPDATES] += len(examples)
                    with _explained(key):
                        learning = Learning(losses[:, run], accuracies[:, run], examples, batch_size)
                        self.diagnostics[key].follow(learning, memory)

    def during(self, position: Position, run: int) -> dict[str, Any]:
        """What was measured of a run's updates in the task at `position`."""
        found: dict[str, Any] = {}
        for key, diagnostic in self.diagnostics.items():
            if not diagnostic.needs & DURING or not (memory := position.memories.get(key, [{}])[run]):
                continue
            if "learning" in diagnostic.needs:
                with _explained(key):
                    measured = diagnostic.summary(memory)
                found |= _checked(key, diagnostic, measured)
                continue
            means = {name: float(value / memory[UPDATES]) for name, value in memory.items() if name != UPDATES}
            found |= _checked(key, diagnostic, means)
        return found


class _Watch:
    """Shown an update, has each diagnostic look at it, and adds up what it says."""

    def __init__(self, measuring: Measuring, memories: Mapping[str, list[dict[str, Tensor]]]) -> None:
        self.measuring, self.memories = measuring, memories

    def __call__(self, x: Tensor, y: Tensor, output: Tensor, outputs: Tensor | None, step: int) -> None:
        learner = self.measuring.learner
        assert isinstance(learner, TorchLearner)
        seen = Step(learner, x, y, output, outputs, step)
        for key, of_runs in self.memories.items():
            with _explained(key):
                found = self.measuring.diagnostics[key].measure_step(seen)
            for run, memory in enumerate(of_runs):
                if not memory:  # of a run that is no longer trained
                    continue
                memory[UPDATES] += 1
                for name, values in found.items():
                    memory[name] = memory[name].to(values.device) + values[run].double()


class Step:
    """An update: see `StepView`. x, y: what it was made on; output: of the network before it, (runs, batch, outputs);
    outputs: as in `TorchLearner.score`.
    """

    def __init__(
        self, learner: TorchLearner, x: Tensor, y: Tensor, output: Tensor, outputs: Tensor | None, step: int
    ) -> None:
        self._learner, self._x, self._y, self._outputs, self._step = learner, x, y, outputs, step
        self.losses_before = self._losses(output.detach())

    def _losses(self, output: Tensor) -> Tensor:
        if self._outputs is not None:
            output = output.gather(2, self._outputs.unsqueeze(1).expand(-1, output.shape[1], -1))
        return example_losses(self._learner.loss, output, self._y)

    def losses_after(self) -> Tensor:
        """In training mode, with the draws of the same step, and without a trace in running statistics."""
        return self._losses(self._learner.outputs_in_training(self._x, self._step))


@contextmanager
def _one_thread() -> Iterator[None]:
    """With several, singular values would depend on how many."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _explained(key: str) -> Iterator[None]:
    """Errors name the diagnostic; a lack of memory stays one, since a pack is split then."""
    try:
        with torch.enable_grad():
            yield
    except (LopError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise LopError(f"diagnostics.{key} cannot be measured: {described(error)}") from error


def _checked(key: str, diagnostic: Diagnostic, measured: Measured) -> dict[str, Any]:
    """What a diagnostic has found, as it is logged: only what it has described, and null for what is no number."""
    per, row = {value.name: value.per for value in diagnostic.values}, {}
    for name, value in measured.items():
        if name not in per:
            raise LopError(f"diagnostics.{key} measures {name}, which its `values` do not describe")
        if isinstance(value, Sequence) == (per[name] == "network"):
            what = "a number" if per[name] == "network" else f"a list, one value for each {per[name]}"
            raise LopError(f"diagnostics.{key}: {name} must be {what}, and is {value!r:.80}")
        row[name] = [_logged(one) for one in value] if isinstance(value, Sequence) else _logged(value)
    return row


def _logged(value: float | int) -> float | int | None:
    number = value if isinstance(value, int | float) else float(value)
    return number if math.isfinite(number) else None
