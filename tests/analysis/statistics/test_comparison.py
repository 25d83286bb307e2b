"""Comparing methods: paired by seed, unpaired, in the right direction, and against scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.compared import comparable, missing
from lop_sweeps.analysis.statistics.comparison import compare, default_baseline, paired_difference
from lop_sweeps.analysis.statistics.curve_summary import per_run
from lop_sweeps.analysis.statistics.improvement import probability_of_improvement
from lop_sweeps.analysis.statistics.interval import student
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def frame(values: dict[str, dict[int, float]], state: str = "done") -> pd.DataFrame:
    """label → seed → late, as `per_run` has them."""
    rows = [
        {"benchmark": "digits", "label": label, "seed": seed, "state": state, "late": value}
        for label, runs in values.items()
        for seed, value in runs.items()
    ]
    return pd.DataFrame(rows)


def test_paired_difference_is_the_mean_of_differences() -> None:
    assert paired_difference([1.0, 2.0, 6.0], [0.0, 0.0, 0.0])[0] == 3
    assert paired_difference([0.0, 1.0], [0.0, 0.0]) == (0.5, 0, 1)
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    assert paired_difference(a, b) == tuple(map(float, student(a - b)))
    assert paired_difference(a, b) == paired_difference(a, b)


def test_pairs_that_differ_alike_leave_no_doubt() -> None:
    """Runs far apart, each 0.1 better than the one with its seed."""
    b = np.arange(10.0)
    estimate, low, high = paired_difference(b + 0.1, b)
    assert [estimate, low, high] == pytest.approx([0.1] * 3)


def test_paired_interval_is_narrower_where_seeds_share_noise() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=30)
    a, b = (shared + 0.3 * rng.normal(size=30) for _ in range(2))
    _, low, high = paired_difference(a, b)
    _, unpaired_low, unpaired_high = paired_difference(a, rng.permutation(b))  # the seeds' order is lost
    assert high - low < 0.5 * (unpaired_high - unpaired_low)


def test_pair_with_a_missing_run_is_left_out() -> None:
    assert paired_difference([1.0, np.nan, 4.0], [1.0, 1.0, np.nan])[0] == 0
    assert np.isnan(paired_difference([1.0], [0.0])).tolist() == [False, True, True]
    assert np.isnan(paired_difference([], [])).all()
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1.0, 2.0], [1.0])


def test_paired_difference_covers_near_the_level() -> None:
    """The true difference lies in the 95 % interval of 5 pairs in 93–97 % of 1000 experiments."""
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(1000, 5))
    a, b = 0.5 + shared + rng.normal(size=(1000, 5)), shared + rng.normal(size=(1000, 5))
    found = [paired_difference(*pair)[1:] for pair in zip(a, b, strict=True)]
    assert 0.93 <= np.mean([low <= 0.5 <= high for low, high in found]) <= 0.97


def test_probability_of_improvement_of_known_cases() -> None:
    assert probability_of_improvement([2.0, 3.0], [0.0, 1.0])[0] == 1
    assert probability_of_improvement([0.0, 1.0], [2.0, 3.0])[0] == 0
    assert probability_of_improvement([1.0, 1.0], [1.0, 1.0, 1.0])[0] == 0.5
    assert probability_of_improvement([1.0, 3.0], [2.0, 2.0])[0] == 0.5
    assert probability_of_improvement([1.0, 2.0], [1.0, 0.0, 5.0])[0] == pytest.approx((1.5 + 2) / 6)


def test_probability_of_improvement_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(3)
    for n, m in [(3, 5), (7, 7), (30, 12)]:
        a, b = rng.integers(6, size=n).astype(float), rng.integers(6, size=m).astype(float)  # with ties
        expected = stats.mannwhitneyu(a, b).statistic / (n * m)
        estimate, low, high = probability_of_improvement(a, b)
        assert estimate == pytest.approx(expected)
        assert low < estimate < high
        mirrored = probability_of_improvement(b, a)[0]
        assert mirrored == pytest.approx(1 - estimate)


def test_probability_of_improvement_covers_near_the_level() -> None:
    rng = np.random.default_rng(5)
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    found = [probability_of_improvement(rng.normal(size=5) + 0.5, rng.normal(size=5))[1:] for _ in range(400)]
    assert 0.92 <= np.mean([low <= truth <= high for low, high in found]) <= 0.98


def test_improvement_without_runs_and_of_one_run() -> None:
    assert np.isnan(probability_of_improvement([], [1.0])).all()
    assert np.isnan(probability_of_improvement([np.nan], [1.0])).all()
    estimate, low, high = probability_of_improvement([2.0], [1.0, 3.0, 1.0, np.nan])
    assert estimate == pytest.approx(2 / 3)
    assert np.isnan([low, high]).all()


def test_labels_are_compared_with_the_baseline_by_seed() -> None:
    base = {seed: float(seed) for seed in range(6)}
    summaries = frame({"l2": {seed: seed + 0.5 for seed in (5, 3, 4, 9)}, "backprop": base, "redo": {7: 9.0, 8: 9.0}})
    found = compare(summaries, "backprop").set_index("label")
    assert list(found.index) == ["l2", "redo"]
    l2, redo = found.loc["l2"], found.loc["redo"]
    assert l2[["n", "n_baseline", "pairs"]].tolist() == [4, 6, 3]
    assert l2[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx([0.5] * 3)
    assert l2["improvement"] == pytest.approx((4 + 5 + 6 + 6) / 24)
    assert l2["improvement_low"] < l2["improvement"] < l2["improvement_high"]
    assert redo[["n", "n_baseline", "pairs"]].tolist() == [2, 6, 0]
    assert redo[["difference", "difference_low", "difference_high"]].isna().all()
    assert redo["improvement"] == 1


def test_smaller_errors_are_an_improvement() -> None:
    summaries = frame({"backprop": {0: 0.9, 1: 0.8}, "l2": {0: 0.3, 1: 0.2}})
    error, accuracy = (
        compare(summaries, "backprop", unit=quantity(name)).iloc[0] for name in ("squared_error", "accuracy")
    )
    assert error["improvement"] == 1
    assert accuracy["improvement"] == 0
    assert error["difference"] == accuracy["difference"] == pytest.approx(-0.6)


def test_runs_of_a_sweep_are_paired_by_their_seed(sweep: SweepBuilder) -> None:
    for seed in range(4):
        sweep.add(seed=seed, rows=task_rows([seed] * 10))
        sweep.add(seed=3 - seed, algorithm="l2", rows=task_rows([3 - seed + 1] * 10))
    sweep.add(seed=4, algorithm="l2", rows=task_rows([9, 9]), state="diverged")
    found = compare(per_run(load(sweep.folder).tasks, "accuracy"), "backprop", "area").iloc[0]
    assert found[["label", "n", "n_baseline", "pairs"]].tolist() == ["l2", 4, 4, 4]
    assert found[["diverged", "diverged_baseline"]].tolist() == [1, 0]
    assert found[["difference", "difference_low", "difference_high"]].tolist() == [1, 1, 1]


def test_run_without_the_summary_does_not_count() -> None:
    summaries = frame({"backprop": {0: 1.0, 1: np.nan, 2: 1.0}, "l2": {0: 2.0, 1: 2.0, 2: np.nan}})
    found = compare(summaries, "backprop").iloc[0]
    assert found[["n", "n_baseline", "pairs"]].tolist() == [2, 2, 1]
    assert found["difference"] == 1
    assert np.isnan(found["difference_low"])


def test_baseline_alone_is_compared_with_nothing() -> None:
    found = compare(frame({"backprop": {0: 1.0}}), "backprop")
    assert len(found) == 0
    assert "improvement_high" in found.columns


def test_what_cannot_be_compared() -> None:
    summaries = frame({"backprop": {0: 1.0}, "l2": {0: 2.0}})
    with pytest.raises(AnalysisError, match="no label 'bp' to compare with; there are: backprop; l2"):
        compare(summaries, "bp")
    with pytest.raises(AnalysisError, match="no summary 'last'; possible: early, late"):
        compare(summaries, "backprop", "last")
    both = pd.concat([summaries, summaries.assign(benchmark="mnist")])
    with pytest.raises(AnalysisError, match=r"several benchmarks \(digits, mnist\)"):
        compare(both, "backprop")


def test_default_baseline_is_the_best_plain_backprop() -> None:
    summaries = frame({"continual_backprop": {0: 0.99}, "backprop, a": {0: 0.5, 1: 0.7}, "tuned": {0: 0.9}})
    runs = pd.DataFrame(
        [("continual_backprop", "continual_backprop"), ("backprop, a", "backprop"), ("tuned", "backprop")],
        columns=["label", "algorithm"],
    )
    assert default_baseline(summaries, runs) == "tuned"
    assert default_baseline(summaries, runs, larger_is_better=False) == "backprop, a"
    assert default_baseline(summaries, runs[:1]) == "backprop, a"  # nothing is known to be plain: the first label
    assert default_baseline(summaries.assign(late=np.nan), runs) == "backprop, a"
    with pytest.raises(AnalysisError, match="no finished task"):
        default_baseline(summaries[:0], runs)


def test_runs_that_diverged_lose(sweep: SweepBuilder) -> None:
    """They are best in the tasks before, which are the first ones."""
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows(0.9 - 0.02 * np.arange(20)))
        sweep.add(seed=seed, algorithm="redo", rows=task_rows([0.9] * 3), state="diverged")
    summaries = per_run(load(sweep.folder).tasks, "accuracy")
    found = compare(summaries, "backprop").iloc[0]
    assert found[["n", "diverged", "pairs"]].tolist() == [0, 5, 0]
    assert np.isnan(found["difference"])
    assert found["improvement"] == 0
    assert compare(summaries, "redo").iloc[0]["improvement"] == 1
    assert compare(summaries, "backprop", unit=quantity("squared_error")).iloc[0]["improvement"] == 0


def test_methods_are_compared_over_the_tasks_that_all_have(sweep: SweepBuilder) -> None:
    """Five tasks of a method that has just begun are not better than forty of one that declines."""
    course = 0.9 - 0.02 * np.arange(40)
    for seed in range(4):
        sweep.add(seed=seed, rows=task_rows(course if seed else course[:30]))
        sweep.add(seed=seed, algorithm="l2", rows=task_rows(course[: 5 if seed else 3]), state="running")
    sweep.add(seed=0, algorithm="redo", rows=task_rows(course[:1]), state="diverged")
    tasks, notes = comparable(load(sweep.folder).tasks, "accuracy")
    assert notes == ["The first 5 tasks, as far as every method has come", "Left out: 1 run with fewer tasks"]
    assert tasks["task"].max() == 4
    assert set(tasks["label"]) == {"backprop", "l2", "redo"}
    found = compare(per_run(tasks, "accuracy"), "backprop").set_index("label").loc["l2"]
    assert found[["n", "n_baseline", "pairs"]].tolist() == [3, 4, 3]
    assert found["difference"] == pytest.approx(0)


def test_runs_of_one_length_are_compared_as_they_are(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(algorithm="l2")
    sweep.add(algorithm="redo", rows=task_rows([0.5] * 3), state="diverged")
    loaded = load(sweep.folder).tasks
    tasks, notes = comparable(loaded, "accuracy")
    assert tasks is loaded
    assert notes == []


def test_a_method_without_its_settings_is_a_baseline() -> None:
    """Section 6: `--baseline l2` was unknown until the label with the selected value was known."""
    found = compare(frame({"backprop": {0: 1.0}, "l2, weight_decay=0.001": {0: 2.0}}), "L2")
    assert found["label"].tolist() == ["backprop"]
    several = frame({"l2, a=1": {0: 1.0}, "l2, a=2": {0: 2.0}})
    with pytest.raises(AnalysisError, match="'l2' to compare with is one of 2 labels; say which: l2, a=1; l2, a=2"):
        compare(several, "l2")


def test_differences_are_tested_in_pairs() -> None:
    base = {seed: float(seed) for seed in range(6)}
    better = {seed: seed + 0.5 + 0.01 * seed for seed in range(6)}
    found = compare(frame({"backprop": base, "l2": better}), "backprop").iloc[0]
    assert found["p_t"] < 0.001
    assert found["p_wilcoxon"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize("last", [{"accuracy": None}, {"accuracy": float("nan")}, {"accuracy": float("inf")}, {}])
def test_what_is_no_number_in_the_last_row_is_missing_everywhere(
    sweep: SweepBuilder, last: dict[str, float | None]
) -> None:
    """Cases 1.12: the run stays, both tables count it alike, and one sentence says so."""
    for seed in range(3):
        rows = task_rows([0.5] * 19)
        rows.append({"task": 19, "examples": 2000, **(last if seed == 0 else {"accuracy": 0.5})})
        sweep.add(seed=seed, rows=rows)
        sweep.add(seed=seed, algorithm="l2")
    tasks = load(sweep.folder).tasks
    compared, notes = comparable(tasks, "accuracy")
    assert compared is tasks
    assert notes == []
    assert per_run(tasks, "accuracy").groupby("label")["late"].count().tolist() == [3, 3]
    (note,) = missing(tasks, "accuracy")
    assert "1 row of 1 run (run-0000)" in note
    assert missing(tasks, "weight_magnitude") == [
        "weight_magnitude is no finite number in 3 rows of 3 runs (run-0000, …), which figures and tables leave out"
    ]
