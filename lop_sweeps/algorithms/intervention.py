"""What an intervention is: something that acts on a network besides the gradient of its loss.

One idea is one file: the options of one run (a frozen dataclass derived from `Intervention`; what YAML sets), and the
same idea acting on a pack, on tensors with a leading run dimension (derived from `PackedIntervention`). Who would
rather not think in packs derives from `OneRun` (one_run.py) and writes one class.

The order of calls, which is the same on every engine and in every protocol:

    a task      diagnostics -> (begin(run), where `from_task` is) -> before_task(run, task), for each run -> steps
    a stretch   plan(step, steps), before at most 1,000 steps
    a step      forward pass -> gradient of the loss -> before_update(gradient, step) of each intervention
                -> the gradient is cut to `max_gradient_norm` -> the optimiser, with its own weight decay
                -> after_optimizer(before, step) of each -> after_update(step) of each
    an evaluation in training by epochs: evaluated_parameters(run)

"Of each" is in the order of the configuration. Steps count over the whole run, from 0. `next_step` says which of them
an intervention wants to see; at the others none of its methods is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer
from lop_sweeps.optimizers.optimizer import PackedOptimizer, per_run


class Learner(Protocol):
    """What an intervention may see and change of a pack in training.

    parameters: (runs, parameters). `view` gives one named parameter's share of it, or of any tensor of that layout,
    as (runs, *shape). buffers: (runs, *shape) by name. Of the current step, valid until the next:
    inputs: (runs, batch, inputs). targets: (runs, batch) class labels or (runs, batch, outputs) numbers; in control
    what PPO has of these states (`agents.ppo.Experience`). activations: one (runs, batch, features, *positions) for
    each hidden layer, before dropout. activation_gradients: of the same shapes, of the mean loss with respect to them,
    for interventions whose `needs` names them; empty for others.
    """

    network: Network
    seeds: Sequence[int]
    graph: tuple[UnitLayer, ...]
    weight_names: tuple[str, ...]
    parameter_names: tuple[str, ...]
    parameters: Tensor
    buffers: dict[str, Tensor]
    optimizer: PackedOptimizer

    @property
    def activations(self) -> list[Tensor]: ...

    @property
    def activation_gradients(self) -> list[Tensor]: ...

    @property
    def inputs(self) -> Tensor: ...

    @property
    def targets(self) -> Any: ...

    def view(self, flat: Tensor, name: str) -> Tensor: ...

    def redraw(self, run: int, purpose: str, *position: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fresh parameters and buffers by name, from the network's initial law; draws of this purpose and position.

        The purpose "initial weights" without a position gives back what the run began with.
        """

    def network_of(self, run: int) -> Network:
        """A module of run `run` alone, whose parameters and buffers share memory with the pack's."""

    def outputs_of(self, x: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Outputs (runs, batch, outputs) of x (runs, batch, inputs), without dropout; it leaves no trace.

        parameters: (runs, parameters) that are used instead of those in training.
        """

    def differentiate(self, of: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (runs,) that `of` makes of the outputs of x, and their gradient (runs, parameters); no trace.

        As `outputs_of`: x (runs, batch, inputs), outputs (runs, batch, outputs), without dropout.
        """

    def gradient_of(self, x: Tensor, y: Any, run: int | None = None) -> Tensor:
        """(runs, parameters): gradient of the mean loss on inputs x and targets y, without dropout; no trace.

        run: of this one alone, for which x and y are; the leading dimension of all three is then 1.
        """

    def other_batch(self, step: int) -> tuple[Tensor, Any]:
        """In epochs and control: inputs and targets of a mini-batch drawn from the same data, independently of the one
        that is learned from; draws of this step."""

    def epochs_over(self, step: int) -> int | None:
        """How many passes over its data the run has made after update `step`; None: it is in the middle of one.

        Online a task is one; in control each pass over a rollout is.
        """

    def step_losses(self) -> Tensor:
        """(runs,): the mean loss of the current step before its update; in control the policy's."""

    def asked(self, output: Tensor) -> Tensor:
        """Of outputs (runs, batch, outputs), those that the task asks for: in class-incremental learning some."""

    def ends_round(self, step: int) -> bool:
        """Whether it is the last update of an epoch, or in control the last on a rollout; online each is."""

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """In `before_task`: mini-batches of inputs (batch, inputs) and targets of the task that is to come.

        The first `samples` of its examples, or all if there are fewer. None: in epochs all of its training set, online
        2,000. Images are not augmented.
        """


# What `Intervention.needs` may name, and who has it.
NEEDS: dict[str, frozenset[str]] = {
    "activation_gradients": frozenset({"online", "epochs", "control"}),
    "other_batch": frozenset({"epochs", "control"}),
    "task_data": frozenset({"online", "epochs"}),
    "evaluated_parameters": frozenset({"epochs"}),
}


class Intervention:
    """Base of the options of one run; subclasses are frozen dataclasses.

    version: raise it when a change alters results; it is part of a run's identity.
    PER_RUN: options that may differ between the runs of a pack; never those that `next_step` looks at.
    resets_units: whether it resets the optimiser's state of single units, so that there is a step count per weight.
    needs: what it asks for beyond a step's tensors (`NEEDS`); a run that cannot give it is refused when planned.
    compiled_part: the module that holds what it does at every step on the fused engine, compiled (fused/methods.py).
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset()
    compiled_part: ClassVar[str | None] = None

    @property
    def resets_units(self) -> bool:
        return False

    def check(self, network: Network) -> None:
        """Raise `ConfigError` if it cannot act on this network."""

    def next_step(self, step: int) -> int | None:
        """The first step >= `step` at which it wants to be called; None: not before the next task.

        By `step` and options alone, never by state: a resumed run asks again and must hear the same. The default is
        every step. What acts now and then runs at full speed on the fused engine (`every`).
        """
        return step

    def pack(self, peers: Sequence[Any], learner: Learner) -> PackedIntervention[Any]:
        """The same idea acting on the runs with options `peers`, of which `self` is the first.

        The pack's parameters are the initial ones; a checkpoint is loaded afterwards.
        """
        raise TypeError(f"{type(self).__name__} must define pack(peers, learner), or derive from OneRun")


def every(period: int, step: int, first: int | None = None) -> int:
    """The first step >= `step` of: first, first + period, first + 2 period, ...

    By default the last step of each stretch of `period`: period - 1, 2 period - 1, ...
    """
    first = period - 1 if first is None else first
    return max(first, step + (first - step) % period)


def next_step(options: object, step: int) -> int | None:
    """When an intervention acts; one without a schedule of its own, at every step."""
    schedule = getattr(options, "next_step", None)
    return schedule(step) if schedule else step


Options = TypeVar("Options")


class PackedIntervention(Generic[Options]):
    """Base of interventions acting on a pack; all methods do nothing, so an idea writes those that it has.

    options: of every run. All methods are called without gradients.
    """

    def __init__(self, runs: Sequence[Options], learner: Learner) -> None:
        self.options, self.learner = runs, learner

    def per_run(self, name: str) -> Tensor:
        """An option of all runs as a column (runs, 1), which broadcasts over parameters or units."""
        return per_run([getattr(run, name) for run in self.options], self.learner.parameters)

    def begin(self, run: int) -> None:
        """Before the first task in which it acts, if `from_task` says that this is not the run's first.

        For what is kept and depends on the parameters: until now it is what the initial ones made of it.
        """

    def plan(self, step: int, steps: int) -> None:
        """Called before steps `step` ... `step + steps - 1` (a fixed grid, at most 1,000 at a time)."""

    def before_update(self, gradient: Tensor, step: int) -> None:
        """May change the gradient (runs, parameters), in place, or only look at it; parameters stay as they are."""

    def after_optimizer(self, before: Tensor, step: int) -> None:
        """Directly after the optimiser; before: a copy of the parameters (runs, parameters) that it was given."""

    def after_update(self, step: int) -> None:
        """After the optimiser's step number `step`."""

    def before_task(self, run: int, task: int) -> None:
        """For each run before the first step of each task, after the diagnostics.

        In control, when the rollout in which the environment has changed has been learned from.
        """

    def evaluated_parameters(self, run: int) -> Tensor | None:
        """(parameters,): what is tested instead of what is trained; None: the same. In epochs."""
        return None

    def tested_beside(self) -> dict[str, Tensor]:
        """Of all runs, parameters (runs, parameters) that are tested, too, and logged as NAME_test_accuracy. In epochs.

        The names must be the same in all tasks in which it acts.
        """
        return {}

    def state(self) -> dict[str, Tensor]:
        """All state, each tensor with a leading run dimension; restored by copying into these tensors."""
        return {}

    def report(self, run: int) -> Mapping[str, float | list[float]]:
        """Measurements of run `run` since `clear_report`, for its log."""
        return {}

    def clear_report(self) -> None:
        """Begin to count anew."""


def has(packed: object, name: str) -> bool:
    """Whether an acting intervention has a method of its own by this name, not one that does nothing."""
    if name in getattr(packed, "without", ()):
        return False
    method = getattr(type(packed), name, None)
    return method is not None and method is not getattr(PackedIntervention, name)
