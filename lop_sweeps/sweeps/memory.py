"""How many runs of a pack have room side by side."""

from __future__ import annotations

import torch

from lop_sweeps.data import data_root
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.sweeps.planning import Pack
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training import devices, session
from lop_sweeps.training.components import assemble, make_learner
from lop_sweeps.training.control import Control
from lop_sweeps.training.measuring import Measuring
from lop_sweeps.training.train import first_interval


def is_lack_of_memory(error: Exception) -> bool:
    """PyTorch's allocator for CPUs says so in a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def runs_that_fit(pack: Pack) -> int:
    """How many of a new pack's runs have room on the GPU, by what a step of one and of two of them takes."""
    config = RunDirectory(pack.folder / pack.todo[0]).config()
    components = assemble(configured(config), pack.trusted)
    components.benchmark.load(data_root(config["paths"].get("data")))

    def step(runs: int) -> None:
        learner = make_learner([components] * runs, range(runs), pack.engine, pack.device)
        control = None
        if components.benchmark.protocol == "control" and components.agent:
            members = [session.Member(pack.folder / name, 0) for name in pack.todo[:runs]]
            control = Control(components.benchmark, [components.agent] * runs, members)
        measuring = Measuring(learner, [components] * runs, pack.engine)
        first_interval(learner, components.benchmark, range(runs), control, measuring)

    return devices.runs_that_fit(step)
