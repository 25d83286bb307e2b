"""`lop-figures --video`: a policy at work, or what is missing to show it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lop_sweeps.benchmarks import mujoco_library
from lop_sweeps.errors import LopError
from lop_sweeps.sweeps import video
from tests import runs
from tests.contracts.table import SLIPPERY

RECORD = """
import sys
from pathlib import Path
from lop_sweeps.sweeps.video import record
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


@pytest.mark.slow
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


@pytest.mark.parametrize("backend", ["nonsense", "osmesa"])
def test_what_cannot_be_rendered_is_said(
    trained: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 5.8: with what MUJOCO_GL says now, not what it said when MuJoCo was imported."""
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setitem(sys.modules, "mujoco.osmesa", None)
    with pytest.raises(LopError, match=f"MUJOCO_GL.*{backend}") as caught:
        video.record(trained, tmp_path / "policy.gif", 2)
    assert "libegl1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["osmesa", "nonsense", None])
def test_training_draws_nothing_whatever_is_set(backend: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 5.8: MuJoCo loads OpenGL at its import, or fails there, unless the variable says that it should not."""
    if backend is None:
        monkeypatch.delenv("MUJOCO_GL", raising=False)
    else:
        monkeypatch.setenv("MUJOCO_GL", backend)
    with mujoco_library._without_drawing():
        assert os.environ["MUJOCO_GL"] == "disabled"
    assert os.environ.get("MUJOCO_GL") == backend
    assert not hasattr(mujoco_library.mujoco, "GLContext")  # it was imported so


def test_run_without_an_environment_is_refused(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL)
    runs.train(plan)
    with pytest.raises(LopError, match="only runs in an environment"):
        video.record(plan.points[0].directory.path, tmp_path / "x.gif")
