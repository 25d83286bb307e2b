"""Hydra's conventions on the command line, and what the sweeper adds to them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lop_sweeps.errors import DataError
from lop_sweeps.sweeps import worker
from lop_sweeps.sweeps.expansion import expand, variants_of
from lop_sweeps.sweeps.sweeper import studies
from tests import runs
from tests.command import Command

EXPERIMENTS = sorted(
    str(path.relative_to(folder).with_suffix(""))
    for folder in [Path(__file__).parents[2] / "conf" / "experiment"]
    for path in folder.rglob("*.yaml")
)


def expanded(*line: str, variants: dict[str | None, list[str]] | None = None, **params: str) -> list[list[str]]:
    loader = runs.composer().loader
    return [overrides for _, overrides in expand(loader, variants or {None: []}, params, line)]


def test_lists_ranges_choices_and_globs() -> None:
    assert len(expanded("seed=range(30)")) == 30
    assert expanded("seed=choice(1,2)") == expanded("seed=1,2")
    assert ["benchmark=permuted_mnist"] in expanded("benchmark=glob(permuted*)")
    assert len(expanded("benchmark=glob(permuted_d*)", "seed=1,2")) == 2


def test_an_algorithm_may_be_a_combination() -> None:
    assert expanded("algorithm=backprop,[l2,continual_backprop]") == [
        ["algorithm=backprop"],
        ["algorithm=[l2,continual_backprop]"],
    ]


def test_variants_are_a_union_of_grids_and_the_command_line_wins() -> None:
    variants: dict[str | None, list[str]] = {"a": ["optimizer.step_size=1,2"], "b": ["algorithm=l2"]}
    assert len(expanded("seed=0,1", variants=variants)) == 2 * 2 + 1 * 2
    assert expanded(variants={"a": ["seed=1,2"]}, seed="3") == [["seed=1"], ["seed=2"]]
    assert expanded("seed=5", variants={"a": ["seed=1,2"]}, seed="3") == [["seed=5"]]


def test_several_experiments_keep_their_own_variants_and_parameters(tmp_path: Path) -> None:
    """Hydra composes swept experiments too late for that: their variants and seeds would be lost without a word."""
    line = ["experiment=glob(demo*)", "scale=tiny", f"paths.sweeps={tmp_path}"]
    seen = []
    for study, params, rest in studies(runs.composer(), {}, line):
        seen.append((len(variants_of(study)), params["seed"], rest[0]))
    assert seen == [(5, "range(5)", "experiment=demo_digits"), (5, "range(10)", "experiment=demo_regression")]


def test_precedence_is_benchmark_scale_experiment_command_line() -> None:
    def tasks(*overrides: str) -> int:
        return int(runs.composer().compose(list(overrides))[0].benchmark.num_tasks)

    assert tasks("scale=tiny") == 4
    assert tasks("scale=tiny", "benchmark.num_tasks=9") == 9
    assert tasks("benchmark.num_tasks=9", "scale=tiny") == 9


def test_a_benchmark_brings_its_network_unless_told_otherwise() -> None:
    def network(*overrides: str) -> str:
        return str(runs.composer().compose(list(overrides))[1]["network"])

    regression = "benchmark=slowly_changing_regression"
    assert network(regression) == "mlp_regression"
    assert network(regression, "network=linear") == "linear"
    assert network("network=linear", regression) == "linear"


@pytest.mark.parametrize(
    ("line", "names"),
    [([], ["backprop"]), (["algorithm=l2"], ["l2"]), (["algorithm=[l2,redo]"], ["l2", "redo"]), (["algorithm=[]"], [])],
    ids=str,
)
def test_what_was_chosen_is_stored_by_name_also_from_a_list(line: list[str], names: list[str], tmp_path: Path) -> None:
    """Hydra itself names single choices only; labels of figures are made of these names."""
    assert runs.point(tmp_path, *runs.SMALL, *line).config["choices"]["algorithm"] == names


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith("field/")) for name in EXPERIMENTS]
)
def test_every_experiment_is_checked_point_by_point(name: str, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    composer = runs.composer()
    config = composer.loader.load_sweep_config(composer.master, [f"experiment={name}"])
    params = OmegaConf.to_container(config.hydra.sweeper.params)
    variants = OmegaConf.to_container(config.variants) if config.variants else {None: []}
    line = [f"experiment={name}", "seed=0", f"paths.sweeps={tmp_path}"]
    checked, without_data = 0, False
    for variant, overrides in expand(composer.loader, variants, params, line):  # type: ignore[arg-type]
        try:
            point = composer.point(variant, overrides)
        except DataError:  # the data are not here; everything before that was checked
            without_data = True
            continue
        assert point.config["sweep"] == name.rpartition("/")[2]
        checked += 1
    assert checked or without_data


def test_a_real_sweep_and_a_second_one_over_it(lop: Command) -> None:
    line = ["-m", "scale=tiny", "algorithm=backprop,continual_backprop", "seed=range(2)", "network.hidden=[10]"]
    first = lop(*line)
    assert first.code == 0, first.err
    assert "4 done" in first.err
    assert "4 finished already, 0 to run" in lop(*line).err


def test_hydras_basic_launcher_runs_the_same_runs(lop: Command, tmp_path: Path) -> None:
    line = ["-m", "scale=tiny", "seed=0,1", "network.hidden=[10]"]
    first = lop(*line, "hydra/launcher=basic")
    assert first.code == 0, first.err
    assert len(list((tmp_path / "sweeps" / "permuted_digits-tiny").iterdir())) == 2
    assert "2 finished already" in lop(*line).err


def test_the_whole_configuration_can_be_printed(lop: Command) -> None:
    shown = lop("--cfg", "job", "--resolve", "-p", "benchmark", "scale=paper")
    assert "num_tasks: 800" in shown.out


def test_help_is_quick_and_lists_choices() -> None:
    code = (
        "import sys; from lop_sweeps.__main__ import main; sys.argv[1:] = ['-h']; main(); print('hydra' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.endswith("False\n")  # Hydra is slow to import
    assert "continual_backprop" in shown.stdout
    assert shown.stdout.count("\n  lop ") == 3


def test_where_there_is_a_gpu_the_command_forks_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has threads for the GPU once it has looked at a stranger's network, and their fork could take no gradient."""
    started: list[str] = []
    monkeypatch.setattr(worker, "fork", lambda number, rows: started.append("fork"))
    monkeypatch.setattr(worker, "spawn", lambda number, rows: started.append("spawn"))
    for gpus in (0, 2):
        monkeypatch.setattr(worker.devices, "count", lambda gpus=gpus: gpus)
        worker.by_command(0, False)
    assert started == ["fork", "spawn"]
