"""Figures go to files whatever the user's matplotlib is set to (cases 5.2)."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from lop_sweeps.analysis.figures import canvas
from lop_sweeps.analysis.figures.performance import performance
from lop_sweeps.analysis.figures.style import settings
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.report import Options, make
from tests.analysis.sweep_builder import SweepBuilder

HOSTILE = {
    "text.usetex": True,
    "font.family": "no such font",
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "savefig.format": "no",
    "savefig.dpi": 7,
    "figure.constrained_layout.use": False,
    "figure.autolayout": True,
    "axes.formatter.use_locale": True,
    "path.sketch": (5, 50, 1),
    "lines.linestyle": "none",
    "svg.fonttype": "none",
    "figure.max_open_warning": 1,
}


def test_settings_of_the_users_change_no_file(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    options = Options(figures=["performance"], formats=["png", "svg", "pdf"])
    make(sweep.folder, tmp_path / "usual", options)
    with mpl.rc_context(HOSTILE):
        make(sweep.folder, tmp_path / "hostile", options)
    for path in (tmp_path / "usual").iterdir():
        assert path.read_bytes() == (tmp_path / "hostile" / path.name).read_bytes()


def test_drawing_leaves_the_users_settings(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    with mpl.rc_context(HOSTILE):
        before = dict(mpl.rcParams)
        canvas.save(performance(loaded.tasks, loaded.runs), [tmp_path / "a.png"], settings("paper"))
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("trouble", ["backend", "rc", "rc in the folder"])
def test_matplotlib_is_imported_without_what_stops_it(tmp_path: Path, trouble: str) -> None:
    """`!lop-figures` in a notebook sets MPLBACKEND; a settings file may be no text."""
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe\x00")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MPL")}
    environment |= {
        "backend": {"MPLBACKEND": "no such backend"},
        "rc": {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        "rc in the folder": {"HOME": str(tmp_path / "nowhere")},
    }[trouble]
    code = (
        "import os; before = dict(os.environ); from lop_sweeps.analysis.figures import canvas; import matplotlib; "
        "from matplotlib.figure import Figure; canvas.save(Figure(), [__import__('pathlib').Path('a.png')], {}); "
        "assert dict(os.environ) == before"
    )
    folder = tmp_path if trouble == "rc in the folder" else tmp_path / "work"
    folder.mkdir(exist_ok=True)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert (folder / "a.png").stat().st_size > 100
