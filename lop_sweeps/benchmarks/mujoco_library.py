"""MuJoCo and gymnasium's environments of it, imported without OpenGL: training draws nothing.

MuJoCo loads at its import what MUJOCO_GL names, and fails where that cannot be had (a batch job that inherits
`MUJOCO_GL=osmesa` from a notebook). Who draws (see `sweep.video`) goes through gymnasium, which reads MUJOCO_GL then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

VARIABLE = "MUJOCO_GL"


@contextlib.contextmanager
def _without_drawing() -> Iterator[None]:
    given = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "disabled"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if given is not None:
            os.environ[VARIABLE] = given


with _without_drawing():
    import mujoco
    from gymnasium.envs.mujoco import MujocoEnv

__all__ = ["VARIABLE", "MujocoEnv", "mujoco"]
