"""A run's identity: what can change its result beyond rounding, and nothing else, as a hash.

Each component contributes its class, its integer `version`, and the options that differ from its constructor's
defaults; so an option added later, with a default that keeps the old behaviour, changes no existing identity, and a
change of behaviour does, by raising `version`. Numbers that are equal are the same (1 and 1.0). The number of tasks
is not part of it: a longer run is the same run, further on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lop_sweeps.build import locate, options, parameters

PROTOCOLS = {"online": 1, "epochs": 1, "control": 1}  # versions
LENGTHS = frozenset({"num_tasks", "num_steps"})


def normalise(value: Any) -> Any:
    """A value such that equal settings are equal JSON."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): normalise(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [normalise(item) for item in value]
    return value


def canonical(node: Mapping[str, Any], path: str, trusted: Sequence[str], drop: frozenset[str]) -> dict[str, Any]:
    """One component: its class, version and the options that are not its defaults, without those in `drop`."""
    target = locate(node, path, trusted)
    defaults = {name: normalise(parameter.default) for name, parameter in parameters(target).items()}
    given = {key: normalise(value) for key, value in options(node).items() if key not in drop}
    kept = {key: value for key, value in given.items() if key not in defaults or defaults[key] != value}
    return {"target": node["_target_"], "version": getattr(target, "version", 1), "options": kept}


def scientific(config: Mapping[str, Any], trusted: Sequence[str] = (), *, shape_only: bool = False) -> dict[str, Any]:
    """The part of a resolved configuration that defines a result, except the seed.

    trusted: module prefixes that the caller trusts.
    shape_only: leave out the options that runs of one pack may differ in.
    """

    def part(node: Mapping[str, Any], path: str) -> dict[str, Any]:
        drop: frozenset[str] = LENGTHS if path == "benchmark" else frozenset()
        if shape_only:
            drop |= getattr(locate(node, path, trusted), "PER_RUN", frozenset())
        return canonical(node, path, trusted, drop)

    protocol = locate(config["benchmark"], "benchmark", trusted).protocol
    return {
        "protocol": (protocol, PROTOCOLS[protocol]),
        "precision": config["precision"],
        "benchmark": part(config["benchmark"], "benchmark"),
        "network": part(config["network"], "network"),
        "optimizer": part(config["optimizer"], "optimizer"),
        "algorithm": [part(node, f"algorithm.{name}") for name, node in config["algorithm"].items()],
        **({"agent": part(config["agent"], "agent")} if config.get("agent") else {}),
    }


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def run_id(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> str:
    """`<modules of the interventions, or backprop>-seed<n>-<hash>`, for a resolved configuration."""
    content = scientific(config, trusted)
    seed = int(config["seed"])
    names = [part["target"].split(".")[-2] for part in content["algorithm"]]
    return f"{'+'.join(names) or 'backprop'}-seed{seed}-{digest([content, seed])}"


def pack_key(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> str:
    """Runs with equal keys can be trained side by side."""
    lengths = [int(config["benchmark"][name]) for name in sorted(LENGTHS) if name in config["benchmark"]]
    return digest([scientific(config, trusted, shape_only=True), *lengths])
