"""A policy at work, as a moving picture: rendered by MuJoCo, without a screen."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from lop_sweeps.benchmarks.benchmark import ControlBenchmark
from lop_sweeps.benchmarks.mujoco_library import VARIABLE as MUJOCO_GL
from lop_sweeps.errors import LopError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.sweeps.load_run import components_of, load_run
from lop_sweeps.training.metrics_log import MetricsLog

PIXELS, EVERY = 240, 2  # a picture's sides; environment steps between two pictures
SECONDS_PER_STEP = 0.05
BACKENDS = ("egl", "osmesa", "glfw")


def record(run: Path, file: Path, steps: int = 300, trusted: Sequence[str] = ()) -> Path:
    """Write `steps` environment steps of a run's mean actions to `file`, a GIF; episodes follow one another.

    The friction is that of the run's last row. trusted: as in `load_run`. Raises `LopError` if the run is not one of
    control or has no checkpoint, and with what to install if nothing here can render.
    """
    if not os.environ.get(MUJOCO_GL):
        os.environ.pop(MUJOCO_GL, None)  # gymnasium does not take an empty one for none
        if "DISPLAY" not in os.environ:
            os.environ[MUJOCO_GL] = "egl"
    network, config = load_run(run, trusted)
    benchmark = components_of(config, trusted).benchmark
    if benchmark.protocol != "control":
        raise LopError(f"{run}: only runs in an environment can be shown")
    if benchmark.discrete:
        raise LopError(f"{run}: only runs in MuJoCo's environments can be shown")
    _check_rendering()
    pictures = _pictures(benchmark, cast(ActorCritic, network), int(config["seed"]), _friction(run), steps)
    _write(file, pictures)
    return file


def _check_rendering() -> None:
    """Raise `LopError` where what MUJOCO_GL names cannot be had; gymnasium would leave a traceback on the screen."""
    backend = os.environ.get(MUJOCO_GL)
    if backend is None:  # gymnasium tries one after another
        return
    try:
        if backend not in BACKENDS:
            raise ValueError(f"must be one of {', '.join(BACKENDS)}")
        context = importlib.import_module(f"mujoco.{backend}").GLContext(PIXELS, PIXELS)
        context.free()
    except Exception as error:  # OpenGL's bindings raise all kinds
        raise _cannot_render(error) from error


def _friction(run: Path) -> float | None:
    rows = (run / MetricsLog.NAME).read_text().splitlines()
    friction: float | None = json.loads(rows[-1]).get("friction") if rows else None
    return friction


def _pictures(
    benchmark: ControlBenchmark, network: ActorCritic, seed: int, friction: float | None, steps: int
) -> list[np.ndarray]:
    environment = benchmark.make_environment(render="rgb_array")
    gym = environment.gym
    gym.mujoco_renderer.width = gym.mujoco_renderer.height = PIXELS
    if friction is not None:
        environment.set_friction(friction)
    observation, length, pictures = environment.reset(seed), 0, []
    dtype = network.log_std.dtype
    try:
        for step in range(steps):
            if step % EVERY == 0:
                pictures.append(np.asarray(gym.render()))
            with torch.no_grad():
                action = network.mean(torch.from_numpy(observation).to(dtype).unsqueeze(0))[0].numpy()
            observation, _, terminated = environment.step(action)
            length += 1
            if terminated or length == benchmark.max_episode_steps:
                observation, length = environment.reset(), 0
    except Exception as error:
        raise _cannot_render(error) from error
    finally:
        gym.close()
    return pictures


def _cannot_render(error: Exception) -> LopError:
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return LopError(
        "nothing here can render: MuJoCo needs OpenGL without a screen. Install EGL (libegl1) or OSMesa (libosmesa6) "
        f"and set MUJOCO_GL=egl or MUJOCO_GL=osmesa (it is {os.environ.get(MUJOCO_GL) or 'not set'}: {first})"
    )


def _write(file: Path, pictures: list[np.ndarray]) -> None:
    from PIL import Image

    frames = [Image.fromarray(picture).quantize(64) for picture in pictures]
    duration = round(1000 * SECONDS_PER_STEP * EVERY)
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=True)
