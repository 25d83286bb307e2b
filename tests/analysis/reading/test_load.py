"""Reading sweep folders: the tidy frame, and every way in which a folder can be unusable."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lop_sweeps import yaml_file
from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.frame import layers, metric_names
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.reading.run_folder import Configurations
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def config(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_one_row_per_run_and_task_with_hyper_parameters_as_columns(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed, rows=task_rows([0.1, 0.2, 0.3]))
    loaded = load(sweep.folder)
    assert len(loaded.runs) == 3
    assert len(loaded.tasks) == 9
    assert loaded.tasks["task"].tolist() == [0, 1, 2] * 3
    assert loaded.tasks["seed"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert loaded.tasks["accuracy"].tolist() == [0.1, 0.2, 0.3] * 3
    assert (loaded.tasks["optimizer.step_size"] == 0.01).all()
    assert (loaded.tasks["network.hidden"] == "[10, 20]").all()
    assert set(loaded.runs["state"]) == {"done"}
    assert loaded.runs["tasks"].tolist() == [3, 3, 3]
    assert loaded.runs["num_tasks"].tolist() == [20, 20, 20]


def test_lists_become_columns_per_layer_and_their_mean(sweep: SweepBuilder) -> None:
    rows = task_rows([0.5])
    rows[0] |= {"dead_fraction": [0.1, 0.3], "effective_rank": [5.0, 5.0]}
    sweep.add(rows=rows)
    tasks = load(sweep.folder).tasks
    assert layers(tasks, "dead_fraction") == ["dead_fraction/1", "dead_fraction/2"]
    assert tasks["dead_fraction/2"].item() == 0.3
    assert tasks["dead_fraction"].item() == pytest.approx((10 * 0.1 + 20 * 0.3) / 30)  # of 30 units
    # Widths 10 and 20: the mean of the layers' shares, not the share of the mean.
    assert tasks["effective_rank_fraction"].item() == pytest.approx((0.5 + 0.25) / 2)
    assert "dead_fraction/1" not in metric_names(tasks)


def test_ranks_are_shares_of_the_features_where_a_unit_has_several(sweep: SweepBuilder) -> None:
    rows = task_rows([0.5])
    rows[0] |= {"effective_rank": [5.0, 5.0]}
    layers = {"units": [10, 20], "features": [20, 40], "weights": [1, 1, 1]}
    sweep.add(rows=rows, config={"layers": layers})
    assert load(sweep.folder).tasks["effective_rank_fraction"].item() == pytest.approx((0.25 + 0.125) / 2)


@pytest.mark.parametrize(
    ("metric", "units"),
    [
        *((f"{name}_fraction", [10, 30]) for name in ("dead", "rarely_active", "inactive", "saturated")),
        ("dormant_fraction_tau0.025", [10, 30]),
        *((name, [1, 1]) for name in ("effective_rank", "srank99", "replaced_units", "mine")),
    ],
)
def test_shares_are_of_all_units_and_ranks_means_over_layers(
    sweep: SweepBuilder, metric: str, units: list[int]
) -> None:
    sweep.add(rows=[{"task": 0, "accuracy": 0.5, metric: [0.1, 0.5]}], network={"hidden": [10, 30]})
    assert load(sweep.folder).tasks[metric].item() == pytest.approx(np.average([0.1, 0.5], weights=units))


def test_shares_of_units_are_means_over_layers_where_the_units_are_not_known(sweep: SweepBuilder) -> None:
    sweep.add(rows=[{"task": 0, "accuracy": 0.5, "dead_fraction": [0.1, 0.5]}], network={"hidden": None})
    assert load(sweep.folder).tasks["dead_fraction"].item() == pytest.approx(0.3)


def test_units_of_a_convolutional_network_are_those_that_the_run_wrote(sweep: SweepBuilder) -> None:
    """The dead tenth of a ResNet's units in its widest layer was once reported as a fifth."""
    layers = {"units": [64, 128, 512], "weights": [1, 1, 1, 1]}
    rows = [{"task": 0, "accuracy": 0.5, "rarely_active_fraction": [0.0, 0.0, 0.9]}]
    sweep.add(rows=rows, network={"hidden": None}, config={"layers": layers})
    assert load(sweep.folder).tasks["rarely_active_fraction"].item() == pytest.approx(0.9 * 512 / 704)


def test_weight_magnitude_is_a_mean_over_weights_where_the_layer_sizes_are_known(sweep: SweepBuilder) -> None:
    rows = task_rows([0.5])
    rows[0]["weight_magnitude"] = [1.0, 2.0, 4.0]
    sweep.add(rows=rows)
    sizes = np.array([8 * 10, 10 * 20, 20 * 2])
    expected = sizes @ [1.0, 2.0, 4.0] / sizes.sum()
    assert load(sweep.folder).tasks["weight_magnitude"].item() == pytest.approx(expected)


def test_weight_magnitude_is_a_mean_over_matrices_elsewhere_and_a_note_says_so(sweep: SweepBuilder) -> None:
    rows = task_rows([0.5])
    rows[0]["weight_magnitude"] = [1.0, 2.0, 4.0]
    sweep.add(rows=rows, network={"inputs": None})
    loaded = load(sweep.folder)
    assert loaded.tasks["weight_magnitude"].item() == pytest.approx(7 / 3)
    assert "mean over weight matrices" in loaded.notes[0]


def test_linear_network_has_no_layer_metrics(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5, 0.6], hidden=()), network={"hidden": []})
    tasks = load(sweep.folder).tasks
    assert "dead_fraction" not in metric_names(tasks)
    assert {"accuracy", "weight_magnitude"} <= set(metric_names(tasks))


def test_networks_of_different_depth_share_a_frame(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5], hidden=(10,)), network={"hidden": [10]})
    sweep.add(rows=task_rows([0.5], hidden=(10, 10, 10)), network={"hidden": [10, 10, 10]})
    tasks = load(sweep.folder).tasks
    assert tasks["dead_fraction/3"].isna().tolist() == [True, False]
    assert tasks["dead_fraction"].notna().all()


@pytest.mark.parametrize("tail", ['{"task": 2, "exam', "\x00\x00\x00\n", '{"task": 2', "7\n"])
def test_incomplete_last_line_is_left_out(sweep: SweepBuilder, tail: str) -> None:
    complete = "".join(json.dumps(row) + "\n" for row in task_rows([0.1, 0.2]))
    sweep.add(text=complete + tail, state="running")
    assert load(sweep.folder).tasks["accuracy"].tolist() == [0.1, 0.2]


def test_last_line_without_its_newline_counts_if_it_is_whole(sweep: SweepBuilder) -> None:
    sweep.add(text="\n".join(json.dumps(row) for row in task_rows([0.1, 0.2])))
    assert len(load(sweep.folder).tasks) == 2


def test_damaged_middle_line_is_an_error_with_file_and_line(sweep: SweepBuilder) -> None:
    lines = [json.dumps(row) for row in task_rows([0.1, 0.2, 0.3])]
    lines[1] = lines[1][:20]
    folder = sweep.add(text="\n".join(lines) + "\n")
    with pytest.raises(AnalysisError, match=r"metrics\.jsonl, line 2: damaged") as error:
        load(sweep.folder)
    assert str(folder) in str(error.value)


def test_task_that_is_there_twice_is_an_error(sweep: SweepBuilder) -> None:
    rows = task_rows([0.1, 0.2])
    sweep.add(rows=[*rows, rows[1]])
    with pytest.raises(AnalysisError, match=r"line 3: tasks are out of order"):
        load(sweep.folder)


def test_list_that_changes_its_length_is_an_error(sweep: SweepBuilder) -> None:
    rows = task_rows([0.1, 0.2])
    rows[1]["dead_fraction"] = [0.0]
    sweep.add(rows=rows)
    with pytest.raises(AnalysisError, match="'dead_fraction' changes its shape"):
        load(sweep.folder)


def test_missing_values_are_nan(sweep: SweepBuilder) -> None:
    rows = task_rows([0.1, 0.2, 0.3])
    rows[1] |= {"accuracy": None, "dead_fraction": None}
    del rows[2]["srank99"]
    sweep.add(rows=rows)
    tasks = load(sweep.folder).tasks
    assert tasks["accuracy"].isna().tolist() == [False, True, False]
    assert tasks["dead_fraction/1"].isna().tolist() == [False, True, False]
    assert tasks["srank99"].isna().tolist() == [False, False, True]


def test_diverged_run_is_used_up_to_its_divergence_only(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.1, 0.2, 0.3, 0.4]), state="diverged", task=2)
    sweep.add(seed=1, rows=task_rows([0.1, float("nan"), 0.3]), state="diverged", task=3)
    sweep.add(seed=2, rows=task_rows([0.1, 0.2, 0.3]))
    loaded = load(sweep.folder)
    assert loaded.runs["tasks"].tolist() == [2, 1, 3]
    assert loaded.tasks.groupby("seed").size().tolist() == [2, 1, 3]
    assert loaded.progress() == "3 runs: 1 finished, 2 diverged"


def test_progress_of_a_running_sweep(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    sweep.add(seed=1, rows=task_rows([0.5]), state="running")
    sweep.add(seed=2, rows=task_rows([0.5]), state="failed")
    waiting = sweep.add(seed=3, rows=[])
    (waiting / "status.json").unlink()
    (waiting / "metrics.jsonl").unlink()
    progress = load(sweep.folder).progress()
    assert progress == ("4 runs: 1 finished, 2 partial (1 failed, 1 running), 1 without a finished task (1 waiting)")


def test_several_folders_and_patterns(sweep: SweepBuilder, tmp_path: Path) -> None:
    other = SweepBuilder(tmp_path / "sweeps" / "other")
    sweep.add(seed=0)
    other.add(seed=1, run="another-run")
    (tmp_path / "sweeps" / "notes").mkdir()
    for paths in ([sweep.folder, str(other.folder)], str(tmp_path / "sweeps" / "*")):
        assert sorted(load(paths).runs["sweep"]) == ["digits", "other"]
    assert load(sweep.folder / "run-0000").runs["seed"].tolist() == [0]


def test_run_in_two_sweeps_counts_once(sweep: SweepBuilder, tmp_path: Path) -> None:
    folder = sweep.add(rows=task_rows([0.5, 0.6]))
    copy = tmp_path / "sweeps" / "copy" / folder.name
    shutil.copytree(folder, copy)
    (folder / "metrics.jsonl").write_text(json.dumps(task_rows([0.5])[0]) + "\n")
    loaded = load([sweep.folder, copy.parent])
    assert len(loaded.runs) == 1
    assert len(loaded.tasks) == 2  # the copy that got further
    assert "count once" in loaded.notes[0]


def test_two_results_of_one_configuration_and_seed_are_refused(sweep: SweepBuilder) -> None:
    sweep.add(seed=4, run="old")
    sweep.add(seed=4, run="new")
    with pytest.raises(AnalysisError, match=r"'backprop', seed 4: several runs .*old.*new|new.*old"):
        load(sweep.folder)


def test_numbers_written_without_a_point_are_numbers(sweep: SweepBuilder) -> None:
    folder = sweep.add()
    config = (folder / "config.yaml").read_text().replace("step_size: 0.01", "step_size: 1e-5")
    (folder / "config.yaml").write_text(config)
    assert load(sweep.folder).runs["optimizer.step_size"].item() == 1e-5


def test_options_of_mixed_type(sweep: SweepBuilder) -> None:
    for seed, value in enumerate(["auto", 0.5, True, None, [1, 2]]):
        sweep.add(seed=seed, optimizer={"clip": value})
    loaded = load(sweep.folder)
    assert isinstance(loaded.tasks["optimizer.clip"].dtype, pd.CategoricalDtype)
    assert loaded.runs["label"].nunique() == 5


def test_folder_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="nowhere: no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(AnalysisError, match="no sweep matches"):
        load(str(tmp_path / "no*"))
    with pytest.raises(AnalysisError, match="no sweep folder given"):
        load([])


def test_folder_without_runs_names_the_sweeps_inside(sweep: SweepBuilder, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match=r"contains no runs$"):
        load(tmp_path)
    sweep.add()
    with pytest.raises(AnalysisError, match=r"contains no runs; it holds sweeps: .*digits"):
        load(tmp_path / "sweeps")


def test_no_finished_task(sweep: SweepBuilder) -> None:
    sweep.add(rows=[], state="running")
    sweep.add(seed=1, text='{"task": 0, "acc', state="running")
    with pytest.raises(AnalysisError, match=r"no run has finished a task \(2 running\)"):
        load(sweep.folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "be read"),
        ("just text", "not a configuration"),
        ("schema: 2", "schema 2, this version reads schema 1"),
        ("benchmark: {name: x}", "lacks seed"),
    ],
)
def test_unusable_configuration(sweep: SweepBuilder, content: str, message: str) -> None:
    (sweep.add() / "config.yaml").write_text(content)
    with pytest.raises(AnalysisError, match=message):
        load(sweep.folder)


REST = "benchmark: {name: x}\n"


def test_seeds_share_what_is_parsed_of_their_configuration(tmp_path: Path) -> None:
    configurations = Configurations()
    read = [configurations.read(config(tmp_path, f"seed: {seed}\nrun: a+b-seed{seed}\n{REST}")) for seed in (1, 2)]
    assert [(found["seed"], found["run"]) for found in read] == [(1, "a+b-seed1"), (2, "a+b-seed2")]
    assert read[0]["benchmark"] is read[1]["benchmark"] == {"name": "x"}
    other = configurations.read(config(tmp_path, "seed: 1\nrun: a\nbenchmark: {name: y}\n"))
    assert other["benchmark"] == {"name": "y"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("run: a\nseed: 1\n", "run: 1e5\nseed: 010\n"),  # a float, and 8: as YAML has it
        ("run: a\n  b\nseed: 1\n", "run: c\n  b\nseed: 1\n"),
        ('note: "x\nrun: a\ny"\nseed: 1\n', 'note: "x\nrun: b\ny"\nseed: 1\n'),
        ('note: "x\nrun: a\ny"\nrun: a\nseed: 1\n', 'note: "x\nrun: b\ny"\nrun: a\nseed: 1\n'),
        ("run: a\nseed: 1\n", "run: a\nseed: 1\nseed: 2\n"),
        ("seed: 1\n", "run: a\nseed: 1\n"),
    ],
)
def test_configuration_does_not_depend_on_those_read_before(tmp_path: Path, one: str, other: str) -> None:
    configurations = Configurations()
    configurations.read(config(tmp_path, one + REST))
    path = config(tmp_path, other + REST)
    expected = yaml_file.parse(path.read_text())
    assert repr(configurations.read(path)) == repr(expected)  # 1 is not 1.0


def test_broken_seed_after_a_good_one_is_noticed(tmp_path: Path) -> None:
    configurations = Configurations()
    configurations.read(config(tmp_path, f"run: a\nseed: 1\n{REST}"))
    with pytest.raises(AnalysisError, match="lacks seed"):
        configurations.read(config(tmp_path, f"run: a\nseed: null\n{REST}"))


def test_unusable_runs_are_left_out_and_named_in_order(sweep: SweepBuilder) -> None:
    """Runs are read side by side (cases 1.9)."""
    for seed in range(20):
        sweep.add(seed=seed, text='{"task": 0\n{"task": 1}\n' if seed in (7, 8) else None)
    (sweep.folder / "run-0012" / "config.yaml").write_text("a: [1")
    (sweep.folder / "run-0013" / "config.yaml").unlink()
    for _ in range(5):
        loaded = load(sweep.folder)
        assert sorted(set(range(20)) - set(loaded.runs["seed"])) == [7, 8, 12, 13]
        named = [re.findall(r"run-\d+", note)[0] for note in loaded.notes if "left out" in note]
        assert named == ["run-0007", "run-0008", "run-0012", "run-0013"]


def test_log_that_is_a_folder_or_not_to_be_looked_into_is_one_note(
    sweep: SweepBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cases 5.12."""
    sweep.add()
    log = sweep.add(seed=1) / "metrics.jsonl"
    log.unlink()
    log.mkdir()
    closed = sweep.add(seed=2)
    real = os.open

    def refuse(path: str, *arguments: int, **named: int) -> int:
        if Path(path).parent == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)
    loaded = load(sweep.folder)
    assert loaded.runs["seed"].tolist() == [0]
    left = [note for note in loaded.notes if note.startswith("left out: ")]
    assert [str(log) in left[0], str(closed) in left[1], len(left)] == [True, True, 2]


def test_metric_with_a_slash_in_its_name_is_a_metric(sweep: SweepBuilder) -> None:
    """Cases 5.12: it was a traceback."""
    rows = task_rows([0.5] * 3)
    for row in rows:
        row |= {"loss/train": 1.0, "a/1": 2.0, "/": 3.0, "x/": 4.0, "dead/units": [0.1, 0.2]}
    sweep.add(rows=rows)
    tasks = load(sweep.folder).tasks
    assert {"loss/train", "a/1", "/", "x/", "dead/units"} <= set(metric_names(tasks))
    assert "dead_fraction/1" not in metric_names(tasks)
    assert layers(tasks, "dead/units") == ["dead/units/1", "dead/units/2"]
    assert layers(tasks, "dead_fraction") == ["dead_fraction/1", "dead_fraction/2"]


def test_runs_are_chosen_by_any_hyper_parameter(sweep: SweepBuilder) -> None:
    """Section 6: labels are made of what is left."""
    for step_size in (0.1, 0.01):
        sweep.add(optimizer={"step_size": step_size})
        sweep.add(algorithm="l2", optimizer={"step_size": step_size, "weight_decay": 1e-4})
    found = load(sweep.folder, where=["optimizer.step_size==0.01"])
    assert found.runs["label"].tolist() == ["backprop", "l2"]
    assert set(found.tasks["label"]) == {"backprop", "l2"}
    assert any("optimizer.step_size==0.01" in note for note in found.notes)
    assert load(sweep.folder, where=["step_size<=0.01", "weight_decay==none"]).runs["label"].tolist() == ["backprop"]


def test_runs_of_different_lengths_are_pointed_out(sweep: SweepBuilder) -> None:
    """Early and late of a long run were once compared with those of a short one without a word."""
    for seed, tasks in ((0, 8), (1, 3)):
        sweep.add(seed=seed, rows=task_rows([0.5] * tasks))
    assert any("3 to 8 finished tasks" in note for note in load(sweep.folder).notes)


def test_of_two_copies_of_a_run_the_final_one_counts(sweep: SweepBuilder) -> None:
    other = SweepBuilder(sweep.folder.parent / "other")
    sweep.add(run="x", rows=task_rows([0.9] * 3), state="diverged")
    other.add(run="x", rows=task_rows([0.9] * 5), state="running")  # copied before it diverged
    assert load([sweep.folder, other.folder]).runs["state"].tolist() == ["diverged"]


def test_folders_of_one_name_are_not_one_run(sweep: SweepBuilder) -> None:
    other = SweepBuilder(sweep.folder.parent / "other")
    sweep.add(run="x")
    other.add(run="x", algorithm="l2", seed=1)
    assert len(load([sweep.folder, other.folder]).runs) == 2


def test_part_of_some_seeds(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed)
    part = load(sweep.folder).of_seeds([0, 2, 7])
    assert part.runs["seed"].tolist() == [0, 2]
    assert part.tasks["seed"].unique().tolist() == [0, 2]
    with pytest.raises(AnalysisError, match="no run with one of these seeds"):
        part.of_seeds([1])
