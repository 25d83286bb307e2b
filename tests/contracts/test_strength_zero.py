"""A method of strength 0 is the run without it, bit for bit, though it is asked, stopped for and called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lop_sweeps.algorithms.continual_backprop import PackedContinualBackprop
from lop_sweeps.algorithms.dash import PackedDASH
from lop_sweeps.algorithms.fire import PackedFIRE
from lop_sweeps.algorithms.hare_and_tortoise import PackedHareAndTortoise
from lop_sweeps.algorithms.plasticity_injection import PackedPlasticityInjection
from lop_sweeps.algorithms.redo import PackedReDo
from lop_sweeps.algorithms.shrink_and_perturb import PackedBetweenTasks, PackedMixing, PackedShrinkAndPerturb
from tests import runs
from tests.contracts.table import ANT, CBP, CIFAR, DIGITS, HARE, IMAGENET, INJECTION, OFTEN, REGRESSION, SNP, small

# Method -> what makes it do nothing, and the class that acts.
ZERO: dict[str, tuple[list[str], type]] = {
    "shrink_and_perturb": ([f"{SNP}.noise_std=0", "optimizer.weight_decay=0.001"], PackedShrinkAndPerturb),
    "continual_backprop": ([f"{CBP}.replacement_rate=0"], PackedContinualBackprop),
    # Below the score of every unit; 0 would replace dead ones.
    "redo": (["algorithm.redo.threshold=1e-300", "algorithm.redo.period=3", "network.activation=sigmoid"], PackedReDo),
    "fire": (["algorithm.fire.iterations=0"], PackedFIRE),
    "dash": (["algorithm.dash.minimum=1"], PackedDASH),
    "shrink_and_perturb_task": ([f"{SNP}.shrink=0", f"{SNP}.noise_std=0"], PackedBetweenTasks),
    "fresh": ([f"{SNP}.law=fresh", f"{SNP}.shrink=0", "optimizer.weight_decay=0.001"], PackedMixing),
    "hare_and_tortoise": (["algorithm.hare_and_tortoise.mu=0", f"{HARE}.period=1"], PackedHareAndTortoise),
    "plasticity_injection": ([f"{INJECTION}.at=1000"], PackedPlasticityInjection),
}
CHOICE = {"fresh": "shrink_and_perturb"}  # where a method is not called like its choice
BETWEEN_TASKS = {"fire", "dash", "shrink_and_perturb_task", "plasticity_injection"}
TORCH = {"fresh", "hare_and_tortoise", "plasticity_injection"}
COMPILED = {"shrink_and_perturb", "continual_backprop"}
WHERE = {
    "digits": [DIGITS],
    "digits_adam_batch": [DIGITS, "optimizer=adam", "benchmark.batch_size=10"],
    "regression": [REGRESSION, "optimizer=momentum", "optimizer.step_size=0.001"],
    "imagenet": IMAGENET,
    "cifar": CIFAR,
    "ant": ANT,
}
BESIDE = {"nothing": [], "l2": ["l2"], "continual_backprop": ["continual_backprop"]}
FUSED = {"digits", "digits_adam_batch", "regression"}


def cases() -> list[Any]:
    """Alone where it is cheap; in company, and on images and in control, if slow."""
    found = []
    for method in ZERO:
        for where in WHERE:
            for beside in BESIDE:
                for engine in ("torch", "fused") if where in FUSED else ("torch",):
                    if method == beside or (method == "redo" and where == "cifar"):  # its ReLUs die
                        continue
                    if (engine == "fused" and method in TORCH) or (where == "ant" and method in BETWEEN_TASKS):
                        continue
                    if method == "plasticity_injection" and where not in FUSED:
                        continue
                    marks = [] if where in FUSED and (beside == "nothing" or engine == "fused") else [pytest.mark.slow]
                    name = f"{method}-{where}-{beside}-{engine}"
                    found.append(pytest.param(method, where, beside, engine, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("method", "where", "beside", "engine"), cases())
def test_strength_zero_is_the_run_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, where: str, beside: str, engine: str
) -> None:
    zero, kind = ZERO[method]
    called: list[int] = []
    name = "before_task" if method in BETWEEN_TASKS else "after_update"
    act = getattr(kind, name)

    def counted(self: Any, *at: int) -> None:
        called.append(at[-1])
        act(self, *at)

    monkeypatch.setattr(kind, name, counted)
    shared = [line for line in zero if not line.startswith("algorithm")]
    logs = []
    for methods in (BESIDE[beside], [*BESIDE[beside], method]):
        chosen = f"algorithm=[{','.join(CHOICE.get(one, one) for one in methods)}]" if methods else "algorithm=backprop"
        options = [line for line in zero if line not in shared] if method in methods else []
        options += OFTEN if "continual_backprop" in methods and method != "continual_backprop" else []
        options += ["benchmark.num_tasks=2"] if where in FUSED else []
        line = [*WHERE[where], chosen, *shared, *options, f"engine={engine}"]
        plan = runs.plan(tmp_path / str(len(logs)), *small(line), seeds=2)
        assert {outcome.state for outcome in runs.train(plan)} == {"done"}
        logs.append([[_shared(row) for row in runs.metrics(point).splitlines()] for point in plan.points])
    assert logs[0] == logs[1]
    assert bool(called) != (engine == "fused" and method in COMPILED)


def _shared(row: bytes) -> dict[str, Any]:
    """A row without what only the methods report."""
    found = json.loads(row)
    found["epochs"] = {key: value for key, value in found.get("epochs", {}).items() if not key.startswith("tortoise")}
    return {k: value for k, value in found.items() if k != "replaced_units" and not k.startswith("tortoise")}
