"""`lop-figures`: what it writes, prints and refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lop_sweeps.analysis.__main__ import main, make
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


def test_one_set_per_benchmark(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(benchmark={"name": "permuted_mnist"})
    names = [path.name for path in make(sweep.folder, formats=["png"])]
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
    names = {path.stem for path in make(sweep.folder, per_layer=True, formats=["png"])}
    assert names == {*NAMES, "table", *(f"{name}_per_layer" for name in NAMES[1:4])}


def test_same_data_give_the_same_bytes(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    for name in ("a", "b"):
        make(sweep.folder, tmp_path / name, metrics=["accuracy"], formats=["png", "pdf", "svg"])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "acuracy"], "no metric 'acuracy'; available: accuracy, "),
        (["--format", "gif2"], "no figure format gif2"),
        (["--format", ","], "no figure format given"),
        (["--bin", "0"], "at least one task"),
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
