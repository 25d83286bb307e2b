"""Labels: what a configuration is called in a legend, short and unique."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

COMPONENTS = ("benchmark", "network", "optimizer", "algorithm", "agent")
# A run can be extended by more tasks; it stays the same configuration, and its curve is longer.
LENGTHS = ("num_tasks", "num_steps")
SPAN = ("from_task", "until_task")
# Benchmark and configuration.
Key = tuple[str, str]
BASELINE = re.compile(r"(backprop|bp|baseline)\b", re.IGNORECASE)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """{'optimizer.step_size': 0.01, …}: all components' hyper-parameters, without `_target_` and the like.

    How many inputs a benchmark has is none; older runs have that number where newer ones have the option of that name.
    """
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                if not str(key).startswith("_"):
                    walk(f"{prefix}.{key}", value)
        else:
            flat[prefix] = node

    for component in COMPONENTS:
        if isinstance(config.get(component), Mapping):
            walk(component, config[component])
    if not isinstance(flat.get("benchmark.inputs", ""), str):
        del flat["benchmark.inputs"]
    return flat


def configuration(config: Mapping[str, Any]) -> str:
    """Hash of everything that defines a result except the seed (and the number of tasks, which may grow).

    The run's own, if it was stored; it tells apart versions of a component, too. Runs that go on from another run's
    network are alike if their parents are, but for the seeds.
    """
    parent = config.get("parent")
    if isinstance(parent, Mapping) and parent.get("group"):
        return str(parent["group"])
    if config.get("configuration"):
        return str(config["configuration"])
    science = {key: config.get(key) for key in (*COMPONENTS, "precision")}
    science["benchmark"] = {k: v for k, v in config["benchmark"].items() if k not in LENGTHS}
    text = json.dumps(_canonical(science), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def benchmark(config: Mapping[str, Any]) -> str:
    return str(config["benchmark"].get("name") or _choices(config).get("benchmark") or "benchmark")


def choice(config: Mapping[str, Any], group: str) -> str:
    """The chosen names of a group joined by '+'; no algorithm chosen is backprop."""
    chosen = _choices(config).get(group)
    names = [chosen] if isinstance(chosen, str) else list(chosen or ())
    return "+".join(map(str, names)) or ("backprop" if group == "algorithm" else "")


def start(config: Mapping[str, Any]) -> str:
    """What a run goes on from, as `backprop@100`; empty for one that begins with a network of its own."""
    parent = config.get("parent")
    if not isinstance(parent, Mapping):
        return ""
    return f"{str(parent.get('run')).rpartition('-seed')[0]}@{parent.get('task')}"


def labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One label per config: runs of one configuration share it, no other of the benchmark has it.

    The base is the variant's name, else the algorithm, with what it goes on from and the choices of network, optimiser,
    precision and scale where they differ (they stand for the options they bring); then come exactly the
    hyper-parameters that differ among the configurations with that base.
    """
    known: dict[Key, Mapping[str, Any]] = {}
    keys = [(benchmark(config), configuration(config)) for config in configs]
    for key, config in zip(keys, configs, strict=True):
        # A variant's name wins over the same configuration without one.
        if key not in known or (not known[key].get("variant") and config.get("variant")):
            known[key] = config
    bases = {key: str(config.get("variant") or choice(config, "algorithm")) for key, config in known.items()}
    for part in ("start", "network", "optimizer", "precision", "scale"):
        found = {key: _part(config, part) for key, config in known.items()}
        for group in _groups(bases):
            if len({found[key] for key in group}) > 1:
                bases |= {key: f"{bases[key]}, {part}={found[key]}" for key in group if found[key]}
    named = {key: text for group in _groups(bases) for key, text in _extend(group, bases, known).items()}
    times = Counter((key[0], text) for key, text in named.items())
    # What is left differs in its classes only (`_target_`), which have no short name.
    unique = {key: text if times[key[0], text] == 1 else f"{text} [{key[1]}]" for key, text in named.items()}
    return [unique[key] for key in keys]


def _part(config: Mapping[str, Any], part: str) -> str:
    return start(config) if part == "start" else choice(config, part) or str(config.get(part, ""))


def ordered(names: Iterable[str]) -> list[str]:
    """Backprop-like baselines first, then alphabetical, numbers by value (1e-05 < 0.001 < 0.01)."""

    def key(name: str) -> tuple[bool, list[tuple[int, float, str]]]:
        parts = re.split(r"(\d+\.?\d*(?:e[-+]?\d+)?)", name.lower())
        values = [(1, float(part), "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]
        return not BASELINE.match(name), values

    return sorted(set(names), key=lambda name: (key(name), name))


def _extend(
    group: list[Key],
    bases: Mapping[Key, str],
    known: Mapping[Key, Mapping[str, Any]],
) -> dict[Key, str]:
    flats = {key: flatten(known[key]) for key in group}
    paths = dict.fromkeys(
        path for flat in flats.values() for path in flat if path.removeprefix("benchmark.") not in LENGTHS
    )
    texts: dict[Key, str] = {}
    # Older runs do not say what an option is that was added since: if that is all, it is no difference.
    for given, number in product((True, False), ("%g", "%.17g")):  # six digits unless two values need more
        differing = [path for path in paths if len(_values(path, flats.values(), given=given)) > 1]
        shorts = {path: short(path, differing) for path in differing}
        for key, flat in flats.items():
            settings = [f"{shorts[path]}={_text(flat[path], number)}" for path in differing if path in flat]
            texts[key] = ", ".join([bases[key], *settings])
        if len(set(texts.values())) == len(group):
            break
    return texts


def _values(path: str, flats: Iterable[Mapping[str, Any]], *, given: bool) -> set[str]:
    """What an option is in some configurations, as text; given: in those that say it.

    Who says nothing of the tasks in which a method acts says that it acts in all.
    """
    given = given and path.rpartition(".")[2] not in SPAN
    return {json.dumps(_canonical(flat.get(path)), default=str) for flat in flats if path in flat or not given}


def _groups(bases: Mapping[Key, str]) -> list[list[Key]]:
    """Configurations of one benchmark with the same base label."""
    groups: dict[Key, list[Key]] = defaultdict(list)
    for key, base in bases.items():
        groups[key[0], base].append(key)
    return list(groups.values())


def short(path: str, others: Sequence[str]) -> str:
    """The shortest end of `path` that no other differing path shares."""
    parts = path.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if sum(f".{other}".endswith(f".{end}") for other in others) == 1:
            return end
    return path


def _text(value: Any, number: str) -> str:
    if isinstance(value, list):
        return "-".join(_text(item, number) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else number % value
    return "none" if value is None else str(value)


def _canonical(value: Any) -> Any:
    """1 and 1.0 are one value: the configuration's own rule."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _choices(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("choices") or {}
