"""Sensitivity: which runs are one line, where its points lie, and what happens to runs that are no number."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.sensitivity import parameters, sensitivity
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import Sweep, load
from tests.analysis.drawn import assert_readable, band, caption, legend, points, ticks
from tests.analysis.sweep_builder import SweepBuilder, task_rows

STEP, RATE = "optimizer.step_size", "algorithm.continual_backprop.replacement_rate"


def by_step_size(
    sweep: SweepBuilder, sizes: tuple[float, ...] = (0.001, 0.01, 0.1), algorithm: str = "backprop"
) -> None:
    """Two runs 0.2 apart on each of 20 tasks; the mean rises by 0.1 with each step size."""
    for index, size in enumerate(sizes):
        for seed in range(2):
            rows = task_rows([0.4 + 0.1 * index + 0.2 * seed] * 20)
            sweep.add(seed=seed, algorithm=algorithm, optimizer={"step_size": size}, rows=rows)


def draw(sweep: SweepBuilder, parameter: str = STEP, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return sensitivity(loaded.tasks, loaded.runs, parameter, **options)  # type: ignore[arg-type]


def test_mean_over_runs_against_values_that_span_decades(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    fig = draw(sweep)
    (ax,) = fig.axes
    assert ax.get_xscale() == "log"
    assert np.allclose(points(ax.lines[0]), [[0.001, 50], [0.01, 60], [0.1, 70]])
    assert ticks(ax.get_xticklabels()) == ["0.001", "0.01", "0.1"]
    heights = band(ax)
    assert heights[heights[:, 0] == 0.001][:, 1].min() == pytest.approx(40)
    assert heights[heights[:, 0] == 0.001][:, 1].max() == pytest.approx(60)
    assert ax.get_xlabel() == "Step size"
    assert ax.get_ylabel() == "Online accuracy (%),\nmean over all tasks"
    assert legend(fig) == ["backprop (n=2)"]
    assert caption(fig).startswith("Mean over runs; band: 95% Student's t interval over runs. n: runs per point.")
    assert "Where n=2: the range of both" in caption(fig)


@pytest.mark.parametrize("sizes", [(0.1, 0.2, 0.5), (0.0, 0.001, 0.1)])
def test_values_within_a_decade_or_with_zero_are_categories(sweep: SweepBuilder, sizes: tuple[float, ...]) -> None:
    by_step_size(sweep, sizes)
    (ax,) = draw(sweep).axes
    assert ax.get_xscale() == "linear"
    assert [x for x, _ in points(ax.lines[0])] == [0, 1, 2]
    assert ticks(ax.get_xticklabels()) == [f"{size:g}" for size in sizes]


def test_words_are_categories(sweep: SweepBuilder) -> None:
    for name in ("tanh", "relu"):
        sweep.add(network={"activation": name})
    (ax,) = draw(sweep, "network.activation").axes
    assert ticks(ax.get_xticklabels()) == ["relu", "tanh"]


def test_summary_is_chosen(sweep: SweepBuilder) -> None:
    for size in (0.001, 0.01, 0.1):
        sweep.add(optimizer={"step_size": size}, rows=task_rows([0.9] * 18 + [0.5] * 2))
    (ax,) = draw(sweep, summary="late").axes
    assert [y for _, y in points(ax.lines[0])] == [50, 50, 50]
    assert ax.get_ylabel().endswith("mean over the last tenth of the tasks")


def test_what_differs_besides_gives_lines_of_its_own(sweep: SweepBuilder) -> None:
    for decay in (0.0, 0.1):
        for size in (0.001, 0.01, 0.1):
            sweep.add(algorithm="l2", optimizer={"step_size": size, "weight_decay": decay})
    by_step_size(sweep)
    fig = draw(sweep)
    assert legend(fig) == ["backprop (n=2)", "l2, weight decay=0 (n=1)", "l2, weight decay=0.1 (n=1)"]
    assert all(len(points(line)) == 3 for line in fig.axes[0].lines)


def test_variants_that_differ_in_the_hyper_parameter_alone_are_one_line(sweep: SweepBuilder) -> None:
    for size in (0.001, 0.01, 0.1):
        sweep.add(config={"variant": f"backprop {size}"}, optimizer={"step_size": size})
    fig = draw(sweep)
    assert legend(fig) == ["backprop (n=1)"]
    assert fig.axes[0].lines[0].get_color() == METHODS["backprop"][1]


def test_lines_of_one_name_are_told_apart_by_what_differs(sweep: SweepBuilder) -> None:
    for decay in (0.0, 0.1):
        for size in (0.001, 0.01, 0.1):
            optimizer = {"step_size": size, "weight_decay": decay}
            sweep.add(config={"variant": f"{size} and {decay}"}, optimizer=optimizer)
    assert legend(draw(sweep)) == ["backprop, weight decay=0 (n=1)", "backprop, weight decay=0.1 (n=1)"]


def test_setting_named_like_the_method_leaves_the_methods_name(sweep: SweepBuilder) -> None:
    for share in (0.1, 0.2, 0.5):
        sweep.add(algorithm="dropout", network={"dropout": share})
    assert legend(draw(sweep, "network.dropout")) == ["dropout (n=1)"]


def test_method_without_the_hyper_parameter_is_a_horizontal_line(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.7] * 20))
    for rate in (1e-6, 1e-5, 1e-4):
        options = {"continual_backprop": {"replacement_rate": rate}}
        sweep.add(algorithm="continual_backprop", options=options)
    fig = draw(sweep, RATE)
    assert legend(fig) == ["backprop (n=1)", "continual backprop (n=1)"]
    assert [y for _, y in points(fig.axes[0].lines[0])] == pytest.approx([70, 70])
    assert "Horizontal: methods without this hyper-parameter" in caption(fig)
    assert fig.axes[0].get_xlabel() == "Replacement rate"


def test_method_with_one_value_is_a_point(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    by_step_size(sweep, (0.01,), "l2")
    fig = draw(sweep)
    assert points(fig.axes[0].lines[1]) == [[0.01, pytest.approx(50)]]
    assert fig.legends[0].get_lines()[1].get_linestyle() == "None"


def test_too_many_methods_without_a_curve_are_counted_instead(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    for number in range(7):
        sweep.add(algorithm=f"method_{number}", optimizer={"step_size": 0.01})
    fig = draw(sweep)
    assert legend(fig) == ["backprop (n=2)"]
    assert "Not shown: methods with a single value (7)" in caption(fig)


def test_of_other_methods_only_the_best_setting_is_shown(sweep: SweepBuilder) -> None:
    """Section 6: sensitivity showed other methods' every setting."""
    by_step_size(sweep)
    for decay, accuracy in ((0.1, 0.4), (0.01, 0.8), (0.001, 0.6)):
        sweep.add(algorithm="l2", optimizer={"step_size": 0.01, "weight_decay": decay}, rows=task_rows([accuracy] * 20))
    fig = draw(sweep)
    assert legend(fig) == ["backprop (n=2)", "l2, weight decay=0.01 (n=1)"]
    assert "only its best setting (2 are not shown)" in caption(fig)


def test_diverged_runs_are_crosses_and_no_part_of_the_mean(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    for seed in (2, 3, 4):
        sweep.add(seed=seed, optimizer={"step_size": 0.1}, rows=task_rows([0.1] * (seed - 2)), state="diverged")
    fig = draw(sweep)
    (ax,) = fig.axes
    assert np.allclose(points(ax.lines[0])[-1], [0.1, 70])  # the two others
    cross = next(line for line in ax.lines if line.get_marker() == "x")
    assert cross.get_xdata() == [0.1]
    assert [text.get_text() for text in ax.texts] == ["3/5"]
    assert legend(fig) == ["backprop (n=2, 3 diverged)"]
    assert "3 of" not in caption(fig)
    assert "× k/n: k of n runs diverged" in caption(fig)
    fig.draw_without_rendering()
    lowest = ax.transData.transform((0.1, band(ax)[:, 1].min()))[1]
    highest = ax.texts[0].get_window_extent().y1
    assert highest < lowest  # the crosses have room of their own


def test_infinite_values_are_missing_as_everywhere(sweep: SweepBuilder, recwarn: pytest.WarningsRecorder) -> None:
    by_step_size(sweep)
    sweep.add(seed=2, optimizer={"step_size": 0.1}, rows=task_rows([0.5] * 19 + [np.inf]))
    fig = draw(sweep)
    assert np.allclose(points(fig.axes[0].lines[0])[-1], [0.1, 100 * (0.6 + 0.8 + 0.5) / 3])
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_crosses_lie_at_the_bad_end(sweep: SweepBuilder) -> None:
    for size in (0.001, 0.01, 0.1):
        sweep.add(optimizer={"step_size": size}, rows=task_rows([0.5] * 20, metric="squared_error"))
    sweep.add(seed=1, optimizer={"step_size": 0.1}, rows=[], state="diverged")
    (ax,) = draw(sweep).axes
    cross = next(line for line in ax.lines if line.get_marker() == "x")
    assert float(np.asarray(cross.get_ydata())[0]) > 0.9


def test_points_with_fewer_runs_are_in_the_legend(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    sweep.add(seed=2, optimizer={"step_size": 0.01})
    assert legend(draw(sweep)) == ["backprop (n=2–3)"]


def test_values_that_are_no_numbers_and_runs_with_fewer_tasks_are_admitted(sweep: SweepBuilder) -> None:
    for rate in (1e-6, 1e-5, 1e-4, [1e-4, 0]):
        sweep.add(algorithm="continual_backprop", options={"continual_backprop": {"replacement_rate": rate}})
    sweep.add(
        seed=1,
        algorithm="continual_backprop",
        options={"continual_backprop": {"replacement_rate": 1e-6}},
        rows=task_rows([0.1] * 3),
        state="running",
    )
    fig = draw(sweep, RATE)
    assert len(points(fig.axes[0].lines[0])) == 3
    assert "Not shown: runs whose replacement rate is no number (1)" in caption(fig)
    assert "Left out: 1 run with fewer tasks" in caption(fig)


def test_parameters_that_can_be_drawn(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    for rate in (1e-6, 1e-5):
        options = {"continual_backprop": {"replacement_rate": rate}}
        sweep.add(algorithm="continual_backprop", options=options)
    for activation in ("relu", "tanh", "elu"):
        sweep.add(network={"activation": activation}, optimizer={"step_size": 7})
    assert parameters(load(sweep.folder).runs) == [STEP]


def test_number_of_tasks_is_no_hyper_parameter(sweep: SweepBuilder) -> None:
    """A run can be extended; then it has more tasks than the others of its method."""
    for tasks in (20, 30, 40):
        sweep.add(seed=tasks, benchmark={"num_tasks": tasks})
    by_step_size(sweep)
    assert parameters(load(sweep.folder).runs) == [STEP]


def test_three_values_in_three_methods_are_no_curve(sweep: SweepBuilder) -> None:
    for index, algorithm in enumerate(("backprop", "l2", "redo")):
        sweep.add(algorithm=algorithm, optimizer={"step_size": 0.1 * (index + 1)})
    assert parameters(load(sweep.folder).runs) == []


def test_what_cannot_be_drawn_says_why(sweep: SweepBuilder, tmp_path: Path) -> None:
    by_step_size(sweep)
    with pytest.raises(AnalysisError, match=r"no hyper-parameter 'step'; can be drawn: optimizer\.step_size"):
        draw(sweep, "step")
    with pytest.raises(AnalysisError, match="single value"):
        draw(sweep, "benchmark.examples_per_task")
    with pytest.raises(AnalysisError, match="no summary 'best'; possible: early"):
        draw(sweep, summary="best")
    with pytest.raises(AnalysisError, match="no metric 'loss'"):
        draw(sweep, metric="loss")
    other = SweepBuilder(tmp_path / "other")
    by_step_size(other)
    other.add(optimizer={"_target_": "yours.SGD", "step_size": 0.1})
    with pytest.raises(AnalysisError, match="no hyper-parameter says in what"):
        draw(other)
    sweep.add(benchmark={"name": "permuted_mnist"})
    with pytest.raises(AnalysisError, match="several benchmarks"):
        draw(sweep)


def test_given_looks_and_axes_are_used(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    fig = Figure()
    ax = fig.subplots()
    look = Look("#123456", "-")
    assert draw(sweep, looks={"backprop": look}, axes=ax) is fig
    assert ax.lines[0].get_color() == "#123456"
    assert draw(sweep, looks={"l2": look}).axes[0].lines[0].get_color() == METHODS["backprop"][1]


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("count", [1, 9])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, count: int) -> None:
    for algorithm in list(METHODS)[:count]:
        by_step_size(sweep, algorithm=algorithm.replace(" ", "_"))
        sweep.add(
            seed=5, algorithm=algorithm.replace(" ", "_"), optimizer={"step_size": 0.1}, rows=[], state="diverged"
        )
    assert_readable(draw(sweep, style=style))


def test_sweep_is_not_changed(sweep: SweepBuilder) -> None:
    by_step_size(sweep)
    loaded = load(sweep.folder)
    before = Sweep(loaded.runs.copy(), loaded.tasks.copy())
    sensitivity(loaded.tasks, loaded.runs, STEP)
    assert before.runs.equals(loaded.runs)
    assert before.tasks.equals(loaded.tasks)
