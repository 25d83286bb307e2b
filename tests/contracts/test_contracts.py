"""The contracts of a run, for every row of the table, on every engine."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
import torch

from lop_sweeps.errors import ConfigError
from lop_sweeps.fused import learner as fused
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.load_run import load_run
from lop_sweeps.training import epochs, online
from tests import runs
from tests.contracts.table import METHODS, ROWS, each_row, engines, rows, small

FUSED = "engine=fused"


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Boundaries inside tasks, at steps that do not divide them."""
    overrides = getattr(request.node, "callspec", None) and request.node.callspec.params.get("overrides")
    monkeypatch.setattr(epochs, "INTERVAL", 2)
    monkeypatch.setattr(online, "INTERVAL", 7 if overrides and "benchmark.batch_size=10" in overrides else 70)


@pytest.mark.parametrize("name", each_row(long=True))
def test_each_engine_takes_the_rows_that_it_can_and_auto_finds_it(tmp_path: Path, name: str) -> None:
    best = engines(name)[-1]  # fused, where it can
    point = runs.point(tmp_path, *small(ROWS[name]))
    assert point.engine == best
    for engine in ("fused", "torch"):
        if engine in engines(name):
            asked = runs.point(tmp_path, *small(ROWS[name]), f"engine={engine}")
            assert (asked.engine, asked.directory.name) == (engine, point.directory.name)
        else:
            with pytest.raises(ConfigError, match=f"engine = '{engine}'"):
                runs.point(tmp_path, *small(ROWS[name]), f"engine={engine}")


# Rows of each kind of run (protocol, engine, state), killed more often than the others.
OFTEN_KILLED = frozenset(("backprop", "cbp_adam", "batch_norm", "imagenet_cbp", "cifar_redo", "ant_cbp_l2"))


@rows(long=True)
def test_killed_and_resumed_equals_uninterrupted_byte_for_byte(
    tmp_path: Path, overrides: list[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """On the fused engine whatever the cuts between calls of the compiled loop are, and whoever is trained beside.

    Killed just before a checkpoint; some rows several times, and at any moment, saving included; in the end not at all.
    """
    whole = runs.plan(tmp_path / "whole", *small(overrides), seeds=2)
    assert {outcome.state for outcome in runs.train(whole)} == {"done"}
    monkeypatch.setattr(fused, "_WORK_PER_CALL", 0)  # from here on, each interval is a call: a boundary
    rng = random.Random(len(overrides))
    often = request.node.callspec.id.rpartition("-")[0] in OFTEN_KILLED
    kills, attempts = 0, 1 if not often else 3 if FUSED in overrides else 2
    for attempt in range(60):
        # On the torch engine a run keeps its pack; on the fused one, now each is alone and now both are at work.
        beside = 1 + attempt % 2 if FUSED in overrides else None
        killed = runs.plan(tmp_path / "killed", *small(overrides), seeds=2, pack=beside, threads=beside or 1)
        if killed.finished == len(killed.points):
            break
        if killed.busy:  # killed between making a lock and writing into it: for a minute, nobody knows whose it is
            for lock in tmp_path.rglob("lock"):
                os.utime(lock, (0, 0))
            continue
        intervals = rng.randint(0, 2) if attempt < attempts else None
        seconds = rng.uniform(0.05, 0.3) if often and attempt == attempts else None
        kills += runs.train_and_kill(killed.packs[-1], after_intervals=intervals, after_seconds=seconds)
    else:
        pytest.fail("the run never ended")
    assert kills >= attempts
    for one, other in zip(whole.points, killed.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


@rows(engine="torch", long=True)
def test_pack_of_five_equals_each_run_alone(tmp_path: Path, overrides: list[str]) -> None:
    """Which of the five is trained alone changes with the row, and over the rows all are."""
    together = runs.plan(tmp_path / "five", *small(overrides), "precision=float64", seeds=5, pack=5)
    alone = runs.plan(tmp_path / "one", *small(overrides), "precision=float64", seeds=5, pack=1)
    assert (len(together.packs), len(alone.packs)) == (1, 5)
    runs.train(together)
    seed = random.Random("".join(overrides)).randrange(5)
    one, other = together.points[seed], alone.points[seed]
    (pack,) = (pack for pack in alone.packs if pack.members == (other.directory.name,))
    run_pack(pack, runs.nobody, lambda: False)
    runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)


@rows(engine="fused", long=True)
def test_together_in_a_process_is_the_same_bytes_as_alone(tmp_path: Path, overrides: list[str]) -> None:
    """The fused engine's runs have nothing to do with each other: one after another, or in two threads at once."""
    alone = runs.plan(tmp_path / "one", *small(overrides), seeds=3)
    assert [len(pack.members) for pack in alone.packs] == [1, 1, 1]
    runs.train(alone)
    for threads in (1, 2):
        together = runs.plan(tmp_path / f"{threads}", *small(overrides), seeds=3, pack=3, threads=threads)
        assert [(len(pack.members), pack.threads) for pack in together.packs] == [(3, threads)]
        assert {outcome.state for outcome in runs.train(together)} == {"done"}
        for one, other in zip(together.points, alone.points, strict=True):
            assert runs.metrics(one) == runs.metrics(other)


@rows("cbp_adam", "dropout", "online_norm", "lazy_noise", long=True)
def test_same_pack_twice_is_the_same_bytes(tmp_path: Path, overrides: list[str]) -> None:
    plans = [runs.plan(tmp_path / name, *small(overrides), seeds=3) for name in ("a", "b")]
    for the_plan in plans:
        runs.train(the_plan)
    for one, other in zip(plans[0].points, plans[1].points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


@rows(
    "backprop",
    "cbp_adam",
    "batch_norm",
    "regression_cbp_tanh",
    "linear",
    "cbp_dropout_noise",
    "lazy_noise",
    "slippery_head_resetting",
    long=True,
)
def test_extended_run_equals_a_run_that_was_long_from_the_start(tmp_path: Path, overrides: list[str]) -> None:
    lengths = [f"benchmark.num_tasks={tasks}" for tasks in (2, 4)]
    if any(line.startswith("agent.") for line in overrides):
        lengths = [f"benchmark.num_steps={steps}" for steps in (128, 256)]
    short = runs.plan(tmp_path / "extended", *small(overrides), lengths[0], seeds=2)
    runs.train(short)
    first = runs.metrics(short.points[0])
    longer = runs.plan(tmp_path / "extended", *small(overrides), lengths[1], seeds=2)
    assert [p.directory.name for p in longer.points] == [p.directory.name for p in short.points]
    runs.train(longer)
    long = runs.plan(tmp_path / "long", *small(overrides), lengths[1], seeds=2)
    runs.train(long)
    assert runs.metrics(longer.points[0]).startswith(first)
    for one, other in zip(longer.points, long.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


def test_same_seed_gives_the_same_tasks_and_initial_weights_to_every_algorithm(tmp_path: Path) -> None:
    """Unpaired comparisons were one of the mistakes: no seed set, or algorithms drawing from one another's stream."""
    digits = [
        name
        for name, line in ROWS.items()
        if name in METHODS
        and "benchmark=permuted_digits" in line
        and not any(one.startswith("network") for one in line)
    ]
    seen: dict[str, set[tuple[float, ...]]] = {"torch": set(), "fused": set()}
    for name in digits:
        for engine in engines(name):
            line = [*small(ROWS[name]), "benchmark.num_tasks=1", f"engine={engine}"]
            the_plan = runs.plan(tmp_path / f"{name}-{engine}", *line)
            runs.train(the_plan)
            row = json.loads(runs.metrics(the_plan.points[0]).splitlines()[0])
            seen[engine].add(tuple(row["weight_magnitude"]))  # before the first task
    (torchs,), (fuseds,) = seen.values()
    assert torchs == pytest.approx(fuseds, rel=1e-6)  # added up in another order
    first = runs.point(tmp_path, *small(ROWS["cbp"])).config["benchmark"]
    assert first["examples_per_task"] == 90


def test_same_seed_gives_every_algorithm_the_same_first_steps_in_an_environment(tmp_path: Path) -> None:
    """Environment, action noise and initial weights; then, where it changes, the same frictions."""
    first, frictions = set(), set()
    for name, algorithm in (("ant_backprop", "backprop"), ("ant_cbp_l2", "l2"), ("slippery_retrained", "backprop")):
        for other in (algorithm, "continual_backprop", "redo"):
            line = [one for one in ROWS[name] if not one.startswith("algorithm")]
            the_plan = runs.plan(tmp_path / f"{name}-{other}", *small([*line, f"algorithm={other}", "seed=3"]))
            runs.train(the_plan)
            rows = [json.loads(row) for row in runs.metrics(the_plan.points[0]).splitlines()]
            first.add((name[:3], *rows[0]["weight_magnitude"], *rows[0]["effective_rank"]))
            frictions.add(tuple(row.get("friction", 0) for row in rows))
    assert len(first) == 2
    assert len(frictions) == 2


@rows("cbp_norm_dropout", "cbp_dropout_noise", "regression_linear", "batch_norm", "lazy_noise", long=True)
def test_load_run_gives_back_the_trained_network(tmp_path: Path, overrides: list[str]) -> None:
    the_plan = runs.plan(tmp_path, *small(overrides), "precision=float64", seeds=2)
    runs.train(the_plan)
    network, config = load_run(the_plan.points[1].directory.path)
    assert config["seed"] == 1
    last = json.loads(runs.metrics(the_plan.points[1]).splitlines()[-1])
    first_weight = dict(network.named_parameters())["layers.0.weight"]
    assert first_weight.abs().mean().item() == pytest.approx(last["weight_magnitude_task"][0], rel=0.1)


@rows(*(name for name in ROWS if len(engines(name)) == 2), engine="fused", long=True)
def test_engines_differ_in_rounding_only(tmp_path: Path, overrides: list[str]) -> None:
    """What they log, and the network that they leave behind."""
    plans = [
        runs.plan(
            tmp_path / engine, *small(overrides), "precision=float64", "benchmark.num_tasks=2", f"engine={engine}"
        )
        for engine in ("torch", "fused")
    ]
    for the_plan in plans:
        runs.train(the_plan)
    one, other = (the_plan.points[0] for the_plan in plans)
    runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)
    networks = [load_run(point.directory.path)[0] for point in (one, other)]
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
