"""`lop-figures`: what it writes, prints and refuses."""

import os
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.analysis.__main__ import main, seeds
from lop_sweeps.analysis.report import Options, make
from tests.analysis.sweep_builder import SweepBuilder, task_rows

NAMES = ["performance", "weight_magnitude", "dead_units", "effective_rank", "overview"]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_figures_and_table_of_a_sweep(sweep: SweepBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        sweep.add(seed=seed)
    sweep.add(seed=2, rows=task_rows([0.5] * 3), state="running")
    assert main([str(sweep.folder)]) == 0
    out = sweep.folder / "figures"
    assert files(out) == sorted(
        [f"{name}.{extension}" for name in NAMES for extension in ("png", "pdf")] + ["table.csv", "table.md"]
    )
    printed = capsys.readouterr().out
    assert printed.startswith("3 runs: 2 finished, 1 partial (1 running)\n")
    assert "backprop  3, 1 partial" in printed
    assert str(out / "overview.pdf") in printed
    assert main([str(sweep.folder)]) == 0  # the figures' folder is not taken for a run


def test_linear_network_is_drawn_without_its_layers(sweep: SweepBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.add(rows=task_rows([0.5] * 12, hidden=()), network={"hidden": []})
    assert main([str(sweep.folder), "--format", "png"]) == 0
    assert files(sweep.folder / "figures") == [
        "overview.png",
        "performance.png",
        "table.csv",
        "table.md",
        "weight_magnitude.png",
    ]
    assert "Not drawn: dead_units: no run has such values (networks without hidden" in capsys.readouterr().out


def add_grid(sweep: SweepBuilder) -> None:
    """Two methods, one of them with three step sizes, six seeds, units that die and are replaced."""
    rng = np.random.default_rng(0)
    settings: list[tuple[str, float]] = [("backprop", 0.01), *(("continual_backprop", s) for s in (0.1, 0.01, 0.001))]
    for algorithm, step_size in settings:
        for seed in range(6):
            rows = task_rows(0.8 - 0.01 * np.arange(20) + 0.02 * rng.standard_normal(20) - step_size)
            for row in rows[1:]:
                row |= {"died_units": [1, 2], "revived_units": [0, 1], "replaced_units": [0, 0]}
            sweep.add(seed=seed, algorithm=algorithm, optimizer={"step_size": step_size}, rows=rows)


def test_the_set_is_what_makes_sense_for_the_sweep(sweep: SweepBuilder) -> None:
    add_grid(sweep)
    names = {path.name for path in make(sweep.folder, options=Options(formats=["svg"]))}
    figures = {*NAMES, "comparison", "sensitivity_step_size", "births_and_deaths", "correlation"}
    tables = {"table.csv", "table.md", "comparison.csv", "comparison.md"}
    assert names == {f"{name}.svg" for name in figures} | tables
    relative = {path.stem for path in make(sweep.folder, options=Options(formats=["svg"], baseline="backprop"))}
    assert relative == {*figures, "relative", "table"}


def test_chosen_figures(sweep: SweepBuilder) -> None:
    add_grid(sweep)
    options = Options(figures=["sensitivity", "comparison"], formats=["svg"])
    names = [path.name for path in make(sweep.folder, options=options) if path.suffix == ".svg"]
    assert names == ["comparison.svg", "sensitivity_step_size.svg"]


def test_hyper_parameters_are_selected_on_other_seeds(sweep: SweepBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    add_grid(sweep)
    assert main([str(sweep.folder), "--tuning-seeds", "0-2", "--format", "png", "--report"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("6 runs: 6 finished")
    assert "continual_backprop, step_size=0.001  3 " in printed
    assert "seeds 0–2" in printed
    assert (sweep.folder / "figures" / "sensitivity_step_size.png").exists()  # drawn of what was selected from
    assert "How hyper-parameters were selected" in (sweep.folder / "figures" / "report.html").read_text()


def test_statistic_is_named_in_table(sweep: SweepBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.add()
    assert main([str(sweep.folder), "--statistic", "iqm", "--format", "png", "--style", "talk"]) == 0
    assert "then the interquartile mean over runs" in capsys.readouterr().out


def test_report_holds_figures_and_tables(sweep: SweepBuilder) -> None:
    add_grid(sweep)
    assert main([str(sweep.folder), "--report", "--format", "png,svg"]) == 0
    page = (sweep.folder / "figures" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 9
    for words in ("Early and late performance", "Compared with the baseline", "Births and deaths of units"):
        assert words in page


@pytest.mark.parametrize(("text", "found"), [("0-4,7", [0, 1, 2, 3, 4, 7]), ("3", [3]), ("1, 2", [1, 2])])
def test_seeds_are_numbers_and_ranges(text: str, found: list[int]) -> None:
    assert seeds(text) == found


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "1..3"])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="seeds are numbers and ranges"):
        seeds(text)


def test_empty_range_of_seeds() -> None:
    with pytest.raises(ArgumentTypeError, match="4-0 holds no seed"):
        seeds("1,4-0")


def test_metric_of_one_layer(sweep: SweepBuilder) -> None:
    sweep.add()
    names = {path.name for path in make(sweep.folder, options=Options(metrics=["dead_fraction/2"], formats=["png"]))}
    assert "dead_fraction_2.png" in names


def test_two_hyper_parameters_of_one_name_have_two_figures(sweep: SweepBuilder) -> None:
    for value in (0.1, 0.2, 0.3):
        sweep.add(optimizer={"decay": value})
        sweep.add(network={"decay": value})
    names = {path.name for path in make(sweep.folder, options=Options(figures=["sensitivity"], formats=["svg"]))}
    assert {"sensitivity_network.decay.svg", "sensitivity_optimizer.decay.svg"} <= names


def test_one_set_per_benchmark(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(benchmark={"name": "permuted_mnist"})
    names = [path.name for path in make(sweep.folder, options=Options(formats=["png"]))]
    expected = [f"{benchmark}_{name}.png" for benchmark in ("permuted_digits", "permuted_mnist") for name in NAMES]
    assert names == [*expected, "table.csv", "table.md"]


def test_chosen_metrics_and_layers(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    out = tmp_path / "elsewhere"
    options = ["--metric", "srank99", "accuracy", "--per-layer", "--bin", "2", "--format", "png", "--out", str(out)]
    assert main([str(sweep.folder), *options]) == 0
    assert files(out) == ["accuracy.png", "srank99.png", "srank99_per_layer.png", "table.csv", "table.md"]


def test_per_layer_adds_to_the_usual_set(sweep: SweepBuilder) -> None:
    sweep.add()
    names = {path.stem for path in make(sweep.folder, options=Options(per_layer=True, formats=["png"]))}
    assert names == {*NAMES, "table", *(f"{name}_per_layer" for name in NAMES[1:4])}


def test_same_data_give_the_same_bytes(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    for name in ("a", "b"):
        make(sweep.folder, tmp_path / name, Options(metrics=["accuracy"], formats=["png", "pdf", "svg"]))
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "acuracy"], "no metric 'acuracy'; available: accuracy, "),
        (["--format", "gif2"], "no figure format gif2"),
        (["--format", "pgf"], "no figure format pgf; possible: png, pdf, svg"),
        (["--metric", "label"], "no metric 'label'"),
        (["--metric", "seed"], "no metric 'seed'"),
        (["--format", ","], "no figure format given"),
        (["--bin", "0"], "at least one task"),
        (["--statistic", "median", "--interval", "standard_error"], "standard error"),
        (["--figure", "acuracy"], "no figure 'acuracy'; for this sweep there are: performance, weight_magnitude, "),
        (["--baseline", "cbp"], "no label 'cbp' to compare with; there are: backprop"),
        (["--tuning-seeds", "0"], "backprop"),
        (["--report", "--format", "pdf"], "a report needs its figures as PNG"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    sweep: SweepBuilder, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    sweep.add()
    assert main([str(sweep.folder), *options]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("lop-figures: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (sweep.folder / "figures").exists()


def test_unusable_folders(sweep: SweepBuilder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.add()
    other = SweepBuilder(tmp_path / "sweeps" / "other")
    other.add(seed=1)
    assert main([str(tmp_path / "nowhere")]) == 2
    assert main([str(sweep.folder), str(other.folder)]) == 2
    (tmp_path / "file").touch()
    assert main([str(sweep.folder), "--out", str(tmp_path / "file")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "no such folder" in errors[0]
    assert "--out" in errors[1]
    assert "cannot be written" in errors[2]


def test_needs_neither_torch_nor_a_display(sweep: SweepBuilder) -> None:
    sweep.add()
    code = (
        "import sys; from lop_sweeps.analysis.__main__ import main; "
        f"code = main([{str(sweep.folder)!r}, '--format', 'png']); "
        "loaded = {name.partition('.')[0] for name in sys.modules} & {'torch', 'hydra', 'numba', 'tkinter'}; "
        "sys.exit(code or bool(loaded))"
    )
    environment = {**os.environ, "MPLBACKEND": "TkAgg"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
