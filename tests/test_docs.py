"""The pages of docs/ say what the code does."""

from __future__ import annotations

import json
import re
import shlex
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from lop_sweeps.analysis.__main__ import main as figures
from lop_sweeps.analysis.__main__ import parser as figures_parser
from lop_sweeps.build import build, locate, options, parameters
from lop_sweeps.diagnostics.diagnostic import RESERVED, Diagnostic
from lop_sweeps.errors import ConfigError, DataError
from lop_sweeps.networks.activations import ACTIVATIONS, OPTIONS
from lop_sweeps.sweeps.expansion import expand
from lop_sweeps.sweeps.sweeper import compose_points
from lop_sweeps.training.checkpoint_file import snapshot_tasks
from tests import runs
from tests.contracts.table import CARTPOLE, CIFAR, IMAGENET, SLIPPERY

ROOT = Path(__file__).parents[1]
DIAGNOSTICS = sorted({path.stem for path in (ROOT / "conf" / "diagnostics").glob("*.yaml")} - {"none", "standard"})


@pytest.mark.parametrize("script", sorted((ROOT / "perf").glob("*.py")), ids=lambda script: script.name)
def test_no_measurement_hides_a_module_that_it_needs(script: Path) -> None:
    """Python puts perf/ first on the path of its scripts: numba imports `coverage`, if there is one."""
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    assert PathFinder.find_spec(script.stem, places) is None


def test_page_of_activations_lists_all_and_their_options() -> None:
    lines = (ROOT / "docs" / "activations.md").read_text().splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("| `")]
    names = [name for row in cells for name in re.findall(r"`(\w+)`", row[1])]
    assert sorted(names) == sorted(ACTIVATIONS)
    assert {name for row in cells for name in re.findall(r"`(\w+)[`:]", row[3])} >= set(OPTIONS)


def test_page_of_networks_lists_all_and_their_parameters() -> None:
    page = (ROOT / "docs" / "networks.md").read_text()
    rows = {row[0]: row[2] for row in re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([\d,]*) ?\|", page, flags=re.MULTILINE)}
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "conf" / "network").glob("*.yaml"))
    for name, written in rows.items():
        if name.startswith("actor_critic"):
            continue
        node: Any = OmegaConf.to_container(runs.composer().compose([f"network={name}"])[0].network, resolve=True)
        made = locate(node, "network")
        size = {"shape": (3, 32, 32)} if "shape" in parameters(made) else {"inputs": 3 * 32 * 32}
        with torch.device("meta"):
            network = made(outputs=10, **size, **options(node))
        assert written == f"{sum(parameter.numel() for parameter in network.parameters()):,}", name


def diagnostic(choice: str) -> Diagnostic:
    node = yaml.safe_load((ROOT / "conf" / "diagnostics" / f"{choice}.yaml").read_text())[choice]
    made: Diagnostic = build(node, f"diagnostics.{choice}")
    return made


def test_metrics_page_lists_exactly_what_is_logged(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(\w[\w.]*)` \|", page, flags=re.MULTILINE))
    logged: set[str] = set()
    online = [[*runs.SMALL, f"benchmark={name}"] for name in ("permuted_digits", "slowly_changing_regression")]
    control = ["scale=tiny", *SLIPPERY, "benchmark.log_every=192"]
    gym = ["scale=tiny", *CARTPOLE]
    measured = [*runs.SMALL, "benchmark=permuted_digits", "engine=torch", "sweep=measured", "benchmark.num_tasks=3"]
    measured += ["benchmark.examples_per_task=40", f"diagnostics=[{','.join(DIAGNOSTICS)}]"]
    images = ["scale=tiny", *IMAGENET, "optimizer=trac"]
    stream = [*runs.SMALL, "benchmark=stream", "benchmark/data=digits", "benchmark/protocol=epochs"]
    for line in (*online, images, stream, ["scale=tiny", *CIFAR], control, gym, measured):
        beside = "c_chain,hare_and_tortoise," if line is images else "weight_clipping," if line is measured else ""
        methods = f"[{beside}continual_backprop]"
        plan = runs.plan(tmp_path, *line, f"algorithm={methods}")
        runs.train(plan)
        logged |= {name for line in runs.metrics(plan.points[0]).splitlines() for name in json.loads(line)}
    assert described == logged
    values = {value.name for choice in DIAGNOSTICS for value in diagnostic(choice).values}
    assert logged - values <= RESERVED  # no diagnostic of a user's may have such a name


@pytest.mark.parametrize("choice", DIAGNOSTICS)
def test_metrics_page_says_of_each_diagnostic_what_its_class_says(choice: str) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    words = {"layer": "hidden layer", "matrix": "weight matrix", "network": "run"}
    for value in diagnostic(choice).values:
        meaning = re.escape(value.meaning.replace("|", r"\|"))
        row = rf"^\| `{re.escape(value.name)}` \| {words[value.per]} \| {meaning}[^|]* \| `{choice}` \|"
        assert re.search(row, page, flags=re.MULTILINE), value.name


def test_benchmarks_page_has_the_lengths_of_the_configuration() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in ("permuted_mnist", "permuted_digits", "slowly_changing_regression"):
        config = yaml.safe_load((ROOT / "conf" / "benchmark" / f"{name}.yaml").read_text())
        scales = config.get("benchmark", config)["scales"]
        cells = [f"{scales[s]['num_tasks']} x {scales[s]['examples_per_task']:,}" for s in ("tiny", "small", "paper")]
        assert f"| {name} | {' | '.join(cells)} |" in page
    for name in ("continual_imagenet", "incremental_cifar100"):
        scales = yaml.safe_load((ROOT / "conf" / "benchmark" / f"{name}.yaml").read_text())["benchmark"]["scales"]
        cells = [f"{scales[s]['num_tasks']:,} x {scales[s]['epochs']}" for s in ("tiny", "small", "paper")]
        assert f"| {name} | {' | '.join(cells)} |" in page
    gym = ("continual_cartpole", "continual_acrobot", "continual_mountain_car", "continual_lunar_lander")
    for name in ("ant", "slippery_ant", "hopper", "walker2d", *gym):
        scales = yaml.safe_load((ROOT / "conf" / "benchmark" / f"{name}.yaml").read_text())["benchmark"]["scales"]
        cells = [f"{scales[s]['num_steps']:,}" for s in ("tiny", "small", "paper")]
        assert f"| {name} | {' | '.join(cells)} |" in page


def _lines_of(command: str) -> list[str]:
    # Those of extending.md are run by tests/test_extending.py.
    others = {path for path in (ROOT / "docs").glob("*.md") if path.name != "extending.md"}
    pages = [ROOT / "README.md", *sorted(others)]
    return [line for page in pages for line in re.findall(rf"^{command} (.*)$", page.read_text(), flags=re.MULTILINE)]


@pytest.mark.parametrize("line", _lines_of("lop-figures"))
def test_every_line_of_figures_in_the_documentation_has_known_options(line: str) -> None:
    assert figures_parser().parse_args(shlex.split(line, comments=True)).sweep


@pytest.mark.parametrize("line", _lines_of("lop"))
def test_every_command_in_the_documentation_is_a_checked_sweep(line: str, tmp_path: Path) -> None:
    words = shlex.split(line, comments=True)
    overrides = [word for word in words if not word.startswith(("-", "hydra")) and "=" in word]
    if any(word.startswith("experiment=") for word in overrides) or "--cfg" in words:
        return  # experiments are checked point by point in tests/sweeps/test_sweeper.py
    composer = runs.composer()
    if "hydra/sweeper=select" in words:  # what it makes of such lines is tested in tests/selection
        line_of_runs = [word for word in overrides if not word.startswith("tuning")]
        every = expand(composer.loader, {None: []}, {}, [*line_of_runs, f"paths.sweeps={tmp_path}"])
        assert compose_points(composer, list(every))[0]
        return
    for _, point in expand(composer.loader, {None: []}, {}, [*overrides, f"paths.sweeps={tmp_path}"]):
        if any(word.startswith("start=") for word in point):  # its parent is looked for when all else was found right
            with pytest.raises(ConfigError, match=r"^start = .*there is no run backprop-seed"):
                composer.point(None, point)
            continue
        try:
            composer.point(None, point)
        except DataError:
            needs_data = {"benchmark=permuted_mnist", "benchmark=continual_imagenet", "benchmark=incremental_cifar100"}
            needs_data |= {"benchmark/data=fashion_mnist", "benchmark=random_label_mnist"}
            needs_data |= {"benchmark=fashion_label_permuted", "benchmark=fashion_input_permuted"}
            assert needs_data & set(point)  # everything but the data is right


def test_the_table_of_the_field_follows_from_the_runs_that_are_published_with_it(tmp_path: Path) -> None:
    folder = ROOT / "docs" / "field"
    studies = [str(path) for path in sorted(folder.glob("*.csv")) if path.name != "leaderboard.csv"]
    assert figures([*studies, "--out", str(tmp_path), "--format", "png"]) == 0
    assert (tmp_path / "leaderboard.csv").read_text() == (folder / "leaderboard.csv").read_text()
    table = (tmp_path / "leaderboard.md").read_text().split("\n\n")[0]
    assert table in (ROOT / "docs" / "field.md").read_text()


def test_the_example_of_the_readme_for_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (ROOT / "README.md").read_text().partition("## From Python")[2]
    example = section.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example, found)
    assert len(found["paths"]) == 6
    assert len(found["frame"]) == 6 * 6
    assert snapshot_tasks(found["paths"][0]) == [2]
    assert capsys.readouterr().out.count("\n") == 5
