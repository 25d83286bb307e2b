"""The training loop: task after task, what is measured before each, learning in intervals, a row after each.

How data reach the learner is a protocol's business (`online`, `epochs`, `control`). Every protocol cuts a task into
intervals of steps; checkpoints, stops, samples of the weight magnitude and checks for divergence happen at their ends
and nowhere else, so that they never depend on the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import Benchmark, steps_of
from lop_sweeps.errors import Interrupted
from lop_sweeps.training.control import Control, ControlStage
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.measuring import Measuring
from lop_sweeps.training.online import OnlineStage
from lop_sweeps.training.session import Clock, Member, Position, Stage, keep, save


def train(
    learner: Learner,
    benchmark: Benchmark,
    members: Sequence[Member],
    position: Position,
    clock: Clock,
    on_interval: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    before_writing: Callable[[], None] = lambda: None,
    control: Control | None = None,
    measuring: Measuring | None = None,
) -> None:
    """Learn the tasks from `position` to the last, appending one row per task to each active member's log.

    on_interval(task, step): told after every interval, at the end before the last checkpoint. should_stop: asked
    after every interval; if true, a checkpoint is written and `Interrupted` raised. before_writing: called before
    rows or checkpoints are written; it raises if the runs are no longer this process's. control: what the protocol of
    that name needs. measuring: takes the diagnostics.
    """
    _mask_inactive(learner, members)
    seeds = [member.seed for member in members]
    while position.task < benchmark.num_tasks and any(member.active for member in members):
        stage = _stage(learner, benchmark, seeds, position.task, control)
        steps = steps_of(benchmark, position.task)
        if position.step == 0:
            _keep(learner, members, position, control, before_writing)
            _begin_task(learner, stage, members, position, measuring)
        if measuring is not None:
            measuring.watch(stage, position)
        while position.step < steps:
            stage.learn(position, steps - position.step)
            _mask_diverged(learner, members, position, position.finite())
            if not any(member.active for member in members):
                break
            if position.step < steps:
                before_writing()
                on_interval(position.task, position.step)
                _save_if(learner, members, position, control, clock.rings(), should_stop())
        before_writing()
        _end_task(learner, stage, members, position, measuring)
        on_interval(position.task, 0)
        last = position.task == benchmark.num_tasks
        _save_if(learner, members, position, control, clock.rings() or last, should_stop() and not last)
    _keep(learner, members, position, control, before_writing)


def first_interval(
    learner: Learner,
    benchmark: Benchmark,
    seeds: Sequence[int],
    control: Control | None = None,
    measuring: Measuring | None = None,
) -> None:
    """What the start of a run does, without its log: to see what memory it takes."""
    stage, position = _stage(learner, benchmark, seeds, 0, control), Position()
    layers = stage.probe()
    if measuring is not None:
        measuring.before(stage, position, layers, [True] * len(seeds))
    position.sums = stage.begin()
    stage.learn(position, steps_of(benchmark, 0))


def _stage(learner: Learner, benchmark: Benchmark, seeds: Sequence[int], task: int, control: Control | None) -> Stage:
    if benchmark.protocol == "online":
        return OnlineStage(learner, benchmark, seeds, task)
    if benchmark.protocol == "control":
        assert control is not None
        assert isinstance(learner, TorchLearner), "the fused engine has no agents"
        return ControlStage(learner, control, task)
    return EpochsStage(learner, benchmark, seeds, task)


def _keep(
    learner: Learner,
    members: Sequence[Member],
    position: Position,
    control: Control | None,
    before_writing: Callable[[], None],
) -> None:
    if any(member.active and position.task in member.keep for member in members):
        before_writing()
        keep(learner, members, position, control)


@torch.no_grad()
def _begin_task(
    learner: Learner, stage: Stage, members: Sequence[Member], position: Position, measuring: Measuring | None
) -> None:
    layers = stage.probe()
    if layers:
        finite = torch.stack([torch.isfinite(layer.statistics.magnitude).all(1) for layer in layers]).all(0)
        _mask_diverged(learner, members, position, finite)
        if not bool(finite.all()):
            layers = [layer.without(~finite) for layer in layers]
    active = [member.active for member in members]
    position.before = [{} for _ in members] if measuring is None else measuring.before(stage, position, layers, active)
    for one, span in zip(learner.interventions, learner.spans, strict=False):
        if span.from_task == position.task > 0 and hasattr(one, "begin"):
            for run in range(len(members)):
                one.begin(run)
    position.samples = 0
    position.sums = stage.begin()
    _mask_inactive(learner, members)


def _end_task(
    learner: Learner, stage: Stage, members: Sequence[Member], position: Position, measuring: Measuring | None
) -> None:
    """Write each active run's row of the finished task, and move to the next."""
    measured = stage.end(position)
    _mask_inactive(learner, members)
    for run, member in enumerate(members):
        if not member.active or member.log is None:
            continue
        row = {"task": position.task, **measured[run], **position.before[run]}
        row["weight_magnitude_task"] = (position.sums["magnitude"][run] / position.samples).tolist()
        for intervention in learner.active:
            row |= intervention.report(run)
        row |= learner.optimizer.report(run)
        if measuring is not None:
            row |= measuring.during(position, run)
        member.log.append(row)
    for intervention in learner.active:
        intervention.clear_report()
    position.task, position.step = position.task + 1, 0


def _mask_inactive(learner: Learner, members: Sequence[Member]) -> None:
    """Slots of inactive members compute with zeros; what acts between tasks may have written to them."""
    for run, member in enumerate(members):
        if not member.active:
            learner.mask(run)


def _mask_diverged(learner: Learner, members: Sequence[Member], position: Position, finite: Tensor) -> None:
    """Take runs that are no longer finite out of the pack; each is final."""
    for run, (member, fine) in enumerate(zip(members, finite.tolist(), strict=True)):
        if member.active and not fine:
            member.active, member.diverged = False, (position.task, position.step)
            learner.mask(run)


def _save_if(
    learner: Learner, members: Sequence[Member], position: Position, control: Control | None, due: bool, stop: bool
) -> None:
    if due or stop:
        save(learner, members, position, control)
    if stop:
        raise Interrupted("stopped; the same command continues")
