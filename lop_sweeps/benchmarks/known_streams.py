"""Composed streams that are a benchmark with a name of its own: they are that one, so that nothing is run twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STREAM = "lop_sweeps.benchmarks.online_stream.OnlineStream"
INPUTS_PERMUTED = "lop_sweeps.changes.inputs_permuted.InputsPermuted"
BY_DATA = {
    "lop_sweeps.datasets.mnist.MNIST": "permuted_mnist.PermutedMNIST",
    "lop_sweeps.datasets.digits.Digits": "permuted_digits.PermutedDigits",
}
BESIDE = ("drift", "interpolate", "relearn")  # options that make it another stream
OPTIONS = ("num_tasks", "examples_per_task", "batch_size", "inputs")


def known(node: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and node of the benchmark that this composed one is; None if it is none of these."""
    data, plain = node.get("data"), not any(node.get(key) for key in BESIDE)
    change = node.get("change")
    if node.get("_target_") != STREAM or not isinstance(change, Mapping) or not plain:
        return None
    if {key: value for key, value in change.items() if value is not None} != {"_target_": INPUTS_PERMUTED}:
        return None
    if not isinstance(data, Mapping) or list(data) != ["_target_"] or data["_target_"] not in BY_DATA:
        return None
    if not set(node) <= {"_target_", "data", "change", *BESIDE, *OPTIONS}:
        return None  # something that the stream will refuse
    place = BY_DATA[data["_target_"]]
    kept = {key: node[key] for key in OPTIONS if key in node}
    return place.partition(".")[0], {"_target_": f"lop_sweeps.benchmarks.{place}", **kept}
