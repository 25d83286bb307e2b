"""The objects of one run, built and checked against each other from its resolved configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from lop_sweeps import build as build_module
from lop_sweeps import checks
from lop_sweeps.agents.ppo import PPO
from lop_sweeps.algorithms.intervention import NEEDS, Intervention
from lop_sweeps.algorithms.span import Span, make_span, taken_out
from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.build import KINDS, build, call, check_trusted, locate, parameters, suggest
from lop_sweeps.data import data_root
from lop_sweeps.diagnostics import diagnostic as diagnostics
from lop_sweeps.diagnostics.diagnostic import Diagnostic
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers import schedule as schedules
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.schedule import PLAIN, Schedule
from lop_sweeps.training import devices, engine
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import LOSSES

PROTOCOLS = ("online", "epochs", "control")
# tf32: float32 numbers, multiplied as a GPU does that fastest.
DTYPES = {"float32": torch.float32, "float64": torch.float64, "tf32": torch.float32}
KEYS = frozenset(
    {"benchmark", "network", "optimizer", "algorithm", "agent", "scale", "seed", "precision", "variants", "variant"}
    | {"start", "start_optimizer", "diagnostics"}
    | {"sweep", "engine", "device", "checkpoint", "trusted", "trusted_changes", "paths", "tracking"}
)
# What is measured of runs whose configuration does not say it: those from before there was a choice.
STANDARD = {
    "units": {"_target_": "lop_sweeps.diagnostics.units.Units"},
    "rank": {"_target_": "lop_sweeps.diagnostics.rank.Rank"},
    "weight_magnitude": {"_target_": "lop_sweeps.diagnostics.weight_magnitude.WeightMagnitude"},
    "deaths": {"_target_": "lop_sweeps.diagnostics.deaths.Deaths"},
}
SECTIONS = {"checkpoint": ("first", "every", "keep"), "paths": ("sweeps", "data")}


@dataclass(frozen=True)
class Components:
    """What one run consists of.

    trusted: module prefixes that its targets may come from. units, features: of each hidden layer; weights: in each
    weight matrix. packs_on: the devices on which packs are faster than one run after another. engine: fused or torch;
    reason: why. device: cpu or cuda; device_reason: why. tf32: whether products may be of TF32. agent: in control, how
    it learns. diagnostics: what is measured of it, by the key in the configuration. spans: the tasks in which each of
    the interventions acts.
    """

    benchmark: Benchmark
    network: Mapping[str, Any]
    optimizer: Optimizer
    interventions: tuple[Intervention, ...]
    dtype: torch.dtype
    trusted: Sequence[str]
    units: tuple[int, ...] = ()
    features: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    packs_on: frozenset[str] = frozenset()
    engine: str = "torch"
    reason: str = ""
    device: str = "cpu"
    device_reason: str = ""
    tf32: bool = False
    agent: PPO | None = None
    diagnostics: tuple[tuple[str, Diagnostic], ...] = ()
    spans: tuple[Span, ...] = ()
    schedule: Schedule = PLAIN

    def make_network(self) -> Network:
        """The network of this run, its weights not yet initialised."""
        benchmark = self.benchmark
        shape = getattr(benchmark, "shape", None)
        discrete = bool(getattr(benchmark, "discrete", False))
        return _build_network(self.network, self.trusted, benchmark.inputs, benchmark.outputs, shape, discrete)


def _build_network(
    node: Mapping[str, Any],
    trusted: Sequence[str],
    inputs: int,
    outputs: int,
    shape: tuple[int, ...] | None,
    discrete: bool,
) -> Network:
    """A network for these numbers of inputs and outputs, or for images of this shape if that is what it takes.

    discrete: whether the outputs are to be numbered actions, which policies are told.
    """
    given: dict[str, Any] = {"inputs": inputs, "outputs": outputs}
    known = parameters(locate(node, "network", trusted))
    if "discrete" in known:
        given["discrete"] = discrete
    if "shape" in known:
        if shape is None:
            raise ConfigError("network._target_", node["_target_"], "needs images, which this benchmark has not")
        given = {"shape": shape, "outputs": outputs}
    network: Network = build(node, "network", trusted, **given)
    return network


@lru_cache(maxsize=32)
def _network_to_look_at(
    node: str, trusted: tuple[str, ...], inputs: int, outputs: int, shape: tuple[int, ...] | None, discrete: bool
) -> Network:
    """A network without memory, for checks; the points of a sweep share it (a residual one takes 8 ms to make)."""
    with torch.device("meta"):
        network = _build_network(json.loads(node), trusted, inputs, outputs, shape, discrete)
    if not type(network).__module__.startswith(f"{KINDS['network'].package}."):  # those have their tests
        with torch.random.fork_rng(devices=[]):
            real = _build_network(json.loads(node), trusted, inputs, outputs, shape, discrete)
        call("network", check_graph, real, inputs, outputs)
    return network


def forget_classes() -> None:
    """Look for classes anew: a process that goes on, such as a notebook's, may have loaded a module again."""
    build_module.forget_classes()
    _network_to_look_at.cache_clear()


def assemble(config: Mapping[str, Any], trusted: Sequence[str] = (), *, data: bool = True) -> Components:
    """Build and check everything that `config` names, without allocating a network or reading data.

    trusted: module prefixes outside this package that the caller trusts; what `config` says of that is only shown.
    data: also check that the data set is there.
    Raises `ConfigError` with the key, its value and what is allowed, or `DataError` if the data are not there.
    """
    check_shape(config)
    trusted = check_trusted(trusted)
    benchmark: Benchmark = build(config["benchmark"], "benchmark", trusted)
    if getattr(benchmark, "protocol", None) not in PROTOCOLS:
        allowed = f"must be a benchmark, with a protocol, one of: {', '.join(PROTOCOLS)}"
        raise ConfigError("benchmark._target_", config["benchmark"]["_target_"], allowed)
    kept = config["checkpoint"].get("keep")
    for i, task in enumerate(checks.integers("checkpoint.keep", [] if kept is None else kept, 0)):
        checks.integer(f"checkpoint.keep[{i}]", task, 0, benchmark.num_tasks)
    agent = _agent(config, benchmark, trusted)
    if agent is None and benchmark.loss not in LOSSES:
        raise ConfigError("benchmark", benchmark.loss, f"its loss must be one of: {', '.join(LOSSES)}")
    known = parameters(locate(config["optimizer"], "optimizer", trusted))
    rule, scheduled = schedules.taken_out(config["optimizer"], known)
    schedule: Schedule = call("optimizer", lambda: Schedule(**scheduled))
    optimizer: Optimizer = build(rule, "optimizer", trusted)
    interventions, spans = [], []
    for name, node in config["algorithm"].items():
        if not isinstance(node, Mapping):
            raise ConfigError(f"algorithm.{name}", node, "must be an intervention with a _target_")
        known = parameters(locate(node, f"algorithm.{name}", trusted))
        node, span = taken_out(node, known)
        spans.append(call(f"algorithm.{name}", make_span, span))
        intervention: Intervention = build(node, f"algorithm.{name}", trusted)
        if not hasattr(intervention, "resets_units"):
            raise ConfigError(f"algorithm.{name}._target_", node["_target_"], "must have `resets_units`, true or false")
        interventions.append((name, intervention))
    dtype = DTYPES[config["precision"]]
    acting = tuple(intervention for _, intervention in interventions)
    made = Components(
        benchmark, config["network"], optimizer, acting, dtype, trusted, spans=tuple(spans), schedule=schedule
    )
    shape = getattr(benchmark, "shape", None)
    discrete = bool(getattr(benchmark, "discrete", False))
    network = _network_to_look_at(
        json.dumps(config["network"]), trusted, benchmark.inputs, benchmark.outputs, shape, discrete
    )
    batch_size = agent.batch_size if agent else int(getattr(benchmark, "batch_size", 1))
    call("network", network.check, batch_size)
    if agent and not isinstance(network, ActorCritic):
        allowed = "must be a policy and a value network, such as network=actor_critic"
        raise ConfigError("network._target_", config["network"]["_target_"], allowed)
    if isinstance(network, ActorCritic) and network.discrete != discrete:
        allowed = "must take `discrete` and hand it on: actions are numbered here"
        raise ConfigError("network._target_", config["network"]["_target_"], allowed)
    if check := getattr(optimizer, "check", None):
        call("optimizer", check, network)
    for name, intervention in interventions:
        call(f"algorithm.{name}", intervention.check, network)
        _check_needs(f"algorithm.{name}", intervention, benchmark.protocol)
    if benchmark.protocol != "epochs" and schedule.moves:
        key = "warm_up" if schedule.warm_up else "cosine"
        raise ConfigError(f"optimizer.{key}", scheduled[key], "needs a benchmark that trains in epochs")
    if agent and schedule.max_gradient_norm is not None:
        allowed = "must be null: in control, it is agent.max_gradient_norm"
        raise ConfigError("optimizer.max_gradient_norm", schedule.max_gradient_norm, allowed)
    if benchmark.protocol != "epochs" and (decay_at := getattr(optimizer, "decay_at", None)):
        raise ConfigError("optimizer.decay_at", list(decay_at), "needs a benchmark that trains in epochs")
    asked, tf32 = config.get("device") or "auto", config["precision"] == "tf32"
    there = asked == "auto" and devices.count() > 0
    chosen, reason = engine.choose(
        config["engine"],
        network,
        optimizer,
        made.interventions,
        benchmark.protocol,
        batch_size,
        schedule=schedule,
        restores=bool(getattr(benchmark, "restore_best", False)),
        gpu="asked" if asked == "cuda" or tf32 else "there" if there else "none",
    )
    device, device_reason = devices.choose(asked, chosen, control=agent is not None)
    if data:
        if tf32 and device != "cuda":
            raise ConfigError("precision", "tf32", "needs a GPU; on a CPU, use float32")
        benchmark.check_data(data_root(config["paths"].get("data")))
    return replace(
        made,
        units=tuple(layer.units for layer in network.unit_graph()),
        features=tuple(layer.num_features for layer in network.unit_graph()),
        weights=tuple(network.get_parameter(name).numel() for name in network.weights()),
        # Environments are stepped one after the other; on a CPU what is mapped takes three times as long.
        packs_on=frozenset(() if agent else network.packs_on if network.stackable else network.packs_on - {"cpu"}),
        engine=chosen,
        reason=reason,
        device=device,
        device_reason=device_reason,
        tf32=tf32,
        agent=agent,
        diagnostics=_diagnostics(config.get("diagnostics"), trusted, network, benchmark, chosen),
    )


def _check_needs(where: str, intervention: Intervention, protocol: str) -> None:
    """Raise `ConfigError` if an intervention needs what runs of this protocol cannot give it."""
    for need in sorted(getattr(intervention, "needs", ())):
        if need not in NEEDS:
            raise ConfigError(f"{where}.needs", need, f"must be of: {', '.join(NEEDS)}")
        if protocol not in NEEDS[need]:
            there = " and ".join(sorted(NEEDS[need]))
            raise ConfigError(
                where, None, f"needs {need}, which there is in {there} only; this benchmark is {protocol}"
            )


def _diagnostics(
    nodes: Any, trusted: Sequence[str], network: Network, benchmark: Benchmark, engine_name: str
) -> tuple[tuple[str, Diagnostic], ...]:
    """What is measured, checked; raises `ConfigError` for what this network, protocol or engine does not have."""
    made: list[tuple[str, Diagnostic]] = []
    owners: dict[str, str] = {}
    if not isinstance(nodes := STANDARD if nodes is None else nodes, Mapping):
        raise ConfigError("diagnostics", nodes, "must be choices of the group, such as diagnostics=[standard,churn]")
    for name, node in nodes.items():
        path = f"diagnostics.{name}"
        if not isinstance(node, Mapping):
            raise ConfigError(path, node, "must be a diagnostic with a _target_")
        one: Diagnostic = build(node, path, trusted)
        call(path, diagnostics.check, one, network, benchmark.protocol, engine_name, benchmark.loss)
        for value in one.values:
            if value.name in owners:
                raise ConfigError(path, None, f"measures {value.name}, and so does diagnostics.{owners[value.name]}")
            owners[value.name] = str(name)
        made.append((str(name), one))
    return tuple(made)


def _agent(config: Mapping[str, Any], benchmark: Benchmark, trusted: Sequence[str]) -> PPO | None:
    """The agent of a control benchmark; None for the others."""
    node = config.get("agent")
    if benchmark.protocol != "control":
        if node is not None:
            asked = node.get("_target_") if isinstance(node, Mapping) else node
            raise ConfigError("agent", asked, "must be null: this benchmark is not one of control")
        return None
    if not isinstance(node, Mapping):
        raise ConfigError("agent", node, "must be a choice of the group, such as agent=ppo")
    agent: PPO = build(node, "agent", trusted)
    if benchmark.log_every % agent.rollout:
        allowed = f"must be a multiple of agent.rollout ({agent.rollout})"
        raise ConfigError("benchmark.log_every", benchmark.log_every, allowed)
    return agent


def check_shape(config: Mapping[str, Any]) -> None:
    """Top-level keys, and the values that no component sees."""
    for key in config:
        if key not in KEYS:
            raise ConfigError(key, config[key], f"is not a key of an experiment{suggest(key, KEYS)}")
    for group in ("benchmark", "network", "optimizer", "algorithm"):
        if not isinstance(config.get(group), Mapping):
            raise ConfigError(group, config.get(group), f"must be a choice of the group: lop {group}=...")
    for section, known in SECTIONS.items():
        if not isinstance(config.get(section), Mapping):
            raise ConfigError(section, config.get(section), f"must have the keys {', '.join(known)}")
        for key, value in config[section].items():
            if key not in known:
                raise ConfigError(f"{section}.{key}", value, f"is not a key of {section}{suggest(key, known)}")
    checks.integer("seed", config.get("seed"), 0)
    checks.choice("precision", config.get("precision"), DTYPES)
    checks.choice("engine", config.get("engine"), engine.ENGINES)
    checks.choice("device", config.get("device") or "auto", devices.DEVICES)
    for key in ("first", "every"):
        checks.number(f"checkpoint.{key}", config["checkpoint"].get(key), 0.0)
    checks.text("paths.sweeps", config["paths"].get("sweeps"))
    checks.text("paths.data", config["paths"].get("data") or "data")
    sweep = Path(str(config.get("sweep")))
    if sweep.is_absolute() or ".." in sweep.parts:
        raise ConfigError("sweep", str(sweep), "must be a name: the runs go to <paths.sweeps>/<sweep>")
    optimizer = checks.choice("start_optimizer", config.get("start_optimizer") or "fresh", ("fresh", "kept"))
    if optimizer == "kept" and not config.get("start"):
        raise ConfigError("start_optimizer", "kept", "goes with start=RUN@TASK")
    checks.choice("trusted_changes", config.get("trusted_changes") or "refuse", ("refuse", "accept"))


def make_learner(
    runs: Sequence[Components], seeds: Sequence[int], name: str, device: torch.device | str = "cpu"
) -> engine.Learner:
    """The pack of runs with these components on engine `name`; the fused engine takes one run, on a CPU.

    Runs must agree in everything that a pack shares.
    """
    devices.use_tf32(runs[0].tf32)
    if name == "fused":
        from lop_sweeps.fused.learner import FusedLearner  # it loads compiled code

        (run,), (seed,) = runs, seeds
        return FusedLearner(
            run.make_network, run.optimizer, run.interventions, seed,
            run.benchmark.loss, run.dtype, run.spans, run.schedule,
        )  # fmt: skip
    interventions = list(zip(*[run.interventions for run in runs], strict=True))
    return TorchLearner(
        runs[0].make_network,
        [run.optimizer for run in runs],
        interventions,
        seeds,
        runs[0].benchmark.loss,
        runs[0].dtype,
        device,
        runs[0].spans,
        runs[0].schedule,
    )
