"""The table of docs/methods.md: what each method is, from the code, and what a step of it costs.

python perf/methods.py           # measures, and writes the table anew
python perf/methods.py --keep    # writes it anew with the costs that it has

Costs: a step of a pack of ten runs on the torch engine, and of one run on the fused engine; permuted digits, 3 x 100
units, mini-batches of one, one thread, as a ratio to the same step of plain SGD; medians of repeats, taken in turn.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import median
from typing import Any, cast

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import numpy as np
import torch
import yaml
from omegaconf import OmegaConf

from lop_sweeps import compose
from lop_sweeps.build import locate
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks import activations
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.training.components import assemble, make_learner
from lop_sweeps.training.online import OnlineStage

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
BEGIN, END = "<!-- from here written by perf/methods.py -->", "<!-- to here -->"
HEAD = (
    "| choice | what it does | options | source | engine | parity | step, torch | step, fused |\n"
    "|---|---|---|---|---|---|---|---|"
)
BASE = ["benchmark=permuted_digits", "network.hidden=[100,100,100]", "benchmark.num_tasks=2"]
# Step sizes of a paper.
PRESETS = (
    "momentum_cifar100",
    "momentum_imagenet",
    "adam_l2_init",
    "adam_gym",
    "sgd_selective_weight_reinitialization",
)
# Of a pack on the torch engine, of one run on the fused engine: runs, and steps of a timing.
SIZES = {"torch": (10, 150), "fused": (1, 1_000)}
REPEATS = 7
# Which of the authors' trajectories a method is held to (tests/field, tests/test_golden.py): files, tolerance.
DOHARE = "the authors' code, 1e-9 (tests/test_golden.py)"
PARITY: dict[str, str] = {
    "algorithm=continual_backprop": DOHARE,
    "algorithm=l2": DOHARE,
    "algorithm=shrink_and_perturb": "sp_fresh_sgd, sp_fresh_adam 1e-10",
    "algorithm=shrink_and_perturb_task": "sp_boundary 1e-10",
    "algorithm=l2_init": "l2init_sgd, l2init_adam, l2init_resampled_adam, l1init_sgd 1e-10, huberinit_adam 1e-9",
    "algorithm=parseval": "parseval 1e-10",
    "algorithm=weight_clipping": "weight_clipping_sgd, weight_clipping_adam 1e-10",
    "algorithm=self_normalized_resets": "snr_sgd, snr_adam 1e-10, integers exact",
    "algorithm=selective_weight_reinitialization": (
        "swr_threshold_gradient, swr_proportional_gradient, swr_layernorm_ema 1e-10"
    ),
    "algorithm=regrama": "regrama_adam, regrama_adam_clipped, grama 1e-10",
    "algorithm=calibrated_partial_resets": "cpr_adam 1e-10",
    "algorithm=redo": "redo_mlp, redo_cnn 1e-10",
    "algorithm=dash": "dash 1e-10",
    "algorithm=fire": "fire 1e-10",
    "algorithm=c_chain": "c_chain 1e-10",
    "optimizer=upgd": ("upgd_global, upgd_global_nonprotecting, upgd_local, upgd_readme, upgd_feature_global 1e-10"),
    "optimizer=adaupgd": "adaupgd 1e-10",
    "optimizer=muon": "muon 1e-10",
    "optimizer=trac": "trac_sgd, trac_adam, trac_sgd_exact, trac_adam_exact, trac_sgd_stuck 1e-8",
    "network.activation=crelu": "crelu 1e-10",
}


@dataclass(frozen=True)
class Method:
    """One row: a choice of a config group, or an activation."""

    group: str
    name: str

    @property
    def choice(self) -> str:
        return f"{self.group}={self.name}"

    @property
    def line(self) -> list[str]:
        return [*BASE, self.choice]

    @property
    def file(self) -> Path:
        return ROOT / "conf" / self.group / f"{self.name}.yaml"

    @property
    def target(self) -> Any:
        """The class that is the method; None for a choice that sets options of others."""
        if self.group == "network.activation":
            return None
        nodes = yaml.safe_load(self.file.read_text()) or {}
        node = nodes if self.group == "optimizer" else {**nodes, **nodes.get("algorithm", {})}.get(self.name, {})
        return locate(node, self.group) if isinstance(node, dict) and "_target_" in node else None

    def sentence(self) -> str:
        """The first line of the class's docstring, or of the choice's comment."""
        if self.group == "network.activation":
            return _activations()[self.name][0]
        if self.target is not None:
            return _first_sentence(inspect.getdoc(self.target) or "")
        comments = [one[1:].strip() for one in self.file.read_text().splitlines() if one.startswith("#")]
        return _first_sentence(" ".join(one for one in comments if "@package" not in one))

    def options(self) -> str:
        if self.group == "network.activation":
            return ", ".join(f"`{name}`" for name in re.findall(r"`(\w+)`", self.sentence()))
        nodes = yaml.safe_load(self.file.read_text()) or {}
        node = nodes if self.group == "optimizer" else nodes.get(self.name, nodes)
        return ", ".join(f"`{key}` {_short(value)}" for key, value in _flat(node))

    def source(self) -> str:
        if self.group == "network.activation":
            return _activations()[self.name][1]
        texts = [self.file.read_text()]
        if self.target is not None:
            texts = [inspect.getdoc(self.target) or "", inspect.getmodule(self.target).__doc__ or "", *texts]
        for text in texts:
            if found := re.findall(r"arXiv[: ]+(\d{4}\.\d{4,5})", text):
                return ", ".join(f"arXiv {number}" for number in dict.fromkeys(found))
        return "Dohare et al. 2024" if any("Dohare" in text or "authors" in text for text in texts) else ""

    @cached_property
    def engine(self) -> str:
        """The engine that trains it on permuted digits, or why none does."""
        try:
            made = assemble(_configuration(self.line), data=False)
        except ConfigError as error:
            return f"not on mini-batches of one: {error}"
        return "both" if made.engine == "fused" else "torch"

    def parity(self) -> str:
        return PARITY.get(self.choice, "")

    def cells(self) -> list[str]:
        """All but the cost, which is measured."""
        return [f"`{self.choice}`", self.sentence(), self.options(), self.source(), self.engine, self.parity()]


@lru_cache(maxsize=1)
def _activations() -> dict[str, tuple[str, str]]:
    """What each activation makes of z, and its source, as the module's docstring has them."""
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for line in (activations.__doc__ or "").splitlines():
        if not line.startswith("| ") or line.startswith("| name"):
            continue
        names, text, source = (cell.strip() for cell in line.strip("|").split("|")[-3:])
        text = text.replace("the same", last) if text.startswith("the same") else text
        last = text if " with " not in text else last
        if source == "the same":
            source = next(reversed(found.values()))[1]
        found |= {name: (text, source) for name in names.split(", ")}
    return found


def _configuration(line: list[str]) -> dict[str, Any]:
    """Of a run with these overrides."""
    return configured(cast(dict[str, Any], OmegaConf.to_container(compose(*line))))


def _first_sentence(text: str) -> str:
    text = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<!et al)(?<!Eq)\.(?: |$)", text)[0]


def _flat(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Options by their path, without what is no option."""
    for key, value in node.items():
        if key in ("_target_", "defaults"):
            continue
        if isinstance(value, dict):
            yield from _flat(value, path if key == "algorithm" else f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _short(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, str):
        return "that of the base" if "$" in value else value
    return json.dumps(value).replace(" ", "")


@lru_cache(maxsize=1)
def methods() -> list[Method]:
    """Everything that a paper could call its method, by group and name."""
    groups = ("algorithm", "optimizer")
    found = [Method(group, path.stem) for group in groups for path in (ROOT / "conf" / group).glob("*.yaml")]
    found += [Method("network.activation", name) for name, (_, source) in _activations().items() if source]
    found = [one for one in found if one.name not in PRESETS]
    return sorted(found, key=lambda one: (one.group, one.name))


class Stepper:
    """Steps of a pack that learns permuted digits with these overrides."""

    def __init__(self, line: list[str], engine: str) -> None:
        made = assemble(_configuration([*line, f"engine={engine}"]))
        benchmark = made.benchmark
        benchmark.load(None)
        runs, self.steps = SIZES[engine]
        self.learner = make_learner([made] * runs, range(runs), engine)
        self.tasks = OnlineStage(self.learner, benchmark, range(runs), 0).tasks
        self.done = 0

    def step_time(self) -> float:
        began = time.perf_counter()
        self.learner.run(self.tasks, 1, self.done, self.done % 500, self.steps, self.steps)
        self.done += self.steps
        return (time.perf_counter() - began) / self.steps


def costs(engine: str) -> dict[str, str]:
    """For each choice that the engine trains, the cost of a step, in steps of plain SGD."""
    torch.set_num_threads(1)
    plain, steppers = Stepper(BASE, engine), {}
    for method in methods():
        try:
            steppers[method.choice] = Stepper(method.line, engine)
        except ConfigError:
            continue
    taken: dict[str, list[float]] = {choice: [] for choice in steppers}
    beside: dict[str, list[float]] = {choice: [] for choice in steppers}
    for repeat in range(REPEATS + 1):
        for choice, stepper in steppers.items():
            pair = plain.step_time(), stepper.step_time()
            if repeat:
                beside[choice].append(pair[0])
                taken[choice].append(pair[1])
    return {choice: f"{median(taken[choice]) / median(beside[choice]):.2f}" for choice in steppers}


def table(measured: dict[str, tuple[str, str]]) -> str:
    rows = [[*method.cells(), *measured.get(method.choice, ("", ""))] for method in methods()]
    return "\n".join([HEAD, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])


def written(page: str) -> dict[str, list[str]]:
    """The cells of the table on the page, by choice."""
    lines = page[page.index(BEGIN) : page.index(END)].split("|---|\n", 1)[1].splitlines()
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    return {row[0].strip("`"): row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="the costs that the table has")
    keep = parser.parse_args().keep
    page = PAGE.read_text()
    if keep:
        measured = {choice: (row[-2], row[-1]) for choice, row in written(page).items()}
    else:
        on_torch, on_fused = costs("torch"), costs("fused")
        measured = {choice: (cost, on_fused.get(choice, "")) for choice, cost in on_torch.items()}
    head, tail = page[: page.index(BEGIN) + len(BEGIN)], page[page.index(END) :]
    PAGE.write_text(f"{head}\n\n{table(measured)}\n\n{tail}")
    print(f"{len(methods())} methods in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
