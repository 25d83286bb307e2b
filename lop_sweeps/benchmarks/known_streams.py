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
OPTIONS = ("num_tasks", "examples_per_task", "batch_size", "inputs")


def known(node: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and node of the benchmark that this composed one is; None if it is none of these."""
    data, abrupt = node.get("data"), not node.get("drift") and not node.get("interpolate")
    if node.get("_target_") != STREAM or node.get("change") != {"_target_": INPUTS_PERMUTED} or not abrupt:
        return None
    if not isinstance(data, Mapping) or list(data) != ["_target_"] or data["_target_"] not in BY_DATA:
        return None
    if not set(node) <= {"_target_", "data", "change", "drift", "interpolate", *OPTIONS}:
        return None  # something that the stream will refuse
    place = BY_DATA[data["_target_"]]
    kept = {key: node[key] for key in OPTIONS if key in node}
    return place.partition(".")[0], {"_target_": f"lop_sweeps.benchmarks.{place}", **kept}
