"""A row of a run's log as Weights & Biases is given it, and back.

| in metrics.jsonl                | in W&B                                                          |
|---------------------------------|-----------------------------------------------------------------|
| task, examples                  | the same                                                        |
| accuracy, errors, return        | performance/accuracy                                            |
| a diagnostic that is one number | diagnostics/churn                                               |
| other numbers                   | training/policy_loss                                            |
| a list, a value per layer       | layers/dead_fraction/1, ...; their mean as diagnostics/dead_fraction |
| anything else                   | text/episodes, as JSON                                          |

W&B sorts panels by what stands in front of the slash. It wants names of letters, digits and underscores, so the point
of a number in a name becomes a p: dormant_fraction_tau0p025.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

AXES = ("task", "examples")
DESCRIBED = "described"  # in a W&B run's configuration: what its diagnostics are
PERFORMANCE = re.compile(r"accuracy|squared_error|cross_entropy|return$|episode_length")
# Averaged over weights and over units, as in the figures; other lists over layers.
OF_WEIGHTS = re.compile(r"weight_magnitude(_task)?")
OF_UNITS = re.compile(r"(dead|rarely_active|inactive|saturated)_fraction|dormant_fraction_tau.+")


def encode(
    row: Mapping[str, Any],
    weights: Sequence[int] = (),
    policy_layers: int = 0,
    units: Sequence[int] = (),
    described: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """A row of metrics.jsonl as W&B is given it; what is null stays away.

    weights: in each weight matrix. units: of each hidden layer. policy_layers: in control, how many of the hidden
    layers are the policy's; their mean is added as diagnostics/policy_name. described: what the run says of its
    diagnostics (diagnostics.json).
    """
    sent: dict[str, Any] = {}
    said = described or {}
    for name, value in row.items():
        key = re.sub(r"(\d)\.(\d)", r"\1p\2", name)
        if value is None or value == []:
            continue
        if name in AXES:
            sent[name] = value
        elif _is_number(value) and name in said:
            sent[f"diagnostics/{key}"] = value
        elif _is_number(value):
            sent[f"{'performance' if PERFORMANCE.search(name) else 'training'}/{key}"] = value
        elif isinstance(value, list) and all(one is None or _is_number(one) for one in value):
            of_weights, of_units = OF_WEIGHTS.fullmatch(name), OF_UNITS.fullmatch(name)
            if said.get(name, {}).get("weighted"):
                of_weights, of_units = said[name]["per"] == "matrix", said[name]["per"] == "layer"
            sizes = weights if of_weights else units if of_units else ()
            sent |= _layers(key, value, sizes, policy_layers)
        else:
            sent[f"text/{key}"] = json.dumps(value)
    return sent


def decode(sent: Mapping[str, Any]) -> dict[str, Any]:
    """The row of metrics.jsonl that `encode` was given; what W&B or a mean added is left out."""
    row: dict[str, Any] = {}
    lists: dict[str, dict[int, Any]] = {}
    single: dict[str, Any] = {}
    for key, value in sent.items():
        section, _, rest = key.partition("/")
        name = re.sub(r"(\d)p(\d)", r"\1.\2", rest)
        if key in AXES:
            row[key] = value
        elif section in ("performance", "training"):
            row[name] = value
        elif section == "layers":
            name, _, layer = name.rpartition("/")
            lists.setdefault(name, {})[int(layer)] = value
        elif section == "diagnostics":
            single[name] = value
        elif section == "text":
            row[name] = json.loads(value)
    for name, values in lists.items():
        row[name] = [values.get(layer) for layer in range(1, max(values) + 1)]
    means = {*lists, *(f"policy_{name}" for name in lists)}
    return row | {name: value for name, value in single.items() if name not in means}


def _layers(key: str, values: Sequence[float | None], sizes: Sequence[int], policy_layers: int) -> dict[str, Any]:
    """sizes: of the layers, by which their mean is weighted; without them all count alike."""
    sent: dict[str, Any] = {f"layers/{key}/{i}": value for i, value in enumerate(values, 1) if value is not None}
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        shares = list(sizes) if len(sizes) == len(known) else [1] * len(known)
        sent[f"diagnostics/{key}"] = _mean(known, shares)
        if policy_layers and len(known) == 2 * policy_layers:
            sent[f"diagnostics/policy_{key}"] = _mean(known[:policy_layers], shares[:policy_layers])
    return sent


def _mean(values: Sequence[float], shares: Sequence[int]) -> float:
    return sum(value * share for value, share in zip(values, shares, strict=True)) / sum(shares)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
