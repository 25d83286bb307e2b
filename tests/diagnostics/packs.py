"""Packs as diagnostics see them: with given layers, or of real runs before their first task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.data import data_root
from lop_sweeps.diagnostics.measure import LayerSample
from lop_sweeps.diagnostics.rank import Rank
from lop_sweeps.diagnostics.units import Units
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.training.components import Components, assemble, make_learner
from lop_sweeps.training.control import Control, ControlStage
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.online import OnlineStage
from lop_sweeps.training.session import Member, Stage
from lop_sweeps.training.view import Moment
from tests import runs


def measured(layers: Sequence[LayerSample], count: int) -> list[dict[str, list[float]]]:
    """What the diagnostics of units and ranks say of each run."""
    pack: Any = SimpleNamespace(layers=layers, runs=[None] * count)
    both = zip(Units().measure_pack(pack), Rank().measure_pack(pack), strict=True)
    return [{**units, **ranks} for units, ranks in both]  # type: ignore[dict-item]


def components(sweeps: Path, *overrides: str) -> Components:
    """What a run of these overrides consists of, its data loaded."""
    point = runs.point(sweeps, *overrides)
    made = assemble(configured(point.config), point.trusted)
    made.benchmark.load(data_root(point.config["paths"]["data"]))
    return made


def stage_of(learner: Learner, made: Components, seeds: Sequence[int], task: int) -> Stage:
    benchmark: Benchmark = made.benchmark
    if benchmark.protocol == "online":
        return OnlineStage(learner, benchmark, seeds, task)
    if benchmark.protocol == "epochs":
        return EpochsStage(learner, benchmark, seeds, task)
    assert isinstance(learner, TorchLearner)
    assert made.agent is not None
    members = [Member(Path("nowhere"), seed) for seed in seeds]
    return ControlStage(learner, Control(benchmark, [made.agent] * len(seeds), members), task)


def moment(made: Components, seeds: Sequence[int] = (0,), task: int = 0, engine: str | None = None) -> Moment:
    """Runs with these seeds before a task, as they were drawn."""
    name = engine or made.engine
    learner = make_learner([made] * len(seeds), seeds, name)
    stage = stage_of(learner, made, seeds, task)
    with torch.no_grad():
        layers = stage.probe()
    return Moment(learner, [made] * len(seeds), name, stage, task, layers, learner.magnitudes(), [True] * len(seeds))
