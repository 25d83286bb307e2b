"""Selection on tuning seeds, report on others."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.names.seeds import ranges
from lop_sweeps.analysis.reading.load import Sweep, load
from lop_sweeps.analysis.statistics.aggregate import early_late
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.statistics.selection import select
from lop_sweeps.analysis.tables import selection as selection_table
from tests.analysis.sweep_builder import SweepBuilder, task_rows

TUNING = range(2)


def add(
    sweep: SweepBuilder,
    step_size: float,
    values: Sequence[float],
    algorithm: str = "backprop",
    metric: str = "accuracy",
    tasks: int = 4,
    states: dict[int, str] | None = None,
    **more: object,
) -> None:
    """One configuration; values: of its seeds 0, 1, …, the same on every task."""
    for seed, value in enumerate(values):
        sweep.add(
            seed=seed,
            algorithm=algorithm,
            optimizer={"step_size": step_size},
            rows=task_rows([value] * tasks, metric=metric),
            state=(states or {}).get(seed, "done"),
            **more,  # type: ignore[arg-type]
        )


def labels(sweep: Sweep) -> list[str]:
    return sorted(sweep.tasks["label"].astype(str).unique())


def test_selection_and_report_on_the_same_seeds(sweep: SweepBuilder) -> None:
    """The mistake: a configuration that was lucky where it was selected is reported with its luck."""
    add(sweep, 0.1, [0.9, 0.9, 0.3, 0.3, 0.3])
    add(sweep, 0.01, [0.5, 0.5, 0.5, 0.5, 0.5])
    found = select(load(sweep.folder), TUNING)
    row = found.table.iloc[0]
    assert row["label"] == "backprop, step_size=0.1"
    assert row["tuning"] == pytest.approx(0.9)
    assert found.sweep.runs["seed"].tolist() == [2, 3, 4]
    assert sorted(found.sweep.tasks["seed"].unique()) == [2, 3, 4]
    assert labels(found.sweep) == ["backprop, step_size=0.1"]
    assert early_late(found.sweep.tasks, "accuracy")["late"].tolist() == pytest.approx([0.3])


def test_report_seeds_do_not_influence_the_selection(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5, 0.5, 0.9, 0.9])
    add(sweep, 0.01, [0.6, 0.6, 0.1, 0.1])
    assert select(load(sweep.folder), TUNING).table["label"].tolist() == ["backprop, step_size=0.01"]


def test_table_says_what_was_tried(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.4, 0.6, 0.5, 0.5])
    add(sweep, 0.01, [0.2, 0.2])
    add(sweep, 0.001, [0.1, 0.1])
    add(sweep, 0.1, [0.1, 0.1, 0.1], "l2")
    add(sweep, 0.01, [0.7, 0.7, 0.7], "l2")
    found = select(load(sweep.folder), [0, 1, 77])
    rows = found.table.set_index("method")
    assert list(rows.index) == ["backprop", "l2"]
    assert rows["tried"].tolist() == [3, 2]
    assert rows["label"].tolist() == ["backprop, step_size=0.1", "l2, step_size=0.01"]
    assert rows["tuning_seeds"].tolist() == ["0–1", "0–1"]
    assert rows["report_seeds"].tolist() == ["2–3", "2"]
    assert rows.loc["backprop", ["tuning", "tuning_low", "tuning_high"]].tolist() == pytest.approx([0.5, 0.4, 0.6])
    assert rows["metric"].unique().tolist() == ["accuracy"]
    assert (
        "of each algorithm one configuration is shown, which was selected on other seeds than those shown, by the mean "
        "over all tasks: accuracy on seeds 0–1 (backprop of 3, l2 of 2 configurations)"
    ) in found.sweep.notes


def test_notes_of_the_sweep_stay(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5] * 3)
    loaded = load(sweep.folder)
    loaded.notes.append("something else")
    before = list(loaded.notes)
    found = select(loaded, TUNING)
    assert set(before) < set(found.sweep.notes)
    assert len(found.sweep.notes) == len(before) + 1
    assert loaded.notes == before


def test_smaller_errors_are_selected_unless_told_otherwise(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.9] * 3, metric="squared_error")
    add(sweep, 0.01, [0.2] * 3, metric="squared_error")
    loaded = load(sweep.folder)
    assert select(loaded, TUNING).table["label"].tolist() == ["backprop, step_size=0.01"]
    told = select(loaded, TUNING, larger_is_better=True)
    assert told.table["label"].tolist() == ["backprop, step_size=0.1"]


def test_direction_of_known_and_unknown_metrics() -> None:
    smaller = ("squared_error", "cross_entropy", "train_cross_entropy", "value_loss", "policy_loss", "my_error")
    assert not any(quantity(name).larger_is_better for name in smaller)
    assert not quantity("cross_entropy/1").larger_is_better
    assert all(quantity(name).larger_is_better for name in ("accuracy", "test_accuracy", "return", "reward"))


def test_summary_that_selects(sweep: SweepBuilder) -> None:
    """Fast at first, or good in the end."""
    for seed in range(3):
        sweep.add(seed=seed, optimizer={"step_size": 0.1}, rows=task_rows([0.9, 0.9, 0.1]))
        sweep.add(seed=seed, optimizer={"step_size": 0.01}, rows=task_rows([0.2, 0.2, 0.3]))
    loaded = load(sweep.folder)
    chosen = {name: select(loaded, TUNING, summary=name).table["label"].iloc[0][-4:] for name in ("area", "late")}
    assert chosen == {"area": "=0.1", "late": "0.01"}


def test_diverged_on_a_tuning_seed_is_never_chosen(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.9, 0.9, 0.9], states={1: "diverged"})
    add(sweep, 0.01, [0.2, 0.2, 0.2], states={2: "diverged"})  # on a report seed: part of the result
    found = select(load(sweep.folder), TUNING)
    assert found.table["label"].tolist() == ["backprop, step_size=0.01"]
    assert found.table["tried"].tolist() == [2]
    assert found.sweep.runs["state"].tolist() == ["diverged"]


def test_first_of_equally_good_configurations_is_chosen(sweep: SweepBuilder) -> None:
    for step_size in (0.1, 0.001, 0.01):
        add(sweep, step_size, [0.3, 0.6, 0.5])
    assert select(load(sweep.folder), TUNING).table["label"].tolist() == ["backprop, step_size=0.001"]


def test_methods_may_be_named_by_another_column(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.2, 0.2, 0.2], config={"variant": "slow"})
    add(sweep, 0.1, [0.9, 0.9, 0.9], algorithm="l2", config={"variant": "fast"})
    loaded = load(sweep.folder)
    assert select(loaded, TUNING, by="variant").table["method"].tolist() == ["fast", "slow"]
    assert select(loaded, TUNING, by="benchmark").table["label"].tolist() == ["fast"]
    sweep.add(seed=9)
    with pytest.raises(AnalysisError, match="no column 'variant' that names the method of every run"):
        select(load(sweep.folder), TUNING, by="variant")
    with pytest.raises(AnalysisError, match="no column 'colour'"):
        select(loaded, TUNING, by="colour")


def test_chosen_value_at_the_edge_and_the_runner_up_are_told(sweep: SweepBuilder, tmp_path: Path) -> None:
    """Cases 3.2."""
    for step_size, accuracy in ((0.1, 0.6), (0.03, 0.599), (0.01, 0.2)):
        add(sweep, step_size, [accuracy] * 6)
    for step_size, accuracy in ((0.1, 0.2), (0.03, 0.7), (0.01, 0.3)):
        add(sweep, step_size, [accuracy] * 6, "l2")
    found = select(load(sweep.folder), [0, 1, 2])
    backprop, l2 = found.table.to_dict("records")
    assert backprop["edge"] == "step_size=0.1 is the largest of 3"
    assert l2["edge"] == ""
    assert backprop["runner_up"] == "backprop, step_size=0.03"
    assert backprop["runner_up_tuning"] == pytest.approx(0.599)
    (note,) = [note for note in found.sweep.notes if " edge" in note]
    assert "backprop: step_size=0.1" in note
    assert "l2" not in note
    assert "0–2" in found.words
    csv, markdown, tex = selection_table.write(found.table, tmp_path, ["tex"])
    assert pd.read_csv(csv)["tuning"].tolist() == pytest.approx([0.6, 0.7])
    for words in ("59.90", "60.00", "backprop, step_size=0.03", "largest of 3", "seeds 3–5", "seeds 0–2"):
        assert words in markdown.read_text(encoding="utf-8")
    assert r"\toprule" in tex.read_text(encoding="utf-8")


def test_tuning_means_have_the_interval_of_the_report(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.1, 0.2, 0.6, 0.5])
    add(sweep, 0.01, [0.1, 0.1, 0.1, 0.1])
    row = select(load(sweep.folder), [0, 1, 2]).table.iloc[0]
    assert [row["tuning"], row["tuning_low"]] == pytest.approx([0.3, 0.0])  # cut at 0
    row = select(load(sweep.folder), [0, 1, 2], band=Band("median")).table.iloc[0]
    assert row[["tuning", "tuning_low", "tuning_high"]].tolist() == pytest.approx([0.2, 0.1, 0.6])
    assert row["statistic"] == "median"


def test_each_benchmark_has_a_selection_of_its_own(sweep: SweepBuilder) -> None:
    for step_size, accuracy, error in [(0.1, 0.9, 0.9), (0.01, 0.1, 0.1)]:
        add(sweep, step_size, [accuracy] * 3)
        add(sweep, step_size, [error] * 3, metric="squared_error", benchmark={"name": "regression"})
    found = select(load(sweep.folder), TUNING)
    rows = found.table[["benchmark", "metric", "label"]].to_numpy().tolist()
    assert rows == [
        ["permuted_digits", "accuracy", "backprop, step_size=0.1"],
        ["regression", "squared_error", "backprop, step_size=0.01"],
    ]
    shown = found.sweep.runs[["benchmark", "optimizer.step_size", "seed"]].to_numpy().tolist()
    assert shown == [["permuted_digits", 0.1, 2], ["regression", 0.01, 2]]
    assert any("accuracy of permuted_digits on seeds 0–1" in note for note in found.sweep.notes)


def test_methods_without_tuning_or_report_seeds_are_named(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5] * 3)
    add(sweep, 0.1, [0.5] * 2, "l2")
    add(sweep, 0.1, [0.5] * 3, "redo", states={0: "diverged"})
    sweep.add(seed=7, algorithm="dropout")
    with pytest.raises(AnalysisError) as raised:
        select(load(sweep.folder), TUNING)
    message = str(raised.value)
    assert "dropout (permuted_digits): no run on a tuning seed" in message
    assert "l2 (permuted_digits): 'l2' has no finished task on a seed to report" in message
    assert "redo (permuted_digits): all its configurations diverged on tuning seeds" in message
    assert "backprop" not in message


def test_report_run_that_has_not_begun_is_no_result(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5] * 2)
    sweep.add(seed=2, optimizer={"step_size": 0.1}, rows=[], state="waiting")
    with pytest.raises(AnalysisError, match="no finished task on a seed to report"):
        select(load(sweep.folder), TUNING)


def test_unfinished_runs_and_missing_seeds_win_nothing(sweep: SweepBuilder) -> None:
    """Plasticity is lost with time: the mean over the first tasks is better than over all."""
    add(sweep, 0.1, [0.5] * 3)
    sweep.add(seed=0, optimizer={"step_size": 0.01}, rows=task_rows([0.9] * 4))
    with pytest.raises(AnalysisError, match=r"0.01' \(seeds 0; 4 tasks\) and .*0.1' \(seeds 0–1; 4 tasks\) cannot be"):
        select(load(sweep.folder), TUNING)
    sweep.add(seed=1, optimizer={"step_size": 0.01}, rows=task_rows([0.9]), state="running")
    with pytest.raises(AnalysisError, match=r"\(seeds 0–1; 1, 4 tasks\) and .*\(seeds 0–1; 4 tasks\) cannot be"):
        select(load(sweep.folder), TUNING)


def test_configuration_that_was_not_tuned_is_not_tried(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5] * 3)
    sweep.add(seed=5, optimizer={"step_size": 0.01}, rows=task_rows([0.9] * 4))
    found = select(load(sweep.folder), TUNING)
    assert found.table["tried"].tolist() == [1]
    assert found.sweep.runs["seed"].tolist() == [2]


def test_too_few_tasks_for_the_summary(sweep: SweepBuilder) -> None:
    add(sweep, 0.1, [0.5] * 3, tasks=1)
    with pytest.raises(AnalysisError, match="too few finished tasks"):
        select(load(sweep.folder), TUNING, summary="slope")
    with pytest.raises(AnalysisError, match="no summary 'best'; possible: early"):
        select(load(sweep.folder), TUNING, summary="best")


def test_order_of_the_runs_does_not_matter(sweep: SweepBuilder) -> None:
    rng = np.random.default_rng(0)
    for step_size in (0.1, 0.01, 0.001):
        add(sweep, step_size, rng.random(6).tolist())
    loaded = load(sweep.folder)
    shuffled = Sweep(*(f.sample(frac=1, random_state=1) for f in (loaded.runs, loaded.tasks)))
    first, second = (select(each, range(4)).table for each in (loaded, shuffled))
    assert first.to_csv() == second.to_csv()


def test_seeds_are_written_as_ranges() -> None:
    assert ranges([5, 0, 2, 1, 9, 10, 5]) == "0–2, 5, 9–10"
    assert ranges([]) == ""
