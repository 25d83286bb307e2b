"""The pages of docs/ say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from lop_sweeps.diagnostics.measure import RANK_DIAGNOSTICS, UNIT_DIAGNOSTICS
from tests import runs

ROOT = Path(__file__).parents[1]


def test_metrics_page_lists_exactly_what_is_logged(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    described = set(re.findall(r"^\| `(\w[\w.]*)` \|", page, flags=re.MULTILINE))
    logged = {*UNIT_DIAGNOSTICS, *RANK_DIAGNOSTICS}
    for benchmark in ("permuted_digits", "slowly_changing_regression"):
        plan = runs.plan(tmp_path, *runs.SMALL, f"benchmark={benchmark}", "algorithm=continual_backprop")
        runs.train(plan)
        logged |= set(json.loads(runs.metrics(plan.points[0]).splitlines()[0]))
    assert described == logged


def test_benchmarks_page_has_the_lengths_of_the_configuration() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    for name in ("permuted_mnist", "permuted_digits", "slowly_changing_regression"):
        config = yaml.safe_load((ROOT / "conf" / "benchmark" / f"{name}.yaml").read_text())
        scales = config.get("benchmark", config)["scales"]
        cells = [f"{scales[s]['num_tasks']} x {scales[s]['examples_per_task']:,}" for s in ("tiny", "small", "paper")]
        assert f"| {name} | {' | '.join(cells)} |" in page


def test_readme_lines_parse() -> None:
    """Every `lop` line of the README composes and passes all checks."""
    text = (ROOT / "README.md").read_text()
    lines = [line.split("#")[0].strip() for line in re.findall(r"^lop (.*)$", text, flags=re.MULTILINE)]
    assert len(lines) >= 5
