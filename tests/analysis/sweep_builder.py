"""Sweep folders as the runner writes them, with made-up numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Rows = list[dict[str, Any]]


class SweepBuilder:
    """`add(...)` writes one run; every argument has a default, so a test names only what it is about."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        *,
        seed: int = 0,
        algorithm: str | Sequence[str] = "backprop",
        options: Mapping[str, Mapping[str, Any]] | None = None,
        benchmark: Mapping[str, Any] | None = None,
        network: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        choices: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        run: str | None = None,
        state: str = "done",
        task: int | None = None,
        rows: Rows | None = None,
        text: str | None = None,
    ) -> Path:
        """rows: of metrics.jsonl. text: its raw content instead. task: finished tasks in status.json."""
        algorithms = [algorithm] if isinstance(algorithm, str) else list(algorithm)
        rows = task_rows([0.9] * 20) if rows is None else rows
        task_options = {"name": "permuted_digits", "num_tasks": 20, "examples_per_task": 100}
        content: dict[str, Any] = {
            "schema": 1,
            "run": run or f"run-{len(list(self.folder.glob('*'))):04d}",
            "sweep": self.folder.name,
            "variant": None,
            "seed": seed,
            "scale": "tiny",
            "precision": "float32",
            "choices": {
                "benchmark": "permuted_digits",
                "network": "mlp",
                "optimizer": "sgd",
                "algorithm": algorithms,
                **(choices or {}),
            },
            "benchmark": {"_target_": "lop.Digits", **task_options, **(benchmark or {})},
            "network": {"_target_": "lop.MLP", "hidden": [10, 20], "inputs": 8, "outputs": 2, **(network or {})},
            "optimizer": {"_target_": "lop.SGD", "step_size": 0.01, **(optimizer or {})},
            "algorithm": options if options is not None else {n: {} for n in algorithms if n != "backprop"},
            **(config or {}),
        }
        folder = self.folder / str(content["run"])
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        total = content["benchmark"]["num_tasks"]
        finished = len(rows) if task is None else task
        (folder / "status.json").write_text(json.dumps({"state": state, "task": finished, "num_tasks": total}))
        (folder / "metrics.jsonl").write_text(
            text if text is not None else "".join(json.dumps(row) + "\n" for row in rows)
        )
        return folder


def task_rows(
    performance: Sequence[float], metric: str = "accuracy", hidden: Sequence[int] = (10, 20), examples: int = 100
) -> Rows:
    """One row per value; diagnostics move linearly with the task."""
    rows = []
    for task, value in enumerate(performance):
        depth = range(len(hidden))
        rows.append(
            {
                "task": task,
                "examples": (task + 1) * examples,
                metric: float(value),
                "dead_fraction": [min(1.0, 0.01 * task * (layer + 1)) for layer in depth],
                "dormant_fraction_tau0.025": [min(1.0, 0.012 * task * (layer + 1)) for layer in depth],
                "effective_rank": [0.5 * width for width in hidden],
                "srank99": [0.25 * width for width in hidden],
                "weight_magnitude": [0.02 + 0.001 * task] * (len(hidden) + 1),
            }
        )
    return rows
