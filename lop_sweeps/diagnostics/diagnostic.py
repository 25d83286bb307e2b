"""What a diagnostic is: a measure of a network's state, taken before a task and logged under names of its own.

One measure is one file with one class: its options (what YAML sets), what it says of its values, and how they come
about. It looks at one run (`View`); what it changes of that view is its own copy, so training never notices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer

if TYPE_CHECKING:
    from lop_sweeps.diagnostics.measure import LayerSample
    from lop_sweeps.diagnostics.units import UnitStatistics

PER = ("layer", "matrix", "network")
# What a diagnostic may need of a run. Of all but the last three, every engine and protocol has it.
NEEDS = {
    "activations": "of the hidden layers on the probe",
    "weights": "the weight matrices",
    "initial weights": "the weight matrices that the run began with, drawn again",
    "gradients": "of the mean loss on the probe",
    "copy": "a copy of the network, to look at or to train",
    "steps": "to be shown each update",
    "learning": "the loss and accuracy before each update",
    "accuracy": "examples that are classified",
}
Measured = Mapping[str, float | int | Sequence[float] | Sequence[int]]


@dataclass(frozen=True)
class Value:
    """One thing that a diagnostic measures, as figures, tables and W&B call it.

    name: in the log. per: `layer` (hidden layer) or `matrix` (weight matrix), for a list from input to output, or
    `network`, for a number. meaning: its definition, in a few words. unit, scale: what is drawn is the logged value
    times scale, in this unit; a share of something is "%" and 100. positive: it cannot be below 0. weighted: its mean
    over layers or matrices is one over their units or weights.
    """

    name: str
    per: str
    title: str
    meaning: str
    unit: str = ""
    scale: float = 1.0
    positive: bool = True
    weighted: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*((?<=\d)\.\d\w*)*", self.name, re.ASCII):
            raise ConfigError("name", self.name, "must be of letters, digits and _, and a point only within a number")
        checks.choice("per", self.per, PER)
        checks.text("title", self.title)
        checks.number("scale", self.scale)


def share(name: str, per: str, title: str, meaning: str) -> Value:
    """A share, drawn in percent; its mean is the share of all units, or weights."""
    return Value(name, per, title, meaning, "%", 100.0, weighted=per != "network")


class View(Protocol):
    """One run before a task, as a diagnostic sees it; each part is made when it is first asked for.

    active: whether it is still trained; if not, its slot in the pack holds zeros. seed, task: of the run; the index of
    the task that is about to be learned. graph, weight_names: as in `Network`.
    The probe is what diagnostics look at: the task's first examples (online), training images (epochs), or the states
    of the rollout (control). activations: on it, of each hidden layer, (samples, units), a channel's as its mean over
    positions. statistics: of the units of each layer, over samples and positions. inputs: the probe, (samples, inputs).
    parameters: by name. weights, initial_weights: the weight matrices (outputs, inputs, *kernel), from input to output.
    singular_values: of each, as a matrix (outputs, the rest), descending, in float64.
    gradients: by name, of the mean loss on the probe. batch_size: examples of an update. classifies: whether the loss
    is the cross-entropy of classes.
    memory: what this diagnostic keeps of this run from one task to the next; it is in the checkpoints.

    activations and statistics belong to all diagnostics: leave them as they are.
    """

    active: bool
    seed: int
    task: int
    batch_size: int
    classifies: bool
    graph: tuple[UnitLayer, ...]
    weight_names: tuple[str, ...]
    memory: dict[str, Tensor]

    @property
    def activations(self) -> list[Tensor]: ...

    @property
    def statistics(self) -> list[UnitStatistics]: ...

    @property
    def inputs(self) -> Tensor: ...

    @property
    def parameters(self) -> dict[str, Tensor]: ...

    @property
    def weights(self) -> list[Tensor]: ...

    @property
    def initial_weights(self) -> list[Tensor]: ...

    @property
    def singular_values(self) -> list[Tensor]: ...

    @property
    def gradients(self) -> dict[str, Tensor]: ...

    def network(self) -> Network:
        """A copy of the network, in evaluation mode, of its own memory."""

    def updated(self, rows: slice) -> Network:
        """A copy after one step of the run's optimiser, with its state, on these examples of the probe."""

    def answers(self, network: Network, inputs: Tensor) -> Tensor:
        """(n, outputs): what a copy says of inputs (n, inputs): of its outputs, those that are asked for."""

    def accuracy_on(self, network: Network, task: int, examples: int) -> float:
        """Share of a task's examples, at most so many, that a copy classifies: of its test set where it has one."""

    def generator(self, purpose: str) -> np.random.Generator:
        """Draws for this purpose, run and task, of a stream that training does not know."""


class PackView(Protocol):
    """A pack before a task. layers: of each hidden layer of all runs. magnitudes: (runs, weight matrices)."""

    layers: Sequence[LayerSample]
    magnitudes: Tensor

    @property
    def runs(self) -> Sequence[View]: ...

    def trial(self, updates: int) -> tuple[Tensor, Tensor]:
        """Losses (updates, runs) before each update of copies of the networks, and of networks that are drawn anew.

        With new optimisers of the runs' kind, on a task that the stream never shows; fewer where a task is shorter.
        """


class StepView(Protocol):
    """An update of a pack that has just been made, on `batch` examples of each run."""

    losses_before: Tensor  # (runs, batch): of each example, by the network that made the update

    def losses_after(self) -> Tensor:
        """(runs, batch): the same by the network that it made."""


class Learning(NamedTuple):
    """Some updates of one run, one after the other. losses, accuracies: before each, of its mini-batch (updates,).

    examples: of the task, once each is made (updates,).
    """

    losses: Tensor
    accuracies: Tensor
    examples: Tensor
    batch_size: int


@dataclass(frozen=True)
class Diagnostic:
    """Base of all diagnostics: the options of one, and what it does.

    every: it is taken before tasks 0, every, 2 every, ...

    A subclass sets `values`, says what it `needs` (of `NEEDS`), and defines `measure`, or, to act on all runs of a
    pack at once, `measure_pack`; what comes of single updates is `measure_step`'s, and what comes of how a task is
    learned is that of `follow` and `summary`.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[frozenset[str]] = frozenset()

    every: int = field(default=1, kw_only=True)

    @property
    def values(self) -> Sequence[Value]:
        """What it measures; mostly a tuple of the class. The first is the one that an overview shows."""
        raise TypeError(f"{type(self).__name__} must define values")

    def check(self, network: Network, protocol: str) -> None:
        """Raise `ConfigError` if this network cannot be measured."""

    def measure(self, run: View) -> Measured:
        """Values by name; one that there is not may be missing. A number, or of layers and matrices a list."""
        raise TypeError(f"{type(self).__name__} must define measure(run)")

    def measure_pack(self, pack: PackView) -> Sequence[Measured]:
        """The same for each run of a pack; of one that is not active, anything."""
        return [self.measure(run) if run.active else {} for run in pack.runs]

    def measure_step(self, step: StepView) -> Mapping[str, Tensor]:
        """Of one update, (runs,) by name; logged is the mean over the task. Called if it needs `steps`."""
        raise TypeError(f"{type(self).__name__} must define measure_step(step)")

    def follow(self, learning: Learning, memory: dict[str, Tensor]) -> None:
        """Note in memory what is wanted of some updates of a run. Called if it needs `learning`, stretch by stretch."""
        raise TypeError(f"{type(self).__name__} must define follow(learning, memory)")

    def summary(self, memory: Mapping[str, Tensor]) -> Measured:
        """Of a task that a run has learned, what came of it; memory: what `follow` has noted in it."""
        raise TypeError(f"{type(self).__name__} must define summary(memory)")


def check(diagnostic: Diagnostic, network: Network, protocol: str, engine: str, loss: str) -> None:
    """Raise `ConfigError` unless a diagnostic can be taken of such a run."""
    checks.integer("every", diagnostic.every, 1)
    if unknown := sorted(diagnostic.needs - NEEDS.keys()):
        raise ConfigError("needs", unknown[0], f"must be one of: {', '.join(NEEDS)}")
    if not (values := diagnostic.values) or not all(isinstance(value, Value) for value in values):
        raise ConfigError("values", values, "must say what is measured, each a Value")
    for value in values:
        if value.name in RESERVED:
            raise ConfigError("values", value.name, "is not free: the log has a column of that name")
    steps, learning = "steps" in diagnostic.needs, "learning" in diagnostic.needs
    wanted = ("measure_step",) if steps else ("summary",) if learning else ("measure", "measure_pack")
    if not any(getattr(type(diagnostic), name) is not getattr(Diagnostic, name) for name in wanted):
        raise ConfigError("", None, f"measures nothing: its class must define {wanted[0]}")
    if steps:
        if protocol == "control":
            raise ConfigError("", None, "is of single examples' losses, which control does not have")
        if engine == "fused":
            raise ConfigError("", None, "looks at each update, which the fused engine does not show: engine=torch does")
    if learning and protocol == "control":
        raise ConfigError("", None, "is of the losses of mini-batches, which control does not have")
    if "accuracy" in diagnostic.needs and (protocol == "control" or loss != "cross_entropy"):
        raise ConfigError("", None, "is of accuracies, and nothing is classified here")
    diagnostic.check(network, protocol)


# What a log has besides, or frames join to it.
RESERVED = frozenset(
    {
        "task",
        "examples",
        "accuracy",
        "online_accuracy",
        "cross_entropy",
        "squared_error",
        "classes",
        "epochs",
        "train_accuracy",
    }
    | {"train_cross_entropy", "test_accuracy", "test_cross_entropy", "validation_accuracy", "validation_cross_entropy"}
    | {"tortoise_test_accuracy", "tortoise_test_cross_entropy"}
    | {"best_test_accuracy", "selected_test_accuracy", "return", "episode_length", "episodes", "friction", "changes"}
    | {"level", "policy_entropy"}
    | {"policy_loss", "value_loss", "clip_fraction", "approximate_kl", "explained_variance", "action_std"}
    | {"weight_change", "weight_change_max", "weight_magnitude_task", "replaced_units", "clipped_fraction"}
    | {"trac_scale", "output_churn", "churn_coefficient"}
    | {"run", "sweep", "benchmark", "variant", "label", "seed", "state"}
)
