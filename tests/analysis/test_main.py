"""`lop-figures`: what it writes, prints and refuses."""

import io
import os
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pandas as pd
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
    assert "backprop  2, 1 left out" in printed
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
    assert "step_size=0.001 is the smallest of 3" in printed  # cases 3.2
    out = sweep.folder / "figures"
    assert "Of each algorithm the setting that was best on seeds 0–2" in (out / "table.md").read_text(encoding="utf-8")
    assert "Of each algorithm the setting that was best on seeds 0–2" in (out / "comparison.csv").read_text("utf-8")
    assert "seeds 3–5" in (out / "selection.md").read_text(encoding="utf-8")
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
        (["--format", "pgf"], "no figure format pgf; possible: png, pdf, svg, and tex of tables"),
        (["--interval", "t", "--statistic", "iqm"], "Student's t interval is of the mean"),
        (["--where", "optimizer.step_size==7"], "no run is left; optimizer.step_size has: 0.01"),
        (["--where", "step_size"], "must be NAME OPERATOR VALUE"),
        (["--order", "l2"], "no label 'l2'"),
        (["--label", "backprop"], "must be LABEL=VALUE"),
        (["--label", r"backprop=$\foo$"], "no formula that can be drawn"),
        (["--colour", "backprop=greenish"], "'greenish' is no colour"),
        (["--limits", "accuracy=2:1"], "lower end"),
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


def captions(path: Path) -> str:
    """Of an SVG whose text is text."""
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"), re.DOTALL))


def test_each_figure_says_of_which_seeds_it_is(sweep: SweepBuilder) -> None:
    """Cases 3.1: nothing said that figures of sensitivity are of the tuning seeds."""
    add_grid(sweep)
    options = ["--tuning-seeds", "0-2", "--format", "svg", "--figure", "sensitivity", "performance", "comparison"]
    assert main([str(sweep.folder), *options]) == 0
    out = sweep.folder / "figures"
    for name in ("performance", "comparison"):
        text = " ".join(captions(out / f"{name}.svg").split())
        assert "Seeds 3–5" in text
        assert "best on seeds 0–2" in text
    text = " ".join(captions(out / "sensitivity_step_size.svg").split())
    assert "Seeds 0–2" in text
    assert "on which the settings were chosen" in text


def test_figure_as_the_user_wants_it(sweep: SweepBuilder, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 6, from the command line."""
    add_grid(sweep)
    options = ["--where", "optimizer.step_size==0.01", "--order", "continual_backprop", "--baseline", "Backprop"]
    options += ["--label", r"continual_backprop=CBP $\rho=10^{-4}$", "--colour", "continual_backprop=#123456"]
    options += ["--limits", "accuracy=10:90", "--limits", "nothing=0:1", "--format", "svg,tex", "--csv"]
    assert main([str(sweep.folder), *options]) == 0
    out = sweep.folder / "figures"
    printed = capsys.readouterr().out
    assert printed.startswith("12 runs")
    assert r"CBP $\rho=10^{-4}$  6" in printed
    assert "limits of nothing: no figure has an axis of it" in printed
    names = set(files(out))
    assert {"runs.csv", "curves.csv", "table.tex", "comparison.tex", "relative.svg"} <= names
    assert r"CBP $\rho=10^{-4}$ &" in (out / "table.tex").read_text(encoding="utf-8")
    assert "#123456" in (out / "performance.svg").read_text(encoding="utf-8")
    assert pd.read_csv(out / "table.csv")["method"].tolist() == ["continual_backprop", "backprop"]


def test_only_tables(sweep: SweepBuilder) -> None:
    sweep.add()
    assert main([str(sweep.folder), "--format", "tex"]) == 0
    assert files(sweep.folder / "figures") == ["table.csv", "table.md", "table.tex"]


def test_overview_of_chosen_diagnostics(sweep: SweepBuilder) -> None:
    sweep.add()
    metrics = ["dead_fraction", "srank99", "effective_rank", "weight_magnitude", "dormant_fraction_tau0.025"]
    assert main([str(sweep.folder), "--figure", "overview", "--metric", *metrics, "--format", "png"]) == 0
    assert "overview.png" in files(sweep.folder / "figures")


def test_metrics_with_odd_names_have_files_of_their_own(sweep: SweepBuilder) -> None:
    """Cases 5.12."""
    names = ["a/b", "a_b", "../x", "n" * 300, "dead fraction"]
    rows = [row | dict.fromkeys(names, 0.5) for row in task_rows([0.5] * 3)]
    sweep.add(rows=rows)
    paths = make(sweep.folder, options=Options(metrics=names, formats=["svg"]))
    drawn = [path for path in paths if path.suffix == ".svg"]
    assert len(set(drawn)) == 5
    assert {path.parent for path in drawn} == {sweep.folder / "figures"}


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_everything_can_be_printed(sweep: SweepBuilder, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Cases 5.3: a traceback at "−", after all files were written, which are UTF-8 in any locale."""
    sweep.add(config={"variant": "ρ − 中"})
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    assert main([str(sweep.folder), "--format", "png", "--figure", "performance"]) == 0
    assert b"late - early" in content.getvalue()
    assert "ρ − 中" in (sweep.folder / "figures" / "table.csv").read_text(encoding="utf-8")
