"""A diagnostic outside the checkout, one class in fifteen lines and one YAML file: logged, drawn, reported, sent on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lop_sweeps.analysis.__main__ import main as figures
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.tracking.rows import decode, encode
from tests.command import Command, lop

__all__ = ["lop"]

CLASS = '''
from dataclasses import dataclass

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Value


@dataclass(frozen=True)
class MeanActivation(Diagnostic):
    """Mean activation of each hidden layer on the probe."""

    values = (Value("mean_activation", "layer", "Mean activation", "mean of h", unit="mV", scale=10.0, weighted=True),)

    def measure(self, run):
        return {"mean_activation": [h.mean().item() for h in run.activations]}
'''
YAML = "mean_activation:\n  _target_: my_diagnostics.MeanActivation\n"
LINE = ["scale=tiny", "network.hidden=[10,30]", "benchmark.examples_per_task=40", "benchmark.num_tasks=4"]
MINE = ["diagnostics=[standard,mean_activation]", "hydra.searchpath=[file://conf]", "trusted=[my_diagnostics]"]


def test_a_diagnostic_of_fifteen_lines_is_logged_drawn_reported_and_sent(
    lop: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(CLASS.strip().splitlines()) <= 15
    (tmp_path / "my_diagnostics.py").write_text(CLASS)
    (tmp_path / "conf" / "diagnostics").mkdir(parents=True)
    (tmp_path / "conf" / "diagnostics" / "mean_activation.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    refused = lop("-m", *LINE, *MINE[:2])
    assert refused.code == 2
    assert "trusted=[my_diagnostics]" in refused.err
    ended = lop("-m", *LINE, *MINE, "algorithm=backprop,l2", "seed=0,1")
    assert (ended.code, "4 done" in ended.err) == (0, True)
    (sweep,) = (tmp_path / "sweeps").iterdir()

    frames = load(sweep)
    tasks = frames.tasks
    expected = 0.25 * tasks["mean_activation/1"] + 0.75 * tasks["mean_activation/2"]  # over units
    assert tasks["mean_activation"].to_list() == pytest.approx(expected.to_list())
    assert (quantity("mean_activation").axis, quantity("mean_activation/2").title) == (
        "Mean activation (mV)",
        "Hidden layer 2",
    )
    assert figures([str(sweep), "--report", "--format", "png"]) == 0
    assert (sweep / "figures" / "mean_activation.png").is_file()
    assert "Mean activation" in (sweep / "figures" / "report.html").read_text()

    run = next(sweep.glob("backprop-seed0-*"))
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    values = json.loads((run / "diagnostics.json").read_text())["values"]
    sent = encode(row, weights=[640, 300, 300], units=[10, 30], described=values)
    assert sent["diagnostics/mean_activation"] == pytest.approx(tasks["mean_activation"].iloc[0])
    assert decode(sent) == {key: value for key, value in row.items() if value != []}
