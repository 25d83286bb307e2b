"""Runs that go on from another run's network (`start=RUN@TASK`): whether they can, and what they begin with.

What they take is the parent's parameters and buffers, with `start_optimizer=kept` also its optimiser's state, what its
diagnostics remember and, if the seed is the same, its environments. Interventions begin as at the start of a run.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lop_sweeps.build import build
from lop_sweeps.errors import CheckpointError, ConfigError, LopError
from lop_sweeps.networks.network import Network
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.load_run import state_before
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import FINAL, digest, holds_a_run
from lop_sweeps.sweeps.start import Start, has_network
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.training.checkpoint import no_snapshot
from lop_sweeps.training.components import Components

ALIKE = ("benchmark", "precision")  # parts of an identity in which a parent and its child are alike


def parent_of(
    start: Start, run: RunDirectory, identity: Mapping[str, Any], components: Components
) -> dict[str, Any] | None:
    """What is stored of the parent of a run, for readers; run, identity, components: of the child.

    A child that is on its way does without its parent, which may be moved away; None if nothing tells of it any more.
    Raises `ConfigError` if another could not begin with it.
    """
    if not holds_a_run(start.folder):
        if _is_on_its_way(run):
            return _stored(run, start)
        raise _refusal(start, f"there is no run {start.folder}")
    verdict = look(start.folder)
    if not _is_on_its_way(run):
        _check(start, verdict, identity, components)
    if verdict.identity is None:
        return _stored(run, start)
    return _facts(start, verdict, identity)


def _is_on_its_way(run: RunDirectory) -> bool:
    return any(run.path.glob("checkpoint*.pt")) or run.status()["state"] in FINAL


def _stored(run: RunDirectory, start: Start) -> dict[str, Any] | None:
    """What was stored when the parent was there."""
    try:
        parent = run.config().get("parent")
    except LopError:
        return None
    return parent if isinstance(parent, dict) and parent.get("run") == start.name else None


def _facts(start: Start, verdict: Verdict, identity: Mapping[str, Any]) -> dict[str, Any]:
    """group: what runs of one method have in common, whatever the seeds of their parents."""
    assert verdict.identity is not None
    method = {key: value for key, value in identity["science"].items() if key != "start"}
    theirs = digest(verdict.identity["science"])
    with contextlib.suppress(LopError, KeyError, TypeError):  # most are nobody's child
        theirs = RunDirectory(start.folder).config()["parent"]["group"]
    group = digest([method, theirs, start.science(shape_only=True)])
    return {"run": start.name, "seed": verdict.identity["seed"], "task": start.task, "group": group}


def _refusal(start: Start, text: str) -> ConfigError:
    return ConfigError("start", f"{start.name}@{start.task}", text)


def _check(start: Start, verdict: Verdict, identity: Mapping[str, Any], components: Components) -> None:
    if problem := verdict.of_experiment:
        raise _refusal(start, f"is not that run: {start.folder}/{problem}")
    if verdict.identity is None:
        raise _refusal(start, "does not record what it is; lop-status --verify --record writes it")
    if start.task >= components.benchmark.num_tasks:
        raise _refusal(start, f"must be before the last of benchmark.num_tasks={components.benchmark.num_tasks} tasks")
    if not has_network(start.folder, start.task):
        raise _refusal(start, no_snapshot(start.folder, start.task))
    theirs, ours = verdict.identity["science"], json.loads(json.dumps(identity["science"]))
    for part in ALIKE:
        if theirs.get(part) != ours.get(part):
            raise _refusal(start, f"has another {part}: {_difference(theirs.get(part), ours.get(part))}")
    if start.keeps_optimizer and theirs["optimizer"]["target"] != ours["optimizer"]["target"]:
        theirs_named, ours_named = (side["optimizer"]["target"].rpartition(".")[2] for side in (theirs, ours))
        allowed = f"needs the parent's optimiser, {theirs_named}, and here it is {ours_named}"
        raise ConfigError("start_optimizer", "kept", allowed)
    _check_network(start, components)


def _difference(theirs: Any, ours: Any) -> str:
    """The first option in which two components differ, as `key: theirs there, ours here`."""
    if not isinstance(theirs, Mapping) or not isinstance(ours, Mapping):
        return f"{theirs} there, {ours} here"
    if theirs["target"] != ours["target"]:
        return f"{theirs['target'].rpartition('.')[2]} there, {ours['target'].rpartition('.')[2]} here"
    a, b = ({**side["options"], "version": side["version"]} for side in (theirs, ours))
    key = next(key for key in {**a, **b} if a.get(key) != b.get(key))
    return f"{key} is {a.get(key, 'the default')} there, {b.get(key, 'the default')} here"


def _check_network(start: Start, components: Components) -> None:
    """Raise `ConfigError` unless the parent's parameters and buffers are those of the child."""
    config = configured(RunDirectory(start.folder).config())
    with torch.device("meta"):
        theirs, ours = replace(components, network=config["network"]).make_network(), components.make_network()
    if type(theirs) is not type(ours):
        raise _refusal(start, f"has another network: {type(theirs).__name__} there, {type(ours).__name__} here")
    there, here = _shapes(theirs), _shapes(ours)
    if key := next((key for key in {**there, **here} if there.get(key) != here.get(key)), None):
        raise _refusal(
            start, f"has another network: {key} is {there.get(key, 'not')} there, {here.get(key, 'not')} here"
        )
    if components.agent is not None:
        count = build(config["agent"], "agent").environments
        if count != components.agent.environments:
            raise _refusal(start, f"has {count} environments, and here are {components.agent.environments}")


def _shapes(network: Network) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def beginning(start: Start) -> tuple[dict[str, Any], dict[str, Any]]:
    """The learning state that a child begins with, and what its provenance records of where that came from.

    Raises `CheckpointError` if the parent is not there, or not itself.
    """
    parent = RunDirectory(start.folder)
    if not holds_a_run(start.folder):
        raise CheckpointError(f"{start.folder} is not there, and until its first checkpoint a run needs its parent")
    verdict = look(start.folder)
    if problem := verdict.of_experiment:
        raise CheckpointError(f"{start.folder}/{problem}")
    payload = state_before(parent, verdict, start.task)
    return payload, {"run": parent.name, "task": start.task, "folder": str(start.folder), "seed": _seed(parent)}


def _seed(parent: RunDirectory) -> int:
    return int(parent.config()["seed"])
