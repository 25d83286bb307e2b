"""Every choice of the group `diagnostics`: its file, its options, and what it says that it needs."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from lop_sweeps.build import build, locate, options, parameters
from lop_sweeps.diagnostics.diagnostic import RESERVED, Diagnostic
from lop_sweeps.training.components import STANDARD
from tests import runs
from tests.diagnostics.packs import components, moment

CONF = Path(__file__).parents[2] / "conf" / "diagnostics"
CHOICES = sorted({path.stem for path in CONF.glob("*.yaml")} - {"none", "standard"})
LINE = [*runs.SMALL, "benchmark=permuted_digits", "benchmark.num_tasks=4", "benchmark.examples_per_task=100"]
# What a view is asked for -> what is needed for that.
ASKED = {
    **dict.fromkeys(("activations", "statistics", "layers"), "activations"),
    **dict.fromkeys(("weights", "singular_values", "magnitudes"), "weights"),
    "initial_weights": "initial weights",
    "gradients": "gradients",
    **dict.fromkeys(("network", "updated", "trial"), "copy"),
    "accuracy_on": "accuracy",
}
# Of each option but `every` a value that changes what is measured.
VALUES = {
    "plasticity_probe.updates": 10,
    "neural_tangent_kernel.examples": 10,
    "neural_tangent_kernel.outputs": 1,
    "churn.updates": 1,
    "churn.examples": 10,
    "gradient_coverage.examples": 10,
    "gradient_coverage.parameters": 3,
    "gradient_dormancy.thresholds": [0.5],
    "cloned_units.threshold": 0.1,
    "earlier_tasks.tasks": 1,
    "earlier_tasks.examples": 10,
    "examples_to_accuracy.accuracy": 1,
    "examples_to_accuracy.window": 50,
}
# Where the defaults are of longer tasks.
USUAL = {"examples_to_accuracy.accuracy": 0, "examples_to_accuracy.window": 20}


def node(choice: str) -> dict[str, Any]:
    (found,) = yaml.safe_load((CONF / f"{choice}.yaml").read_text()).values()
    return dict(found)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_file_has_every_option_with_the_default_of_the_class(choice: str) -> None:
    assert list(yaml.safe_load((CONF / f"{choice}.yaml").read_text())) == [choice]
    made = locate(node(choice), f"diagnostics.{choice}")
    assert made.__module__ == f"lop_sweeps.diagnostics.{choice}"
    defaults = {name: one.default for name, one in parameters(made).items()}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options(node(choice)).items()}
    assert given == defaults


def test_the_standard_set_is_made_of_choices() -> None:
    standard = yaml.safe_load((CONF / "standard.yaml").read_text())
    assert standard == {choice: node(choice) for choice in STANDARD}


def test_names_of_values_are_free_and_each_is_of_one_diagnostic() -> None:
    names = [value.name for choice in CHOICES for value in build(node(choice), f"diagnostics.{choice}").values]
    assert len(names) == len(set(names))
    assert not RESERVED & set(names)


class Spy:
    """Passes on what it is asked for, and notes it."""

    def __init__(self, seen: Any, asked: set[str]) -> None:
        self.__dict__.update(seen=seen, asked=asked)

    def __getattr__(self, name: str) -> Any:
        self.asked.add(name)
        found = getattr(self.seen, name)
        return [Spy(run, self.asked) for run in found] if name == "runs" else found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.seen, name, value)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_diagnostic_needs_what_it_says(tmp_path: Path, choice: str) -> None:
    diagnostic: Diagnostic = build(node(choice), f"diagnostics.{choice}")
    if diagnostic.needs & {"steps", "learning"}:
        assert diagnostic.needs <= {"steps", "learning", "accuracy"}
        return
    seen, asked = moment(components(tmp_path, *LINE), task=1), set[str]()
    for run in seen.runs:
        run.memory = {}
    diagnostic.measure_pack(Spy(seen, asked))
    assert {ASKED[name] for name in asked if name in ASKED} == diagnostic.needs


@lru_cache(maxsize=64)
def logged(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    name = "-".join(line.replace("/", "") for line in overrides)
    plan = runs.plan(folder, *LINE, *overrides, f"sweep='{name}'")
    assert {(outcome.state, outcome.message) for outcome in runs.train(plan)} == {("done", "")}
    return [json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("options")


def test_every_option_has_a_value_here() -> None:
    assert set(VALUES) == {f"{c}.{key}" for c in CHOICES for key in options(node(c)) if key != "every"}


@pytest.mark.parametrize("key", VALUES)
def test_no_option_is_ignored(folder: Path, key: str) -> None:
    name = key.partition(".")[0]
    usual = {one: value for one, value in USUAL.items() if one.startswith(f"{name}.")}

    def of(options: dict[str, Any]) -> list[dict[str, Any]]:
        given = [f"diagnostics.{one}={value}".replace(" ", "") for one, value in options.items()]
        return logged(folder, f"diagnostics=[{name}]", *given)

    assert of(usual) != of({**usual, key: VALUES[key]})
