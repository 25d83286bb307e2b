"""Runs for tests: composed, checked and trained in this process, or in a forked child that can be killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from hydra_plugins.lop_sweeps import register
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.expansion import trusted_by
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Pack, Plan, Point, make_plan

SMALL = ["scale=tiny", "network=mlp", "network.hidden=[12,12]", "checkpoint.first=0", "checkpoint.every=0"]
TORCH = "engine=torch"  # runs trained in step: one position, one pack.json, a failure that concerns them all


@lru_cache(maxsize=1)
def composer() -> Composer:
    register()
    with initialize_config_module("lop_sweeps.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


def point(sweeps: Path, *overrides: str) -> Point:
    """The checked point of these overrides, its runs under `sweeps`; they are typed by somebody, so trust counts."""
    one = composer()
    one.trusted = trusted_by([line for line in overrides if "trusted" in line])  # parsing takes milliseconds
    return one.point(None, [*overrides, f"paths.sweeps={sweeps}"])


def plan(sweeps: Path, *overrides: str, seeds: int = 1, pack: int | None = None, threads: int = 1) -> Plan:
    """The plan of one configuration with seeds 0, 1, ..."""
    points = [point(sweeps, *overrides, f"seed={seed}") for seed in range(seeds)]
    return make_plan(points, workers=1, pack=pack, threads=threads)


def nobody(*arguments: Any) -> None:
    """Progress that nobody watches."""


def train(the_plan: Plan) -> list[Outcome]:
    return [outcome for pack in the_plan.packs for outcome in run_pack(pack, nobody, lambda: False)]


def train_and_kill(pack: Pack, after_intervals: int | None = None, after_seconds: float | None = None) -> bool:
    """Train a pack in a child process that is killed (SIGKILL) meanwhile; whether it was, before it ended.

    A child in which a run fails, or that finds its runs taken, fails the test: it would be tried for nothing.
    """
    intervals = 0

    def child() -> None:
        def on_progress(*progress: float) -> None:
            nonlocal intervals
            if intervals == after_intervals:
                os.kill(os.getpid(), signal.SIGKILL)
            intervals += 1

        for outcome in run_pack(pack, on_progress, lambda: False):
            if outcome.state in ("failed", "busy"):
                sys.exit(f"{outcome.run.name} {outcome.state}: {outcome.message}")

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(after_seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), "see what the child wrote to stderr"
    return process.exitcode == -signal.SIGKILL


def metrics(the_point: Point) -> bytes:
    return (the_point.directory.path / "metrics.jsonl").read_bytes()


def assert_close(log: bytes, other_log: bytes, tolerance: float) -> None:
    """Two logs of the same rows and columns, whose numbers agree within `tolerance`, relative or absolute."""
    for a, b in zip(log.splitlines(), other_log.splitlines(), strict=True):
        _assert_close(json.loads(a), json.loads(b), tolerance)


def _assert_close(row: dict[str, Any], twin: dict[str, Any], tolerance: float) -> None:
    assert list(row) == list(twin)
    for name, value in row.items():
        if isinstance(value, dict):
            _assert_close(value, twin[name], tolerance)
        else:
            assert np.allclose(value, twin[name], rtol=tolerance, atol=tolerance), name
