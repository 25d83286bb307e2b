"""Begin with the network that another run had: its learning state into a fresh learner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lop_sweeps.errors import CheckpointError
from lop_sweeps.training.control import Control
from lop_sweeps.training.engine import Learner


@dataclass(frozen=True)
class Branch:
    """payload: the parent's learning state (`checkpoint.load_kept`). keeps_optimizer: whether the optimiser goes on.
    same_seed: whether the parent has the seed of the run, so that the environments go on, too.
    """

    payload: Mapping[str, Any]
    keeps_optimizer: bool = False
    same_seed: bool = True


@torch.no_grad()
def begin(learner: Learner, branches: Sequence[Branch | None], control: Control | None) -> None:
    """Put what each run (None: an inactive one) begins with into a learner that has just been made."""
    fresh = {name: value.detach().clone() for name, value in learner.state().items()}
    for run, branch in enumerate(branches):
        if branch is None:
            continue
        theirs = branch.payload["learner"]
        state = {name: value[run] for name, value in fresh.items()}
        for name, value in state.items():
            taken = name == "parameters" or name.startswith("buffers/")
            if taken or (branch.keeps_optimizer and name.startswith("optimizer/")):
                state[name] = _fitted(name, theirs.get(name), value)
        learner.load(run, state)
        if control is not None and branch.same_seed:
            control.restore(run, branch.payload["world"])
        elif control is not None:
            control.begin_at(run, branch.payload["world"])


def _fitted(name: str, theirs: Tensor | None, ours: Tensor) -> Tensor:
    """A parent's tensor in the shape that it has here.

    Adam counts steps for each parameter where units are replaced, and for the run elsewhere.
    """
    if theirs is not None and theirs.shape == ours.shape:
        return theirs
    if theirs is not None and theirs.numel() == 1:
        return theirs.expand_as(ours).clone()
    if theirs is not None and ours.numel() == 1 and bool((theirs == theirs.flatten()[0]).all()):
        return theirs.flatten()[:1].view_as(ours)
    what = f"has no {name}" if theirs is None else f"has {name} of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"
    raise CheckpointError(f"the parent's learning state {what}: start_optimizer=kept needs an optimiser like its own")
