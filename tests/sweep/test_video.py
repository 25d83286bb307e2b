"""`lop-figures --video`: a policy at work, or what is missing to show it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lop_sweeps.errors import LopError
from lop_sweeps.sweep import video
from tests import runs
from tests.contracts.table import SLIPPERY

RECORD = """
import sys
from pathlib import Path
from lop_sweeps.sweep.video import record
record(Path(sys.argv[1]), Path(sys.argv[2]), 20)
"""
RENDERS = """
import os
os.environ.setdefault("MUJOCO_GL", "egl")
import gymnasium
gymnasium.make("Hopper-v5", render_mode="rgb_array").unwrapped.render()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = runs.plan(tmp_path_factory.mktemp("video"), "scale=tiny", *SLIPPERY)
    runs.train(plan)
    return plan.points[0].directory.path


def test_policy_at_work(trained: Path, tmp_path: Path) -> None:
    """In a process of its own, because what MUJOCO_GL names is loaded only once."""
    if subprocess.run([sys.executable, "-c", RENDERS], capture_output=True, check=False).returncode:
        pytest.skip("no OpenGL without a screen here (libegl1 or libosmesa6)")
    file = tmp_path / "policy.gif"
    subprocess.run([sys.executable, "-c", RECORD, str(trained), str(file)], check=True)
    with Image.open(file) as picture:
        assert (getattr(picture, "n_frames", 1), picture.size) == (10, (video.PIXELS, video.PIXELS))
        first = picture.convert("RGB").tobytes()
        picture.seek(9)
        assert picture.convert("RGB").tobytes() != first  # something moves


def test_what_cannot_be_rendered_is_said(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORD, str(trained), str(tmp_path / "policy.gif")]
    environment = {**os.environ, "MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "nothing here can render" in done.stderr
    assert "libegl1" in done.stderr


def test_run_without_an_environment_is_refused(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL)
    runs.train(plan)
    with pytest.raises(LopError, match="only runs in an environment"):
        video.record(plan.points[0].directory.path, tmp_path / "x.gif")
