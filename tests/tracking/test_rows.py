"""Rows of logs as Weights & Biases is given them, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lop_sweeps.analysis.reading.load import load
from lop_sweeps.tracking.rows import decode, encode
from tests import runs
from tests.contracts.table import CIFAR, IMAGENET, SLIPPERY
from tests.tracking.conftest import forget_records

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
LINES = {
    "online": [*runs.SMALL, "benchmark=permuted_digits"],
    "regression": [*runs.SMALL, "benchmark=slowly_changing_regression"],
    "epochs": ["scale=tiny", *IMAGENET],
    "classes": ["scale=tiny", *CIFAR],
    "control": ["scale=tiny", *SLIPPERY, "benchmark.log_every=192"],
}


@pytest.mark.parametrize("protocol", LINES)
def test_rows_of_real_logs_come_back(tmp_path: Path, protocol: str) -> None:
    plan = runs.plan(tmp_path, *LINES[protocol], "algorithm=continual_backprop")
    runs.train(plan)
    rows = [json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()]
    for row in rows:
        sent = encode(row)
        assert all(isinstance(value, int | float | str) for value in sent.values())
        assert decode({**sent, "_step": 3, "_runtime": 0.1}) == {
            key: value for key, value in row.items() if value != []
        }


def test_names_are_such_as_weights_and_biases_wants() -> None:
    names = re.findall(r"^\| `(\w[\w.]*)` \|", PAGE.read_text(), flags=re.MULTILINE)
    for value in (0.5, [0.5, 0.25]):
        sent = encode(dict.fromkeys(names, value))
        assert all(re.fullmatch(r"[a-zA-Z_]\w*(/\w+){0,2}", key) for key in sent)
        assert decode(sent) == dict.fromkeys(names, value)


@pytest.mark.parametrize(
    ("row", "sent"),
    [
        ({"task": 3, "examples": 40}, {"task": 3, "examples": 40}),
        ({"accuracy": 0.5, "policy_loss": 2.0}, {"performance/accuracy": 0.5, "training/policy_loss": 2.0}),
        ({"return": None, "dead_fraction": []}, {}),
        (
            {"dead_fraction": [0.25, 0.75]},
            {"layers/dead_fraction/1": 0.25, "layers/dead_fraction/2": 0.75, "diagnostics/dead_fraction": 0.5},
        ),
        ({"srank99": [None, 2.0]}, {"layers/srank99/2": 2.0}),
        ({"changes": {"steps": [1]}}, {"text/changes": '{"steps": [1]}'}),
        ({"changes": [[1, 2]]}, {"text/changes": "[[1, 2]]"}),
    ],
)
def test_sections(row: dict[str, Any], sent: dict[str, Any]) -> None:
    assert encode(row) == sent
    assert decode(sent) == {key: value for key, value in row.items() if value is not None and value != []}


def test_weight_magnitude_is_averaged_over_weights_shares_over_units_and_other_lists_over_layers() -> None:
    row = {name: [1.0, 4.0] for name in ("weight_magnitude", "dead_fraction", "dormant_fraction_tau0.025", "srank99")}
    sent = encode(row, weights=[20, 10], units=[10, 30])
    assert sent["diagnostics/weight_magnitude"] == 2.0
    assert sent["diagnostics/dead_fraction"] == sent["diagnostics/dormant_fraction_tau0p025"] == 3.25
    assert sent["diagnostics/srank99"] == 2.5
    assert encode({"dead_fraction": [1.0, 4.0]}, weights=[20, 10])["diagnostics/dead_fraction"] == 2.5


def test_in_control_the_policys_layers_have_a_mean_of_their_own() -> None:
    sent = encode({"srank99": [1.0, 3.0, 10.0, 10.0]}, policy_layers=2)
    assert sent["diagnostics/policy_srank99"] == 2.0
    assert sent["diagnostics/srank99"] == 6.0
    sent = encode({"dead_fraction": [1.0, 3.0, 10.0, 10.0]}, policy_layers=2, units=[10, 30, 10, 30])
    assert sent["diagnostics/policy_dead_fraction"] == 2.5


@pytest.mark.parametrize("protocol", ["online", "control"])
def test_means_are_those_of_the_frame_of_tasks(tmp_path: Path, protocol: str) -> None:
    """The figures' and W&B's: two programs that share nothing but the log."""
    plan = runs.plan(tmp_path, *LINES[protocol], "network.hidden=[4,12]")
    runs.train(plan)
    folder = plan.points[0].directory.path
    layers = yaml.safe_load((folder / "config.yaml").read_text())["layers"]
    units = layers["units"]
    assert len(set(units)) > 1
    row = json.loads(runs.metrics(plan.points[0]).splitlines()[-1])
    row["dead_fraction"] = [0.1 * layer for layer in range(len(units))]
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    forget_records(folder)
    sent = encode(row, layers["weights"], len(units) // 2 if protocol == "control" else 0, units)
    means = {key.removeprefix("diagnostics/"): value for key, value in sent.items() if key.startswith("diagnostics/")}
    assert {"dead_fraction", "weight_magnitude", "srank99"} <= set(means)
    assert ("policy_dead_fraction" in means) == (protocol == "control")
    last = load(folder).tasks.iloc[-1]
    for name, value in means.items():
        assert last[re.sub(r"(\d)p(\d)", r"\1.\2", name)] == pytest.approx(value)


def test_a_diagnostic_that_is_one_number_is_among_the_diagnostics() -> None:
    """And comes back, unlike the means of lists, which are made of what is there."""
    values = {"churn": {"per": "network"}, "glow": {"per": "layer", "weighted": True}}
    row = {"churn": 0.5, "glow": [1.0, 4.0], "policy_loss": 2.0}
    sent = encode(row, units=[10, 30], policy_layers=1, described=values)
    assert sent == {
        "diagnostics/churn": 0.5,
        "layers/glow/1": 1.0,
        "layers/glow/2": 4.0,
        "diagnostics/glow": 3.25,
        "diagnostics/policy_glow": 1.0,
        "training/policy_loss": 2.0,
    }
    assert decode(sent) == row
    assert encode({"heat": [1.0, 4.0]}, weights=[1, 2], described={"heat": {"per": "matrix", "weighted": True}})[
        "diagnostics/heat"
    ] == pytest.approx(3.0)
