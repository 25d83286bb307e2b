"""Methods x benchmarks: who is best, who is level with it, and one honest score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.leaderboard import cost
from lop_sweeps.analysis.figures.leaderboard import leaderboard as figure
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.leaderboard import Leaderboard, core_seconds, holm, leaderboard
from lop_sweeps.analysis.statistics.power import seeds_needed
from lop_sweeps.analysis.tables import leaderboard as table
from tests.analysis.sweep_builder import SweepBuilder, task_rows

ORACLE = "retrained_network"


def add(
    sweep: SweepBuilder,
    benchmark: str,
    algorithm: str,
    values: Sequence[float],
    metric: str = "accuracy",
    diverged: Sequence[int] = (),
) -> None:
    """One method on one benchmark; values: of seeds 0, 1, ..., the same on every task."""
    for seed, value in enumerate(values):
        sweep.add(
            seed=seed,
            algorithm=algorithm,
            choices={"benchmark": benchmark},
            benchmark={"name": benchmark},
            rows=task_rows([value] * 4, metric=metric),
            state="diverged" if seed in diverged else "done",
        )


@pytest.fixture
def field(sweep: SweepBuilder) -> SweepBuilder:
    """On `a` more accuracy is better, on `b` less error; on `c` nothing is lost, so that it has no scale."""
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    add(sweep, "a", "backprop", 0.5 + spread)
    add(sweep, "a", "l2_init", 0.7 + spread + [0.001, -0.001, 0.002, 0, 0.001])
    add(sweep, "a", "redo", 0.7 + spread + [-0.001, 0.002, 0.001, 0, 0.001])
    add(sweep, "a", ORACLE, 0.9 + spread[::-1] / 10)
    add(sweep, "b", "backprop", 0.4 + spread, "squared_error")
    add(sweep, "b", "l2_init", 0.5 + spread, "squared_error")
    add(sweep, "b", ORACLE, 0.2 + spread, "squared_error")
    add(sweep, "c", "backprop", 0.5 + spread)
    add(sweep, "c", "l2_init", 0.6 + spread)
    add(sweep, "c", ORACLE, 0.5 + spread[::-1])
    return sweep


def board_of(sweep: SweepBuilder, **options: object) -> Leaderboard:
    return leaderboard(load(sweep.folder), **options)  # type: ignore[arg-type]


def test_means_ranks_and_scores_are_what_they_are_by_hand(field: SweepBuilder) -> None:
    board = board_of(field)
    cells = board.cells.set_index(["benchmark", "method"])
    assert cells.loc[("a", "backprop"), "mean"] == pytest.approx(50.0)  # percent, as it is drawn
    assert cells.loc[("b", "l2_init"), "mean"] == pytest.approx(0.5)
    assert cells.loc[("a", ORACLE), "rank"] == cells.loc[("b", ORACLE), "rank"] == 1
    assert cells.loc[("b", "l2_init"), "rank"] == 3
    assert cells.loc[("a", "l2_init"), "score"] == pytest.approx((0.7006 - 0.5) / (0.9 - 0.5))
    assert cells.loc[("b", "l2_init"), "score"] == pytest.approx((0.5 - 0.4) / (0.2 - 0.4))  # worse than backprop
    methods = board.methods.set_index("method")
    assert methods.loc["l2_init", "score"] == pytest.approx((0.5015 - 0.5) / 2)
    assert (methods.loc["backprop", "score"], methods.loc[ORACLE, "score"]) == (0, 1)
    assert np.isnan(methods.loc["redo", "score"])  # it was not run on both
    assert methods.loc["l2_init", "rank"] == pytest.approx((cells.loc[("a", "l2_init"), "rank"] + 3 + 1) / 3)


def test_a_benchmark_on_which_nothing_is_lost_for_certain_has_no_scores(field: SweepBuilder) -> None:
    board = board_of(field)
    assert list(board.scored) == ["a", "b"]
    assert any("c has no normalised scores" in note and "covers 0" in note for note in board.notes)
    assert board.cells[board.cells["benchmark"] == "c"]["score"].isna().all()


def test_without_an_oracle_there_are_no_scores_and_it_is_said(sweep: SweepBuilder) -> None:
    add(sweep, "a", "backprop", [0.5, 0.6, 0.7])
    add(sweep, "a", "l2_init", [0.6, 0.7, 0.8])
    board = board_of(sweep)
    assert board.methods["score"].isna().all()
    assert any("begins each task anew" in note for note in board.notes)
    named = board_of(sweep, oracle="l2_init")
    assert named.methods.set_index("method").loc["l2_init", "score"] == 1
    with pytest.raises(AnalysisError, match="to be 1 of the normalised scores"):
        board_of(sweep, oracle="nobody")


def test_where_beginning_anew_is_worse_it_is_said(sweep: SweepBuilder) -> None:
    add(sweep, "a", "backprop", [0.7, 0.71, 0.72])
    add(sweep, "a", ORACLE, [0.5, 0.52, 0.51])
    assert any(f"{ORACLE} is worse than backprop" in note for note in board_of(sweep).notes)


def test_what_is_level_with_the_best_is_by_pairs_and_corrected(sweep: SweepBuilder) -> None:
    """`redo` differs from the best by noise; `l2` always by a little, which pairs see although means overlap."""
    generator = np.random.default_rng(3)
    seeds = generator.normal(0.7, 0.05, 8)
    noise = generator.normal(0, 0.01, 8)
    noise -= noise.mean() + 0.001
    add(sweep, "a", "l2_init", seeds)
    add(sweep, "a", "redo", seeds + noise)
    add(sweep, "a", "backprop", seeds - 0.01 + generator.normal(0, 0.002, 8))
    cells = board_of(sweep).cells.set_index("method")
    assert list(cells.index[cells["best"]]) == ["l2_init"]
    assert list(cells.index[cells["level"]]) == ["redo"]
    t = [stats.ttest_1samp(x, 0).pvalue for x in (noise,)]
    assert cells.loc["redo", "p"] == pytest.approx(min(1, t[0]), rel=1e-6)
    assert cells.loc["backprop", "p"] < 0.05


def test_a_method_that_diverged_is_never_the_best(sweep: SweepBuilder) -> None:
    add(sweep, "a", "backprop", [0.5, 0.6, 0.7])
    add(sweep, "a", "l2_init", [0.8, 0.9, 0.9, 0.9], diverged=[3])
    cells = board_of(sweep).cells.set_index("method")
    assert list(cells.index[cells["best"]]) == ["backprop"]
    assert cells.loc["l2_init", "diverged"] == 1
    assert "1 diverged" in table.markdown(board_of(sweep))


def test_two_settings_of_a_method_on_one_seed_are_refused(sweep: SweepBuilder) -> None:
    add(sweep, "a", "backprop", [0.5, 0.6])
    add(sweep, "a", "l2_init", [0.5, 0.6])
    add(sweep, "a", "redo", [0.5, 0.6])
    loaded = load(sweep.folder)
    names = {
        run: "one" if label != "backprop" else "backprop"
        for run, label in zip(loaded.runs["run"], loaded.runs["label"], strict=True)
    }
    with pytest.raises(AnalysisError, match="several settings on one seed"):
        leaderboard(loaded, names)


def test_holm() -> None:
    assert holm([0.01, 0.04, np.nan, 0.03]) == pytest.approx([0.03, 0.06, np.nan, 0.06], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_intervals_of_scores_cover(sweep: SweepBuilder) -> None:
    """Of seeds with known gaps and noise, they hold the true score about as often as they say."""
    generator, covered = np.random.default_rng(0), 0
    from lop_sweeps.analysis.statistics import leaderboard as module

    for trial in range(60):
        shared = generator.normal(0, 0.05, 12)
        found = module.Part("a", "accuracy", 1.0)
        for name, level in (("backprop", 0.4), ("x", 0.6), (ORACLE, 0.8)):
            values = level + shared + generator.normal(0, 0.03, 12)
            found.values[name] = module.pd.Series(values, index=range(12))
        _, drawn = module._scores(found, "backprop", ORACLE, trial)["x"]
        low, high = module._ends(drawn)
        covered += low <= 0.5 <= high
    assert covered >= 50


def test_the_files_say_what_the_board_says(field: SweepBuilder, tmp_path: Path) -> None:
    board = board_of(field)
    paths = table.write(board, tmp_path, formats=["tex"])
    assert [path.name for path in paths] == ["leaderboard.csv", "leaderboard.md", "leaderboard.tex"]
    text = paths[1].read_text()
    assert "| backprop |" in text
    assert "covers 0" in text
    assert text.count("**") == 6  # a best one on each of three benchmarks
    assert r"\toprule" in paths[2].read_text()
    with pytest.raises(AnalysisError, match="no run says how long it took"):
        cost(board)
    timed = replace(board, cells=board.cells.assign(seconds=np.arange(len(board.cells)) + 1.0))
    assert len(cost(timed).axes) >= 3
    drawn = figure(board)
    assert len(drawn.axes) >= 4  # three benchmarks and the score


def test_seeds_that_a_difference_needs() -> None:
    """Cohen's table: a standardised difference of 0.5 needs 34 pairs for a power of 0.8."""
    pilot = np.array([-1.0, 1.0] * 50)
    pilot /= pilot.std(ddof=1)
    assert seeds_needed(pilot, 0.5) == 34
    assert seeds_needed(pilot, -0.5) == 34
    assert seeds_needed(pilot, 1e-6) is None
    assert seeds_needed([1.0, 1.0, 1.0], 0.1) == 2
    with pytest.raises(AnalysisError, match="three pairs"):
        seeds_needed([1.0, 2.0], 0.1)
    with pytest.raises(AnalysisError, match="must not be 0"):
        seeds_needed(pilot, 0)


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        ([{"began": 0.0, "ended": 90.0, "engine": "fused", "pack": 4, "cpu_seconds": 30.0}], 30.0),
        ([{"began": 0.0, "ended": 90.0, "engine": "torch", "pack": 4, "cpu_seconds": 30.0}], 7.5),
        ([{"began": 0.0, "ended": 90.0, "engine": "fused", "pack": 1}], 90.0),  # from before it was noted
        ([{"began": 0.0, "engine": "fused", "pack": 1}], None),
    ],
)
def test_a_run_costs_what_its_sessions_took_of_the_processor(
    tmp_path: Path, sessions: list[dict[str, object]], expected: float | None
) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"sessions": sessions}))
    assert core_seconds(tmp_path) == expected
