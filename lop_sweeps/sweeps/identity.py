"""A run's identity: what can change its result beyond rounding, and nothing else, as a hash.

Each component contributes its class, its integer `version`, and the options that differ from its constructor's
defaults; so an option added later, with a default that keeps the old behaviour, changes no existing identity, and a
change of behaviour does, by raising `version`. Numbers that are equal are the same (1 and 1.0). The number of tasks
is not part of it: a longer run is the same run, further on, unless its benchmark was told to end in another way
(`ENDS`). One that goes on from another's network has that run's name
and the task beside its own configuration.

`compare` asks whether a stored configuration is still what today's code would train under that name; `disagreement`
asks what can be asked of that without the components.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lop_sweeps.algorithms.span import taken_out
from lop_sweeps.build import locate, options, parameters, parts_of
from lop_sweeps.errors import IdentityError
from lop_sweeps.optimizers import schedule
from lop_sweeps.sweeps.run_files import digest, run_name
from lop_sweeps.sweeps.start import Start

PROTOCOLS = {"online": 1, "epochs": 1, "control": 1}  # versions
LENGTHS = frozenset({"num_tasks", "num_steps"})
# Facts that config.yaml adds for readers: of the benchmark, and beside the components.
DESCRIPTION = ("name", "protocol", "bin_tasks", "performance", "inputs", "outputs")
FACTS = ("schema", "run", "configuration", "choices", "layers", "num_tasks", "parent")
OLDER = 4_096  # combinations of earlier versions that are tried for a run that does not record its own


def normalise(value: Any) -> Any:
    """A value such that equal settings are equal JSON."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): normalise(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [normalise(item) for item in value]
    return value


def canonical(
    node: Mapping[str, Any], path: str, trusted: Sequence[str], drop: frozenset[str], *, shape_only: bool = False
) -> dict[str, Any]:
    """One component: its class, version and the options that are not its defaults, without those in `drop`.

    An option that the class has handed on to a part of it is the part's, wherever it was set. Of a method, also the
    tasks in which it acts, where they are given.
    """
    target = locate(node, path, trusted)
    parts = {key: handed for key, handed in parts_of(target, path).items() if isinstance(node.get(key), Mapping)}
    drop = frozenset().union(drop, *parts.values(), getattr(target, "PER_RUN", ()) if shape_only else ())
    defaults = {name: normalise(parameter.default) for name, parameter in parameters(target).items()}
    own: Mapping[str, Any] = node
    beside: Mapping[str, Any] = {}
    if path.startswith("algorithm."):
        own, beside = taken_out(node, defaults)
    elif path == "optimizer":
        own, beside = schedule.taken_out(node, defaults)
    given = {key: normalise(value) for key, value in options(own).items() if key not in drop and key not in parts}
    kept = {key: value for key, value in given.items() if key not in defaults or defaults[key] != value}
    kept |= {key: normalise(value) for key, value in beside.items()}
    for key, handed in parts.items():
        part = canonical(_handed(node, key, handed), f"{path}.{key}", trusted, frozenset(), shape_only=shape_only)
        kept[key] = {**part, "handed": sorted(handed)}
    return {"target": node["_target_"], "version": getattr(target, "version", 1), "options": kept}


def _handed(node: Mapping[str, Any], key: str, handed: Iterable[str]) -> dict[str, Any]:
    """The node of a part, with what the whole hands on to it."""
    return {**node[key], **{name: node[name] for name in handed if node.get(name) is not None}}


def scientific(config: Mapping[str, Any], trusted: Sequence[str] = (), *, shape_only: bool = False) -> dict[str, Any]:
    """The part of a resolved configuration that defines a result, except the seed.

    trusted: module prefixes that the caller trusts.
    shape_only: leave out the options that runs of one pack may differ in.
    """

    def part(node: Mapping[str, Any], path: str) -> dict[str, Any]:
        drop = LENGTHS if path == "benchmark" and not _ends(node, trusted) else frozenset()
        return canonical(node, path, trusted, drop, shape_only=shape_only)

    protocol = locate(config["benchmark"], "benchmark", trusted).protocol
    start = Start.of(config)
    return {
        "protocol": (protocol, PROTOCOLS[protocol]),
        "precision": config["precision"],
        "benchmark": part(config["benchmark"], "benchmark"),
        "network": part(config["network"], "network"),
        "optimizer": part(config["optimizer"], "optimizer"),
        "algorithm": [part(node, f"algorithm.{name}") for name, node in config["algorithm"].items()],
        **({"agent": part(config["agent"], "agent")} if config.get("agent") else {}),
        **({"start": start.science(shape_only=shape_only)} if start else {}),
    }


def _ends(node: Mapping[str, Any], trusted: Sequence[str]) -> bool:
    """Whether the last task of this benchmark is one only because it is the last."""
    return any(node.get(name) for name in getattr(locate(node, "benchmark", trusted), "ENDS", ()))


def of(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> dict[str, Any]:
    """What the name of a run with this resolved configuration is the hash of, as it is stored in identity.json."""
    return {"science": scientific(config, trusted), "seed": int(config["seed"])}


def run_id(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> str:
    """`<modules of the interventions, or backprop>-seed<n>-<hash>`, for a resolved configuration."""
    return run_name(**of(config, trusted))


def configured(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration without the facts that were added for readers: what components are built from."""
    benchmark = {key: value for key, value in stored["benchmark"].items() if not _is_fact(key, value)}
    return {**{key: value for key, value in stored.items() if key not in FACTS}, "benchmark": benchmark}


def _is_fact(key: str, value: Any) -> bool:
    """Of a benchmark: the number of inputs is one, a word for their scale is an option."""
    return key in DESCRIPTION and not (key == "inputs" and isinstance(value, str))


def compare(
    stored: Mapping[str, Any], name: str, recorded: Mapping[str, Any] | None, trusted: Sequence[str] = ()
) -> list[str]:
    """Is this stored configuration of run `name` what would be trained under it today?

    recorded: its identity.json; None for a run from before there was one. trusted: module prefixes that the caller
    trusts. Returns components that have another version today, such as "version 1 of package.module.Class", which
    makes it another run, but not one that was edited. Raises `IdentityError`, of the file and without its name, if the
    configuration is not that of the run, or `ConfigError` if a component cannot be had.
    """
    try:
        today = of(configured(stored), trusted)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IdentityError("does not hold a configuration") from error
    if run_name(**today) == name:
        return []
    now = json.loads(json.dumps(today))  # tuples are lists in what was recorded
    if recorded is not None:
        then = [{"science": recorded["science"], "seed": recorded["seed"]}]
    else:
        then = list(itertools.islice(_with_earlier_versions(now), OLDER))
    for content in then:
        if run_name(**content) == name and _without_versions(content) == _without_versions(now):
            return [text for text, other in zip(_versions(content), _versions(now), strict=True) if text != other]
    raise IdentityError(f"is of another experiment, {run_name(**today)} (edited?)")


def disagreement(config: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """What a stored configuration sets to another value than its `identity.json` records, in words; empty if nothing.

    Options that are not recorded had their defaults, which only the components tell. Raises `IdentityError` for what is
    no configuration, or no identity.
    """
    try:
        return _disagreement(config, recorded)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IdentityError("does not hold a configuration") from error


def _disagreement(config: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    science = recorded["science"]
    hashed = {"seed": recorded["seed"], "precision": science["precision"], "configuration": digest(science)}
    given = [(key, config.get(key), value) for key, value in hashed.items()]
    for group in ("benchmark", "network", "optimizer", "agent"):
        given += _options(group, config.get(group), science.get(group))
    start = Start.of(config)
    given.append(("start", start.science() if start else None, science.get("start")))
    nodes = dict(config.get("algorithm") or {})
    if len(nodes) != len(science["algorithm"]):
        return f"algorithm has {len(nodes)} parts, and {len(science['algorithm'])} are recorded"
    for (name, node), part in zip(nodes.items(), science["algorithm"], strict=True):
        given += _options(f"algorithm.{name}", node, part)
    for path, value, known in given:
        if normalise(value) != normalise(known):
            return f"{path} is {str(value)[:80]}, and {str(known)[:80]} is recorded (edited?)"
    return ""


def _options(path: str, node: Any, part: Any) -> list[tuple[str, Any, Any]]:
    """(path, value, recorded value) of a component's class and of each of its options that is recorded."""
    if not isinstance(node, Mapping) or not isinstance(part, Mapping):
        return [(path, node, part)]
    found = [(f"{path}._target_", node.get("_target_"), part["target"])]
    for key, value in part["options"].items():
        if isinstance(value, Mapping) and "handed" in value and isinstance(node.get(key), Mapping):
            found += _options(f"{path}.{key}", _handed(node, key, value["handed"]), value)
        else:
            found.append((f"{path}.{key}", node.get(key), value))
    return found


def _parts(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The components of an identity."""
    science = content["science"]
    rest = [science[group] for group in ("benchmark", "network", "optimizer", "agent") if group in science]
    return [one for part in (*rest, *science["algorithm"]) for one in _with_parts(part)]


def _with_parts(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield part
    for value in part["options"].values():
        if isinstance(value, dict) and "handed" in value:
            yield from _with_parts(value)


def _versions(content: Mapping[str, Any]) -> list[str]:
    protocol, version = content["science"]["protocol"]
    return [
        f"version {version} of the protocol {protocol}",
        *(f"version {part['version']} of {part['target']}" for part in _parts(content)),
    ]


def _without_versions(content: Mapping[str, Any]) -> Any:
    copy = json.loads(json.dumps(content))
    copy["science"]["protocol"][1] = None
    for part in _parts(copy):
        part["version"] = None
    return copy


def _with_earlier_versions(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The same with each combination of versions up to today's, the latest first."""
    copy = json.loads(json.dumps(content))
    parts = _parts(copy)
    latest = [int(copy["science"]["protocol"][1]), *(int(part["version"]) for part in parts)]
    for versions in itertools.product(*(range(version, 0, -1) for version in latest)):
        copy["science"]["protocol"][1] = versions[0]
        for part, version in zip(parts, versions[1:], strict=True):
            part["version"] = version
        yield json.loads(json.dumps(copy))


def pack_key(config: Mapping[str, Any], trusted: Sequence[str] = ()) -> str:
    """Runs with equal keys can be trained side by side."""
    lengths = [int(config["benchmark"][name]) for name in sorted(LENGTHS) if name in config["benchmark"]]
    return digest([scientific(config, trusted, shape_only=True), *lengths])
