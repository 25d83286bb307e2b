"""A pack as it stands at a position: its runs' components, learner, logs and environments, from their checkpoints."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.data import data_root
from lop_sweeps.sweeps import measures, provenance, queue
from lop_sweeps.sweeps.branching import beginning
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.sweeps.keeping import to_keep
from lop_sweeps.sweeps.planning import Pack
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.start import Start
from lop_sweeps.training import branch, session
from lop_sweeps.training.components import assemble, make_learner
from lop_sweeps.training.control import Control
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.measuring import Measuring
from lop_sweeps.training.metrics_log import MetricsLog

_LOADING = threading.Lock()  # runs in several threads share what the first of them has loaded


@dataclass
class Restored:
    """A pack that is ready to go on. members: in the pack's order; those that are not trained now are inactive."""

    learner: Learner
    benchmark: Benchmark
    members: list[session.Member]
    position: session.Position
    control: Control | None
    clock: session.Clock
    measuring: Measuring


def restore(pack: Pack, payloads: Mapping[str, dict[str, Any]]) -> Restored:
    """The pack at the position of the checkpoints `payloads`, one for each of `pack.todo`, or at the start if none.

    Begins a session of each run: its pack, provenance and diagnostics are written.
    """
    runs = {name: RunDirectory(pack.folder / name) for name in pack.todo}
    configs = {name: runs[name].config() for name in pack.todo}
    components = {name: assemble(configured(config), pack.trusted) for name, config in configs.items()}
    first = pack.todo[0]
    benchmark = components[first].benchmark
    with _LOADING:
        benchmark.load(data_root(configs[first]["paths"].get("data")))
    # A masked slot computes with zeros: any run of this shape will do for it.
    seeds = [int(configs.get(name, configs[first])["seed"]) for name in pack.members]
    of_members = [components.get(name, components[first]) for name in pack.members]
    learner = make_learner(of_members, seeds, pack.engine, pack.device)
    members = []
    for name, seed in zip(pack.members, seeds, strict=True):
        members.append(member := session.Member(pack.folder / name, seed, active=name in runs))
        if member.active:
            _open_log(member, runs[name], payloads[name]["metrics"] if payloads else (0, 0))
    control = None
    if benchmark.protocol == "control":
        control = Control(benchmark, [one.agent for one in of_members if one.agent], members)
    position = session.Position()
    origins: dict[str, dict[str, Any]] = {}
    if payloads:
        in_order = [payloads.get(name) for name in pack.members]
        session.restore(learner, in_order, control)
        position = session.Position.restore(in_order)
    elif Start.of(configs[first]):
        branches, origins = _branches(configs)
        begun = [branches.get(name) for name in pack.members]
        branch.begin(learner, begun, control)
        position = session.Position.restore([dict(one.payload) if one else None for one in begun])
    for member in members:
        if member.active:
            member.keep = to_keep(member.directory, configs[member.directory.name], position.task)
    for name, run in runs.items():
        _begin_session(pack, run, configs[name], position, origins.get(name))
        measured, next_row = measures.of(configs[name], pack.trusted), position.task + (position.step > 0)
        measures.record(run, measured, components[name].diagnostics, next_row)
    options = configs[first]["checkpoint"]
    clock = session.Clock(float(options["first"]), float(options["every"]))
    measuring = Measuring(learner, of_members, pack.engine)
    return Restored(learner, benchmark, members, position, control, clock, measuring)


def _open_log(member: session.Member, run: RunDirectory, covered: tuple[int, int]) -> None:
    """Open the log behind what the checkpoint covers, (bytes, checksum)."""
    size, checksum = covered
    if int(run.status().get("durable") or 0) > size:  # said before, so that nothing is missing meanwhile
        record = {"rows": MetricsLog.check(member.directory, (size, checksum)), "bytes": size}
        run.write_status(state="waiting", durable=size, log={**record, "crc32": checksum})
    member.log = MetricsLog(member.directory, (size, checksum))
    member.durable = member.log.record


def _branches(
    configs: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, branch.Branch], dict[str, dict[str, Any]]]:
    """What runs that start from others' networks begin with, and where that came from; by name."""
    loaded: dict[tuple[Any, int], tuple[dict[str, Any], dict[str, Any]]] = {}
    branches, origins = {}, {}
    for name, config in configs.items():
        start = Start.of(config)
        assert start is not None, "runs of a pack begin alike"
        key = start.folder, start.task
        payload, origin = loaded[key] = loaded.get(key) or beginning(start)
        same_seed = origin["seed"] == int(config["seed"])
        branches[name] = branch.Branch(payload, start.keeps_optimizer, same_seed)
        origins[name] = origin
    return branches, origins


def _begin_session(
    pack: Pack,
    run: RunDirectory,
    config: Mapping[str, Any],
    position: session.Position,
    origin: Mapping[str, Any] | None,
) -> None:
    run.write_pack(list(pack.members), pack.threads, pack.engine)
    if "SLURM_JOB_ID" not in os.environ:
        queue.forget(run)
    began_at = {"task": position.task, "step": position.step}
    own = _own_sources(config, pack.trusted) | ({"start": dict(origin)} if origin else {})
    provenance.begin_session(run, engine=pack.engine, pack=len(pack.members), **began_at, **own)


def _own_sources(config: Mapping[str, Any], trusted: Sequence[str]) -> dict[str, Any]:
    """What a session records of the user's own modules."""
    if not trusted:
        return {}
    return {"sources": provenance.sources(trusted), "trusted_changes": config.get("trusted_changes") or "refuse"}
