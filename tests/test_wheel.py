"""The wheel holds every module and config; an editable install cannot show it, for it reads the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGES = {
    "lop_sweeps": "lop_sweeps",
    "conf": "lop_sweeps/conf",
    "analysis": "lop_sweeps/analysis",
    "hydra_plugins/lop_sweeps": "hydra_plugins/lop_sweeps",
}


def python(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """What the command prints; fails with all it said unless it exits with 0."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: in the checkout, build/ would add to the wheel what has been deleted since the last build."""
    copy = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_every_module_and_config_is_in_the_wheel(source: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"lop_sweeps/conf/config.yaml", "lop_sweeps/analysis/__init__.py"} <= shipped
    assert shipped == {
        f"{package}/{path.relative_to(source / folder).as_posix()}"
        for folder, package in PACKAGES.items()
        for path in (source / folder).rglob("*")
        if path.suffix in {".py", ".yaml"} or path.name == "py.typed"
    }


@pytest.mark.slow
def test_installed_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """From another folder and with -P, only the wheel can answer: the editable install is asked last."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    python("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site, wheel, cwd=elsewhere)
    names = ("lop_sweeps", "lop_sweeps.conf", "lop_sweeps.analysis", "lop_sweeps.fused.learner")
    show = f"import {', '.join(names)}; print({', '.join(f'{name}.__file__' for name in names)}, sep='\\n')"
    for file in python("-P", "-c", show, cwd=elsewhere, PYTHONPATH=str(site)).splitlines():
        assert Path(file).is_relative_to(site)
    assert "benchmark" in python("-P", "-m", "lop_sweeps", "--cfg", "job", cwd=elsewhere, PYTHONPATH=str(site))
    python("-P", "-m", "lop_sweeps.new", "network", "my_network", cwd=elsewhere, PYTHONPATH=str(site))
    assert (elsewhere / "conf" / "network" / "my_network.yaml").is_file()
    # The fused engine would be compiled anew in the wheel's folder, which takes half a minute.
    line = ["-m", "scale=tiny", "benchmark.num_tasks=1", "network.hidden=[5]", "seed=0,1", "engine=torch"]
    python("-P", "-m", "lop_sweeps", *line, cwd=elsewhere, PYTHONPATH=str(site))
    assert len(list(elsewhere.glob("sweeps/permuted_digits-tiny/*/metrics.jsonl"))) == 2
