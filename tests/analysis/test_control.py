"""Figures of control: learning curves over environment steps, the policy's diagnostics, changes of the environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lop_sweeps.analysis.figures.overview import overview
from lop_sweeps.analysis.figures.performance import changes, performance, tasks_per_point
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.reading.load import Sweep, load
from lop_sweeps.analysis.reading.metric import diagnostics_of
from lop_sweeps.analysis.report import Options, make
from lop_sweeps.analysis.statistics.aggregate import curves
from tests.analysis.sweep_builder import Rows, SweepBuilder

EVERY = 1_000


def control_rows(returns: Sequence[float | None], frictions: Sequence[float] | None = None) -> Rows:
    """A row per value, None = no episode ended; the policy's numbers differ from those of the value network."""
    rows: Rows = []
    for task, value in enumerate(returns):
        row: dict[str, Any] = {"task": task, "examples": (task + 1) * EVERY}
        if value is not None:
            row |= {"return": value, "episodes": {"ends": [task * EVERY + 7], "returns": [value]}}
        if frictions is not None:
            row["friction"] = frictions[task]
        row |= {"value_loss": 1.0, "rarely_active_fraction": [0.1, 0.3, 0.7, 0.9]}
        row |= {"srank99": [40.0, 20.0 + task, 5.0, 6.0], "weight_magnitude": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
        rows.append(row)
    return rows


def control(sweep: SweepBuilder, rows: Rows, seed: int = 0, **more: Any) -> None:
    benchmark = {"name": "slippery_ant", "protocol": "control", "performance": "return", "bin_tasks": 12}
    layers = {"units": [64] * 4, "weights": [10] * 6}
    sweep.add(
        seed=seed,
        rows=rows,
        benchmark=benchmark,
        network={"hidden": [64, 64]},
        **{"config": {"layers": layers}, **more},
    )


@pytest.fixture
def loaded(sweep: SweepBuilder) -> Sweep:
    for seed in range(3):
        frictions = [1.0] * (40 + seed) + [0.2] * 40 + [0.5] * (40 - seed)
        control(sweep, control_rows(np.linspace(0, 119, 120), frictions), seed)
    return load(sweep.folder)


def test_learning_curve_is_over_environment_steps(loaded: Sweep) -> None:
    fig = performance(loaded.tasks, loaded.runs)
    (ax,) = fig.axes  # the first ten rows of a log are nothing to look at by themselves
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Environment steps", "Return of an episode")
    x, y = np.asarray(ax.lines[0].get_xydata()).T
    assert x.tolist() == [3 * EVERY * (i + 1) for i in range(40)]
    assert y == pytest.approx(3.0 * np.arange(40) + 1)


def test_levels_are_marked_too(loaded: Sweep) -> None:
    levels = loaded.tasks.drop(columns="friction").assign(level=lambda tasks: tasks["task"] // 50)
    assert changes(levels).tolist() == [50 * EVERY, 100 * EVERY]


def test_changes_of_the_environment_are_marked_where_most_runs_have_them(loaded: Sweep) -> None:
    assert changes(loaded.tasks).tolist() == [41 * EVERY, 81 * EVERY]
    fig = performance(loaded.tasks, loaded.runs)
    marked = [line for line in fig.axes[0].lines if line.get_linestyle() == ":"]
    assert [float(np.asarray(line.get_xdata())[0]) for line in marked] == [41 * EVERY, 81 * EVERY]


@pytest.mark.parametrize(("rows", "per_point"), [(20, 1), (120, 3), (2_000, 12)])
def test_points_average_what_the_benchmark_says_but_a_curve_keeps_its_shape(
    sweep: SweepBuilder, rows: int, per_point: int
) -> None:
    control(sweep, control_rows([1.0] * rows))
    assert tasks_per_point(load(sweep.folder).tasks) == per_point


def test_diagnostics_are_those_of_the_policy(loaded: Sweep) -> None:
    """As in the paper's figure: weights and rank of its last hidden layer, dormant units of both."""
    found = diagnostics_of(loaded.tasks)
    assert list(found) == ["weight_magnitude", "dormant_units", "stable_rank"]
    first = loaded.tasks.iloc[0]
    assert [first[metric] for metric in found.values()] == pytest.approx([0.2, 0.2, 20.0])
    fig = overview(loaded.tasks, loaded.runs)
    assert len(fig.axes) == 4
    assert {ax.get_xlabel() for ax in fig.axes} == {"Environment steps"}


def by_depth(sweep: SweepBuilder, hidden: list[int]) -> None:
    """Entry i of a list is i + 1."""
    depth = 2 * len(hidden)
    lists = {
        "srank99": depth,
        "rarely_active_fraction": depth,
        "weight_magnitude": depth + 2,
        "weight_change": depth + 2,
    }
    values = {name: [float(i + 1) for i in range(count)] for name, count in lists.items()}
    rows = [{"task": task, "examples": (task + 1) * EVERY, "return": 1.0} | values for task in range(3)]
    layers = {"units": hidden + hidden, "weights": [10] * (depth + 2)}
    benchmark = {"name": "ant", "protocol": "control", "performance": "return"}
    sweep.add(rows=rows, benchmark=benchmark, network={"hidden": hidden}, config={"layers": layers})


def test_last_layer_of_the_policy_is_that_of_each_runs_network(sweep: SweepBuilder) -> None:
    """Next to a deeper network a shallow one was once drawn with the ranks of its value network."""
    for hidden in ([64], [64, 192], [8, 8, 8]):
        by_depth(sweep, hidden)
    loaded = load(sweep.folder)
    rows = loaded.tasks[loaded.tasks["task"] == 0]
    assert rows["policy_last_srank99"].tolist() == [1, 2, 3]
    assert rows["policy_last_weight_magnitude"].tolist() == [1, 2, 3]  # the matrix into that layer
    assert rows["policy_last_weight_change"].tolist() == [1, 2, 3]
    assert rows["policy_rarely_active_fraction"].tolist() == [1, (64 * 1 + 192 * 2) / 256, 2]
    assert rows["rarely_active_fraction"].tolist() == [1.5, (64 * 1 + 192 * 2 + 64 * 3 + 192 * 4) / 512, 3.5]
    assert list(diagnostics_of(loaded.tasks).values()) == [
        "policy_last_weight_magnitude",
        "policy_rarely_active_fraction",
        "policy_last_srank99",
    ]


def test_linear_policy_has_no_last_layer(sweep: SweepBuilder) -> None:
    by_depth(sweep, [])
    tasks = load(sweep.folder).tasks
    assert not [name for name in tasks.columns if name.startswith("policy_")]
    assert diagnostics_of(tasks)["stable_rank"] is None


def test_last_layer_without_layers_in_the_configuration(sweep: SweepBuilder) -> None:
    control(sweep, control_rows([1.0]), config={})
    assert load(sweep.folder).tasks["policy_last_srank99"].item() == 20


def test_axes_say_which_layer(loaded: Sweep) -> None:
    assert [ax.get_ylabel() for ax in overview(loaded.tasks, loaded.runs).axes] == [
        "Return of an episode",
        "Weight magnitude, mean |w|,\npolicy's last layer",
        "Rarely active units (%), policy",
        "srank, δ = 0.01 (units),\npolicy's last layer",
    ]
    assert quantity("policy_last_srank99").title == "srank, δ = 0.01, policy's last layer"
    assert quantity("policy_loss").title == "Policy loss"


@pytest.mark.parametrize(
    ("metric", "right"),
    [
        ("return", True),
        ("value_loss", True),
        ("weight_change", True),
        ("policy_last_weight_change", True),
        ("srank99/2", False),
        ("policy_rarely_active_fraction", False),
        ("policy_last_weight_magnitude", False),
    ],
)
def test_what_happened_in_a_row_stands_at_its_end_and_what_was_measured_before_at_its_start(
    sweep: SweepBuilder, metric: str, right: bool
) -> None:
    """In the paper returns stand at the right edge of their window."""
    rows = control_rows([1.0, 2.0, 3.0, 4.0, 5.0])
    control(sweep, [row | {"weight_change": [1.0] * 6} for row in rows])
    curve = curves(load(sweep.folder).tasks, metric, k=2, x="steps")["backprop"]
    assert curve.x.tolist() == ([2_000, 4_000] if right else [0, 2_000])


def test_stretch_in_which_no_episode_ended_is_no_return_of_zero(sweep: SweepBuilder) -> None:
    control(sweep, control_rows([None, 5.0, None, 7.0]))
    tasks = load(sweep.folder).tasks
    assert tasks["return"].isna().tolist() == [True, False, True, False]
    assert performance(tasks, load(sweep.folder).runs, k=1).axes


def test_agents_options_and_lengths(sweep: SweepBuilder) -> None:
    """Two agents are two methods; a longer run of one is not."""
    for seed, (clip, steps) in enumerate([(0.2, 4_000), (0.2, 8_000), (0.1, 4_000)]):
        control(
            sweep,
            control_rows([1.0] * (steps // EVERY)),
            seed,
            config={"agent": {"clip": clip}, "layers": {"units": [64] * 4, "weights": [10] * 6}},
        )
    assert set(load(sweep.folder).runs["label"]) == {"backprop, clip=0.2", "backprop, clip=0.1"}


def test_report_writes_its_figures(loaded: Sweep, sweep: SweepBuilder) -> None:
    names = [path.name for path in make(sweep.folder, options=Options(formats=["png"]))]
    assert names[:5] == [
        f"{name}.png" for name in ("performance", "weight_magnitude", "dormant_units", "stable_rank", "overview")
    ]
