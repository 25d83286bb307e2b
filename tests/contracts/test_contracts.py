"""The contracts of a run, for every row of the table."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.sweep.execute import load_run
from lop_sweeps.training import online
from tests import runs
from tests.contracts.table import ROWS, rows, small


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Boundaries inside tasks, at steps that do not divide them."""
    overrides = getattr(request.node, "callspec", None) and request.node.callspec.params["overrides"]
    monkeypatch.setattr(online, "INTERVAL", 7 if overrides and "benchmark.batch_size=10" in overrides else 70)


@rows()
def test_killed_and_resumed_equals_uninterrupted_byte_for_byte(tmp_path: Path, overrides: list[str]) -> None:
    whole = runs.plan(tmp_path / "whole", *small(overrides), seeds=2)
    assert {outcome.state for outcome in runs.train(whole)} == {"done"}
    rng = random.Random(len(overrides))
    kills = 0
    for attempt in range(60):
        killed = runs.plan(tmp_path / "killed", *small(overrides), seeds=2)
        if not killed.packs:
            break
        # Just before a checkpoint, and at any moment, saving included.
        intervals, seconds = (rng.randint(0, 2), None) if attempt < 2 else (None, rng.uniform(0.05, 0.3))
        kills += runs.train_and_kill(killed.packs[0], after_intervals=intervals, after_seconds=seconds)
    else:
        pytest.fail("the run never ended")
    assert kills >= 2
    for one, other in zip(whole.points, killed.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


@rows()
def test_pack_of_five_equals_each_run_alone(tmp_path: Path, overrides: list[str]) -> None:
    together = runs.plan(tmp_path / "five", *small(overrides), "precision=float64", seeds=5, pack=5)
    alone = runs.plan(tmp_path / "one", *small(overrides), "precision=float64", seeds=5, pack=1)
    assert (len(together.packs), len(alone.packs)) == (1, 5)
    runs.train(together)
    runs.train(alone)
    for one, other in zip(together.points, alone.points, strict=True):
        for a, b in zip(runs.metrics(one).splitlines(), runs.metrics(other).splitlines(), strict=True):
            row, twin = json.loads(a), json.loads(b)
            assert list(row) == list(twin)
            for name in row:
                assert np.allclose(row[name], twin[name], rtol=1e-9, atol=1e-9), name


@rows("cbp_adam", "dropout", "online_norm")
def test_same_pack_twice_is_the_same_bytes(tmp_path: Path, overrides: list[str]) -> None:
    plans = [runs.plan(tmp_path / name, *small(overrides), seeds=3) for name in ("a", "b")]
    for the_plan in plans:
        runs.train(the_plan)
    for one, other in zip(plans[0].points, plans[1].points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


@rows("backprop", "cbp_adam", "batch_norm", "regression_cbp_tanh", "linear")
def test_extended_run_equals_a_run_that_was_long_from_the_start(tmp_path: Path, overrides: list[str]) -> None:
    short = runs.plan(tmp_path / "extended", *small(overrides), "benchmark.num_tasks=2", seeds=2)
    runs.train(short)
    first = runs.metrics(short.points[0])
    longer = runs.plan(tmp_path / "extended", *small(overrides), "benchmark.num_tasks=4", seeds=2)
    assert [p.directory.name for p in longer.points] == [p.directory.name for p in short.points]
    runs.train(longer)
    long = runs.plan(tmp_path / "long", *small(overrides), "benchmark.num_tasks=4", seeds=2)
    runs.train(long)
    assert runs.metrics(longer.points[0]).startswith(first)
    for one, other in zip(longer.points, long.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


def test_same_seed_gives_the_same_tasks_and_initial_weights_to_every_algorithm(tmp_path: Path) -> None:
    """Unpaired comparisons were one of the mistakes: no seed set, or algorithms drawing from one another's stream."""
    digits = [name for name, o in ROWS.items() if "benchmark=permuted_digits" in o and "network=linear" not in o]
    seen = set()
    for name in digits:
        the_plan = runs.plan(tmp_path / name, *small(ROWS[name]), "benchmark.num_tasks=1")
        runs.train(the_plan)
        row = json.loads(runs.metrics(the_plan.points[0]).splitlines()[0])
        seen.add(tuple(row["weight_magnitude"]))  # before the first task
    assert len(seen) == 1
    first = runs.point(tmp_path, *small(ROWS["cbp"])).config["benchmark"]
    assert first["examples_per_task"] == 200


@rows("cbp_norm_dropout", "regression_linear", "batch_norm")
def test_load_run_gives_back_the_trained_network(tmp_path: Path, overrides: list[str]) -> None:
    the_plan = runs.plan(tmp_path, *small(overrides), "precision=float64", seeds=2)
    runs.train(the_plan)
    network, config = load_run(the_plan.points[1].directory.path)
    assert config["seed"] == 1
    last = json.loads(runs.metrics(the_plan.points[1]).splitlines()[-1])
    first_weight = dict(network.named_parameters())["layers.0.weight"]
    assert first_weight.abs().mean().item() == pytest.approx(last["weight_magnitude_task"][0], rel=0.05)
