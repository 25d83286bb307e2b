"""Figures and tables in the group of their sweep."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.tracking.conftest import SEEDS, TRACKED, Command, Lab, names, tell

UPLOAD = """
from pathlib import Path
from PIL import Image
from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.run_directory import runs_in
from lop_sweeps.tracking.upload import upload

Image.new("RGB", (2, 3), (255, 0, 0)).save("red.png")
Path("table.md").write_text("| a<b | 0.5 |")
Path("figure.pdf").write_bytes(b"not shown")
try:
    paths = [Path(name) for name in ("red.png", "figure.pdf", "table.md")]
    print(upload(paths, next(runs_in(Path("sweeps/s")))))
except LopError as error:
    print(error)
"""
READ = """
from lop_sweeps.analysis.reading.load import load
print(len(load("wandb://lab/lop-sweeps?group=s").runs), load("wandb://lab/lop-sweeps").notes)
"""


def sweep(lab: Lab) -> None:
    lab.lop(*TRACKED, *SEEDS).end()


def uploaded(lab: Lab, **environment: str | None) -> Command:
    return lab.python(UPLOAD, WANDB_DIR=None, **environment).end()


def figures_and_tables_are_a_run_of_their_own_in_the_group(lab: Lab) -> None:
    sweep(lab)
    for times in (1, 2):
        url = uploaded(lab).out.strip()
        (figures,) = [run for run in lab.server.runs.values() if run.job_type == "figures"]
        assert url.endswith(f"/lab/lop-sweeps/runs/{figures.id}")
        assert (figures.group, figures.name, figures.state) == ("s", "figures of s", "finished")
        assert len(figures.history) == times
        shown = set(figures.history[-1])
        assert {"figures/red", "tables/table"} <= shown
        assert not any("figure.pdf" in key or "figures/figure" in key for key in shown)
        pictures = [content for name, content in figures.files.items() if name.startswith("media/images/figures/red")]
        assert (lab.folder / "red.png").read_bytes() in pictures
        tables = [content for name, content in figures.files.items() if name.startswith("media/html/tables/table")]
        assert any(b"| a&lt;b | 0.5 |" in content for content in tables)
    assert not (lab.folder / "wandb").exists()
    read = lab.python(READ, XDG_CACHE_HOME=str(lab.folder / "cache")).end()
    assert read.out == "3 []\n"
    assert lab.server.problems == []


def an_upload_that_fails_says_why(lab: Lab) -> None:
    sweep(lab)
    not_logged_in = "Weights & Biases: not logged in: put WANDB_API_KEY into .env, or run `wandb login`\n"
    assert uploaded(lab, WANDB_API_KEY=None).out == not_logged_in
    assert uploaded(lab, WANDB_API_KEY="f" * 40).out.endswith("unknown API key\n")
    lab.server.vanish()
    assert uploaded(lab).out == "Weights & Biases: the server does not answer\n"


STORIES = (figures_and_tables_are_a_run_of_their_own_in_the_group, an_upload_that_fails_says_why)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request)


@pytest.mark.parametrize("story", names(STORIES))
def test_upload(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()
