"""`load("wandb://entity/project?group=NAME")`: what is read back is what was logged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import yaml

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.remote import Address, rows_of
from lop_sweeps.tracking.rows import encode
from tests.tracking.conftest import LINE, SEEDS, TASKS, TRACKED, Lab, forget_records, names, tell
from tests.tracking.wandb_server import HISTORY

# Metrics keep their type; a hyper-parameter that is a whole number has lost what it was.
SAME = """
from pandas.testing import assert_frame_equal
from lop_sweeps.analysis.reading.load import load

here, there = load("sweeps/s"), load("wandb://lab/lop-sweeps?group=s")
metrics = [name for name in here.tasks.columns if "." not in name and name != "folder"]
assert "accuracy" in metrics and "dead_fraction" in metrics
assert_frame_equal(there.tasks[metrics], here.tasks[metrics], check_categorical=False)
for a, b in ((there.tasks, here.tasks), (there.runs, here.runs)):
    a, b = (frame.drop(columns="folder", errors="ignore") for frame in (a, b))
    assert_frame_equal(a, b, check_like=True, check_dtype=False, check_categorical=False)
print(there.notes, len(there.tasks))
"""
TOLD = """
from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.load import load

for url in {urls!r}:
    try:
        found = load(url)
        print(sorted(found.runs["seed"]), found.notes)
    except AnalysisError as error:
        print(error)
"""


def read(lab: Lab, script: str, **environment: str | None) -> list[str]:
    cache = {"XDG_CACHE_HOME": str(lab.folder / "cache")}
    return lab.python(script, **cache, **environment).end().out.splitlines()


def told(lab: Lab, *urls: str, **environment: str | None) -> list[str]:
    return read(lab, TOLD.format(urls=urls), **environment)


def downloads(lab: Lab) -> int:
    """Requests for rows; how many there are is asked each time."""
    return sum("History" in request and "HistoryKeys" not in request for request in lab.server.requests)


def frames_are_those_of_the_folder_and_downloaded_once(lab: Lab) -> None:
    line = [*TRACKED, "algorithm=backprop,continual_backprop", "optimizer.step_size=0.003,1e30"]
    lab.lop(*line).end()
    before = downloads(lab)
    assert read(lab, SAME) == [f"[] {2 * TASKS}"]  # the others have diverged
    once = downloads(lab)
    assert once >= before + 2
    assert read(lab, SAME) == [f"[] {2 * TASKS}"]
    assert downloads(lab) == once
    lab.lop(*line, "benchmark.num_tasks=6").end()
    before = downloads(lab)
    assert read(lab, SAME) == [f"[] {2 * 6}"]
    assert downloads(lab) >= before + 2
    assert lab.server.problems == []


def whole_histories_are_read(lab: Lab) -> None:
    """W&B's `history()` has 500 rows, the pages that are read 1,000."""
    lab.lop(*LINE).end()
    (run,) = lab.runs
    lengthen(run, 3000)
    lab.sync().end()
    assert read(lab, SAME) == ["[] 3000"]
    assert lab.server.problems == []


def forget(lab: Lab) -> None:
    """What was downloaded."""
    for path in (lab.folder / "cache").rglob("metrics.jsonl"):
        path.unlink()


def lengthen(run: Path, tasks: int) -> None:
    text = (run / "metrics.jsonl").read_text().splitlines()[-1]
    rows = ({**json.loads(text), "task": task, "accuracy": task / 7} for task in range(tasks))
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("config.yaml", "status.json"):
        content = yaml.safe_load((run / name).read_text()) | {"num_tasks": tasks}
        (run / name).write_text(json.dumps(content))
    forget_records(run)


def filters_choose_and_mistakes_are_explained(lab: Lab) -> None:
    lab.lop(*TRACKED, *SEEDS, "tracking.name='run ${seed}'", "tracking.tags=['seed ${seed}']").end()
    lab.lop(*TRACKED, "seed=7", "sweep=other", "tracking.job_type=tuning").end()
    base = "wandb://lab/lop-sweeps"
    chosen = {
        base: "[0, 1, 2, 7] []",
        f"{base}?group=s": "[0, 1, 2] []",
        f"{base}?group=s&group=other": "[0, 1, 2, 7] []",
        f"{base}?tag=seed+1": "[1] []",
        f"{base}?name=run+2&group=s": "[2] []",
        f"{base}?job_type=tuning": "[7] []",
        f"{base}?state=finished": "[0, 1, 2, 7] []",
        f"{base}?state=crashed": f"{base}?state=crashed: no runs",
        f"{base}?group=nobody": f"{base}?group=nobody: no runs",
    }
    wrong = {
        f"{base}?colour=red": "no filter 'colour'; there are group, tag, name, state, job_type",
        "wandb://": "must be wandb://entity/project, perhaps with ?group=NAME",
        "wandb://a/b/c": "must be wandb://entity/project, perhaps with ?group=NAME",
    }
    found = told(lab, *chosen, *wrong)
    assert found == [*chosen.values(), *(f"{url}: {text}" for url, text in wrong.items())]
    (nobody,) = told(lab, "wandb://nobody/nothing?group=s")
    assert nobody.startswith("wandb://nobody/nothing?group=s: ")
    assert told(lab, base, WANDB_MODE="offline") == ["[0, 1, 2, 7] []"]
    assert told(lab, base, WANDB_API_KEY=None) == [
        f"{base}: not logged in: put WANDB_API_KEY into .env, or run `wandb login`"
    ]
    (text,) = told(lab, base, WANDB_API_KEY="f" * 40)
    assert text.endswith("unknown API key")
    lab.server.vanish()
    (text,) = told(lab, base)
    assert text.startswith(f"{base}: ")


OTHERS = """
import wandb
wandb.init(project="lop-sweeps", name="somebody else's", group="s", config={"seed": 1}).finish()
"""


def what_is_missing_double_or_not_ours_is_noted_or_left_out(lab: Lab) -> None:
    lab.lop(*TRACKED, *SEEDS).end()
    lab.python(OTHERS).end()
    damaged, doubled, cut = (lab.stored(run) for run in sorted(lab.runs))
    base = "wandb://lab/lop-sweeps?group=s"
    note = f"1 run at {base} not of this project, left out"
    assert read(lab, SAME) == [f"{[note]} {3 * TASKS}"]
    # As after `wandb sync` of two files: rows again, with steps behind the others.
    lines = [json.loads(line) for line in doubled.lines(HISTORY)]
    doubled.streams[HISTORY] += [json.dumps({**line, "_step": line["_step"] + TASKS}) for line in lines]
    forget(lab)
    assert read(lab, SAME) == [f"{[note]} {3 * TASKS}"]
    del damaged.streams[HISTORY][1]
    del cut.streams[HISTORY][-1]
    forget(lab)
    (text,) = told(lab, base)
    assert f"{damaged.name}: 1 rows are missing in W&B; lop-status --sync sends them" in text
    assert f"{cut.name}: 1 rows are missing in W&B; lop-status --sync sends them" in text
    assert doubled.name not in text
    assert text.startswith("[0, 1, 2] ")


def states_are_those_of_the_log_or_what_wandb_knows(lab: Lab) -> None:
    lab.lop(*TRACKED, *SEEDS).end()
    done, crashed, running = (lab.stored(run) for run in lab.runs)
    crashed.state, running.state = "crashed", "running"
    script = """
    from lop_sweeps.analysis.reading.load import load
    runs = load("wandb://lab/lop-sweeps").runs
    print(dict(zip(runs["run"], runs["state"])))
    """
    expected = {done.name: "done", crashed.name: "waiting", running.name: "running"}
    assert read(lab, script) == [str(dict(sorted(expected.items())))]


DESCRIBED = """
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.reading.load import load

tasks = load("wandb://lab/lop-sweeps?group=s").tasks
print(quantity("zero_gradient_fraction").axis, quantity("churn").title, tasks["churn"].notna().sum())
"""


def diagnostics_are_described_there_too(lab: Lab) -> None:
    """Also those that a run has from its extension on; what everybody knows is not sent."""
    lab.lop(*TRACKED, "diagnostics=[standard,zero_gradients]").end()
    lab.lop(*TRACKED, "diagnostics=[standard,zero_gradients,churn]", "benchmark.num_tasks=6").end()
    assert read(lab, SAME) == ["[] 6"]
    (line,) = read(lab, DESCRIBED)
    assert line == f"Weights without gradient (%) Churn {6 - TASKS}"
    (run,) = lab.runs
    sent = lab.stored(run).config["described"]
    assert set(sent) == {"zero_gradient_fraction", "churn", "churn_kl"}
    assert lab.server.problems == []


STORIES = (
    frames_are_those_of_the_folder_and_downloaded_once,
    diagnostics_are_described_there_too,
    whole_histories_are_read,
    filters_choose_and_mistakes_are_explained,
    what_is_missing_double_or_not_ours_is_noted_or_left_out,
    states_are_those_of_the_log_or_what_wandb_knows,
)


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request)


@pytest.mark.parametrize("story", names(STORIES))
def test_remote(stories: dict[str, Future[None]], story: str) -> None:
    stories[story].result()


@pytest.mark.parametrize(
    ("url", "path", "filters"),
    [
        ("wandb://lab/p", "lab/p", {"jobType": {"$ne": "figures"}}),
        ("wandb://p", "p", {"jobType": {"$ne": "figures"}}),
        ("wandb://lab/p?group=a&group=b", "lab/p", {"group": {"$in": ["a", "b"]}, "jobType": {"$ne": "figures"}}),
        ("wandb://lab/my%20p?job_type=tune", "lab/my p", {"jobType": {"$in": ["tune"]}}),
        ("wandb://lab/p?group=a%26b", "lab/p", {"group": {"$in": ["a&b"]}, "jobType": {"$ne": "figures"}}),
    ],
)
def test_addresses(url: str, path: str, filters: dict[str, Any]) -> None:
    assert Address.parse(url) == Address(path, filters)


@pytest.mark.parametrize(
    "url", ["wandb://", "wandb://a/b/c", "wandb://a/b?x=1", "wandb://a/b?group", "wandb://a/b?group="]
)
def test_mistakes_in_addresses(url: str) -> None:
    with pytest.raises(AnalysisError, match="wandb://"):
        Address.parse(url)


def test_rows_come_back_in_the_order_of_tasks_each_once() -> None:
    rows = [{"task": task, "examples": 10 * task, "accuracy": task / 3, "dead": [0.5, task / 7]} for task in range(5)]
    sent = [{**encode(row), "_step": step} for step, row in enumerate([rows[1], rows[0], *rows])]
    assert rows_of([{"_step": 99, "summary": 1}, *sent]) == rows
