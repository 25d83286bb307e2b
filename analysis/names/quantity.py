"""What is known about a metric: how it is called, and in which unit it is drawn."""

import re
from dataclasses import dataclass, replace

import numpy as np

from .described import Described, described
from .metric import POLICY, POLICY_LAST, layer_of

DORMANT = re.compile(r"dormant_fraction_tau([\d.e-]+)")
# The least and the largest value that is possible.
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Quantity:
    """axis: label with the unit. scale: drawn = logged × scale. from_zero: the axis starts at 0.

    larger_is_better: of performance and losses; of a diagnostic it says nothing. positive: it cannot be below 0.
    difference: of two such values.
    """

    name: str
    title: str
    axis: str
    unit: str = ""
    scale: float = 1.0
    from_zero: bool = False
    part: str = "hidden layer"
    larger_is_better: bool = True
    positive: bool = False
    difference: bool = False

    @property
    def bounds(self) -> Bounds:
        """The least and the largest value that is possible, in the unit that was logged."""
        share = self.unit.startswith("%")
        low = 0.0 if share or self.positive or self.from_zero else -np.inf
        high = 1.0 if share else np.inf
        return (low - high, high - low) if self.difference else (low, high)

    def of_difference(self) -> "Quantity":
        """The difference of two values, in the same unit; percent become percentage points."""
        return replace(self, from_zero=False, positive=self.positive or self.from_zero, difference=True)


def _percent(name: str, title: str, from_zero: bool = True) -> Quantity:
    return Quantity(name, title, f"{title} (%)", "%", 100.0, from_zero)


_KNOWN = {
    q.name: q
    for q in (
        _percent("accuracy", "Online accuracy", from_zero=False),
        _percent("test_accuracy", "Test accuracy", from_zero=False),
        _percent("best_test_accuracy", "Best test accuracy", from_zero=False),
        _percent("selected_test_accuracy", "Test accuracy at the best validation", from_zero=False),
        _percent("tortoise_test_accuracy", "Test accuracy of the slow average", from_zero=False),
        _percent("validation_accuracy", "Validation accuracy", from_zero=False),
        _percent("train_accuracy", "Training accuracy in the last epoch", from_zero=False),
        Quantity(
            "cross_entropy", "Cross-entropy", "Cross-entropy (nats)", "nats", larger_is_better=False, positive=True
        ),
        Quantity("squared_error", "Squared error", "Squared error", larger_is_better=False, positive=True),
        _percent("dead_fraction", "Dead units"),
        _percent("rarely_active_fraction", "Rarely active units"),
        _percent("inactive_fraction", "Activations that are 0"),
        _percent("saturated_fraction", "Activations beyond ±0.9"),
        Quantity("effective_rank", "Effective rank", "Effective rank (units)", "units", from_zero=True),
        Quantity(
            "effective_rank_fraction",
            "Effective rank",
            "Effective rank (% of width)",
            "% of width",
            100.0,
            True,
        ),
        Quantity("approximate_rank", "Approximate rank", "Approximate rank (units)", "units", from_zero=True),
        Quantity("srank99", "srank, δ = 0.01", "srank, δ = 0.01 (units)", "units", from_zero=True),
        Quantity("stable_rank_fro", "Stable rank ‖Φ‖²_F / ‖Φ‖²₂", "Stable rank", from_zero=True),
        Quantity("numerical_rank", "Numerical rank", "Numerical rank (units)", "units", from_zero=True),
        Quantity("weight_magnitude", "Weight magnitude", "Weight magnitude, mean |w|", "", 1.0, True, "weight matrix"),
        Quantity(
            "weight_magnitude_task",
            "Weight magnitude over the task",
            "Weight magnitude, mean |w| over the task",
            from_zero=True,
            part="weight matrix",
        ),
        Quantity("clipped_fraction", "Clipped weights", "Clipped weights (%)", "%", 100.0, True, part="weight matrix"),
        Quantity("return", "Return", "Return of an episode"),
        Quantity("episode_length", "Episode length", "Episode length (steps)", "steps", from_zero=True),
        Quantity("friction", "Friction", "Friction", from_zero=True),
        Quantity("level", "Level", "Level", from_zero=True),
        Quantity("policy_entropy", "Entropy of the policy", "Entropy of the policy (nats)", "nats", from_zero=True),
        Quantity("action_std", "Standard deviation of actions", "Standard deviation of actions", from_zero=True),
        Quantity(
            "weight_change", "Weight change", "Weight change per rollout, Σ |Δw|", from_zero=True, part="weight matrix"
        ),
        Quantity(
            "weight_change_max", "Largest weight change", "Largest weight change of the policy, Σ |Δw|", from_zero=True
        ),
        Quantity("policy_loss", "Policy loss", "Policy loss", larger_is_better=False),
        Quantity("replaced_units", "Replaced units", "Replaced units per layer and task", "units", from_zero=True),
        Quantity("died_units", "Units that died", "Units that died, per layer and task", "units", from_zero=True),
        Quantity(
            "revived_units",
            "Units no longer dead",
            "Units no longer dead, per layer and task",
            "units",
            from_zero=True,
        ),
    )
}


def quantity(name: str) -> Quantity:
    """Of a metric or of one layer of it (`dead_fraction/2`).

    One that is not known here is what the runs say of it (`described`), or drawn under its own name.
    policy_name: of the policy network, in control; policy_last_name: of its last hidden layer.
    """
    for prefix, where in ((POLICY_LAST, ", policy's last layer"), (POLICY, ", policy")):
        if name.startswith(prefix) and name not in _KNOWN:
            of_all = quantity(name.removeprefix(prefix))
            axis = of_all.axis + where.replace(", policy's", ",\npolicy's")  # too long for one line
            return replace(of_all, name=name, title=of_all.title + where, axis=axis)
    base, layer = layer_of(name)
    said = described(base)
    if dormant := DORMANT.fullmatch(base):
        found = _percent(base, f"Dormant units, τ = {dormant[1]}")
    elif said is not None and base not in _KNOWN:
        found = _as_described(base, said)
    else:
        text = base.replace("_", " ")
        title = text[:1].upper() + text[1:]
        smaller = re.search(r"(loss|error|cross_entropy)$", base) is not None
        found = _KNOWN.get(base, Quantity(base, title, title, larger_is_better=not smaller))
    return replace(found, name=name, title=f"{found.part.capitalize()} {layer}") if layer else found


def is_known(name: str) -> bool:
    """Whether a logged metric needs no description."""
    return name in _KNOWN or DORMANT.fullmatch(name) is not None


def _as_described(name: str, said: Described) -> Quantity:
    axis = f"{said.title} ({said.unit})" if said.unit else said.title
    part = "weight matrix" if said.per == "matrix" else "hidden layer"
    return Quantity(name, said.title, axis, said.unit, said.scale, said.positive, part, positive=said.positive)
