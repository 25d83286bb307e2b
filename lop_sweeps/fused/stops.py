"""Steps at which somebody acts who is not compiled: the loop stops there, shows true values, and goes on.

Between two stops everything is compiled. At a stop nothing that the loop has postponed is done (the scale of the
weights, their sums, ages, plans), so one at which nothing is changed leaves every byte as it would have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.compiling import njit
from lop_sweeps.errors import LopError
from lop_sweeps.fused import arrays
from lop_sweeps.fused.train import ADD_UP, EVERYTHING, SMALLEST_SCALE, STEP, TIDY, compiled
from lop_sweeps.training.acting import WROTE_TOO_EARLY, Actor, next_stop

Floats = NDArray[Any]


class Loop(NamedTuple):
    """What the compiled loop works on, for one call of it."""

    net: arrays.Net
    stream: arrays.Stream
    rule: arrays.Optimizer
    replacement: arrays.Replacement
    noise: arrays.Noise
    methods: arrays.Methods
    work: arrays.Work


class Stops:
    """The actors of a run on the fused engine, and what they see at a stop.

    parameters, gradient: (1, size), in the engine's layout. compiled_parts: position in the order of interventions ->
    part of a step, of those that are compiled. units: where the units of each hidden layer are.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        compiled_parts: Mapping[int, int],
        parameters: Tensor,
        units: Sequence[slice],
        plan: Callable[[int, int], None],
    ) -> None:
        self.actors, self.compiled_parts, self.plan = actors, compiled_parts, plan
        self.parameters, self.gradient = parameters, torch.zeros_like(parameters)
        self._w, self._slope = parameters[0].numpy(), self.gradient[0].numpy()
        self._kept, self._kept_slope = np.empty_like(self._w), np.empty_like(self._w)
        self._carried, self._nothing = np.ones(2), self._w[:0]
        self._units = units
        self._watches_units = any("activation_gradients" in actor.needs for actor in actors)
        last = max(compiled_parts, default=-1)
        late = [(actor, actor.after_update) for actor in actors if actor.after_update and actor.position > last]
        early = [actor for actor in actors if actor.before_update or actor.after_optimizer or actor.needs]
        # Who acts when the compiled step is over, if that is all: then the step is one of its stretch.
        self._only_at_the_end = late if len(late) == len(actors) and not early else None
        self._add_up = False  # whether weights have been changed since the loop last added up their magnitudes
        self.step = self.example = 0  # of the stop: its number, and its first example in the stretch
        self.activations: list[Tensor] = []
        self.activation_gradients: list[Tensor] = []

    def run(
        self,
        loop: Loop,
        first: int,
        batch: int,
        steps: int,
        interval: int,
        losses: Floats,
        correct: Floats,
        magnitudes: Floats,
    ) -> int:
        """As the compiled `train`."""
        net, work, carried = loop.net, loop.work, self._carried
        slopes = np.zeros_like(work.h) if self._watches_units else np.zeros((0, 0), work.h.dtype)
        self.activations = [torch.from_numpy(work.h[:, part])[None] for part in self._units]
        self.activation_gradients = [torch.from_numpy(slopes[:, part])[None] for part in self._units if slopes.size]
        for number, begin in enumerate(range(0, steps, interval)):
            length = min(interval, steps - begin)
            self.plan(first + begin, length)
            compiled.begin_interval(
                net, loop.rule, loop.replacement, loop.methods, work, carried, first + begin, length
            )
            self._add_up = False
            of_interval = slice(begin, begin + length)
            row = (first + begin, begin * batch, batch)
            out = (losses[of_interval], correct[of_interval])
            t = 0
            while t < length:
                stop = next_stop(self.actors, first + begin + t, first + begin + length) - first - begin
                self.step, self.example = first + begin + stop, (begin + stop) * batch
                late = self._only_at_the_end if stop < length else None
                if stop + bool(late) > t:
                    self._go(loop, EVERYTHING, row, t, stop + bool(late), out)
                if late:
                    self._let_act([one for actor, one in late if actor.acts_at(self.step)])
                elif stop < length:
                    self._stop(loop, row, stop, out, slopes)
                t = stop + 1
            end, into = first + begin + length, magnitudes[number]
            finite = compiled.end_interval(
                net, loop.replacement, loop.noise, loop.methods, work, carried, end, length, into
            )
            if not finite or not math.isfinite(losses[of_interval].sum()):
                return begin + length
        return steps

    def _go(
        self, loop: Loop, parts: int, row: tuple[int, int, int], t: int, stop: int, out: Any, more: Floats | None = None
    ) -> None:
        parts, self._add_up = parts | (ADD_UP if self._add_up else 0), False
        more = self._nothing if more is None else more
        compiled.steps(*loop, self._carried, more, parts, *row, t, stop, *out)

    @torch.no_grad()
    def _let_act(self, acting: Sequence[Callable[[int], None]]) -> None:
        self._show()
        for act in acting:
            act(self.step)
        self._hide()

    @torch.no_grad()
    def _stop(self, loop: Loop, row: tuple[int, int, int], t: int, out: Any, slopes: Floats) -> None:
        """One step, number t of the interval, and those who act at it."""
        acting = [actor for actor in self.actors if actor.acts_at(self.step)]
        watching = [actor.after_optimizer for actor in acting if actor.after_optimizer]
        looking = [actor.before_update for actor in acting if actor.before_update]
        more, before = None, self.parameters
        if looking or any("activation_gradients" in actor.needs for actor in acting):
            compiled.gradient(
                loop.net, loop.stream, loop.work, self._carried[0], self.step, self.example, row[2], self._slope, slopes
            )
        if looking:
            self._kept_slope[:] = self._slope
            self._show()
            for look in looking:
                look(self.gradient, self.step)
            if self._hide():
                raise LopError(WROTE_TOO_EARLY)
            more = self._slope if _subtract(self._slope, self._kept_slope) else None
        if watching:
            self._show()
            before = self.parameters.clone()
            self._hide()
        todo = STEP
        if watching:
            self._go(loop, STEP, row, t, t + 1, out, more)
            self._show()
            for watch in watching:
                watch(before, self.step)
            self._hide()
            todo, more = 0, None
        for parts, after_update in self._segments(acting):
            todo |= parts
            if todo:
                self._go(loop, todo, row, t, t + 1, out, more)
            if after_update:
                self._let_act([after_update])
            todo, more = 0, None
        if abs(self._carried[0]) < SMALLEST_SCALE:
            self._go(loop, TIDY, row, t, t + 1, out)

    def _segments(self, acting: Sequence[Actor]) -> Iterator[tuple[int, Callable[[int], None] | None]]:
        """Parts of a step after the optimiser, and who acts after them, in the order of the configuration."""
        late = {actor.position: actor.after_update for actor in acting if actor.after_update}
        parts = 0
        for position in sorted({*late, *self.compiled_parts}):
            parts |= self.compiled_parts.get(position, 0)
            if position in late:
                yield parts, late[position]
                parts = 0
        yield parts, None

    def _show(self) -> None:
        """Let the parameters be what they are, and note what the loop had."""
        _show(self._w, self._kept, self._carried[0])

    def _hide(self) -> bool:
        """Give the loop its own form back, with what has been changed; whether anything has."""
        changed: bool = _hide(self._w, self._kept, self._carried[0])
        self._add_up |= changed
        return changed


@njit(nogil=True, error_model="numpy")
def _show(w: Floats, kept: Floats, scale: float) -> None:
    """kept = w, then w *= scale."""
    factor = w.dtype.type(scale)
    kept[:] = w
    if factor != 1:
        for i in range(w.size):
            w[i] *= factor


@njit(nogil=True, error_model="numpy")
def _hide(w: Floats, kept: Floats, scale: float) -> bool:
    """Undo `_show`, but for weights that have been changed since; whether there are any."""
    factor, changed = w.dtype.type(scale), 0
    for i in range(w.size):
        changed += w[i] != kept[i] * factor
    if factor != 1:
        for i in range(w.size if changed else 0):
            if w[i] != kept[i] * factor:
                kept[i] = w[i] / factor
        w[:] = kept
    return changed > 0


@njit(nogil=True, error_model="numpy")
def _subtract(slope: Floats, kept: Floats) -> bool:
    """slope -= kept, if they differ; whether they do."""
    changed = 0
    for i in range(slope.size):
        changed += slope[i] != kept[i]
    for i in range(slope.size if changed else 0):
        slope[i] -= kept[i]
    return changed > 0
