"""A method of strength 0 is the run without it, bit for bit, though it is asked, stopped for and called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lop_sweeps.algorithms.c_chain import PackedCChain
from lop_sweeps.algorithms.calibrated_partial_resets import PackedCalibratedPartialResets
from lop_sweeps.algorithms.continual_backprop import PackedContinualBackprop
from lop_sweeps.algorithms.dash import PackedDASH
from lop_sweeps.algorithms.fire import PackedFIRE
from lop_sweeps.algorithms.hare_and_tortoise import PackedHareAndTortoise
from lop_sweeps.algorithms.isometry import PackedIsometry
from lop_sweeps.algorithms.l2_init import PackedL2Init
from lop_sweeps.algorithms.parseval import PackedParseval
from lop_sweeps.algorithms.plasticity_injection import PackedPlasticityInjection
from lop_sweeps.algorithms.redo import PackedReDo
from lop_sweeps.algorithms.regrama import PackedReGraMa
from lop_sweeps.algorithms.reset import PackedReset
from lop_sweeps.algorithms.selective_weight_reinitialization import PackedSelectiveWeightReinitialization
from lop_sweeps.algorithms.self_normalized_resets import PackedSelfNormalizedResets
from lop_sweeps.algorithms.shrink_and_perturb import PackedBetweenTasks, PackedMixing, PackedShrinkAndPerturb
from lop_sweeps.algorithms.soft_weight_rescaling import PackedSoftWeightRescaling
from lop_sweeps.algorithms.spectral import PackedSpectral
from lop_sweeps.algorithms.wasserstein import PackedWasserstein
from lop_sweeps.algorithms.weight_clipping import PackedWeightClipping
from tests import runs
from tests.contracts import table
from tests.contracts.table import (
    ANT,
    CBP,
    CIFAR,
    CPR,
    DIGITS,
    GRAMA,
    HARE,
    IMAGENET,
    INJECTION,
    OFTEN,
    REGRESSION,
    RESET,
    SNP,
    SNR,
    SWR,
    small,
)

# Method -> what makes it do nothing, and the class that acts.
ZERO: dict[str, tuple[list[str], type]] = {
    "shrink_and_perturb": ([f"{SNP}.noise_std=0", "optimizer.weight_decay=0.001"], PackedShrinkAndPerturb),
    "continual_backprop": ([f"{CBP}.replacement_rate=0"], PackedContinualBackprop),
    "c_chain": (["algorithm.c_chain.coefficient=0", "algorithm.c_chain.rule=fixed"], PackedCChain),
    # Below the score of every unit; 0 would replace dead ones.
    "redo": (["algorithm.redo.threshold=1e-300", "algorithm.redo.period=3", "network.activation=sigmoid"], PackedReDo),
    "l2_init": (["algorithm.l2_init.strength=0"], PackedL2Init),
    "wasserstein": (["algorithm.wasserstein.strength=0"], PackedWasserstein),
    "spectral": (["algorithm.spectral.strength=0"], PackedSpectral),
    "parseval": (["algorithm.parseval.strength=0"], PackedParseval),
    "isometry": (["algorithm.isometry.strength=0"], PackedIsometry),
    "weight_clipping": (["algorithm.weight_clipping.kappa=1e30"], PackedWeightClipping),
    "soft_weight_rescaling": (["algorithm.soft_weight_rescaling.strength=0"], PackedSoftWeightRescaling),
    # With the other signal PPO's gradients are autograd's, which rounds otherwise than the explicit ones.
    "regrama": (
        [
            f"{GRAMA}.threshold=1e-300",
            f"{GRAMA}.period=3",
            f"{GRAMA}.signal=weight_gradient",
            "network.activation=sigmoid",
        ],
        PackedReGraMa,
    ),
    "self_normalized_resets": (
        [f"{SNR}.initial_threshold=1000000", f"{SNR}.tau_max=10", f"{SNR}.refresh_every=1000"],
        PackedSelfNormalizedResets,
    ),
    "selective_weight_reinitialization": (
        [f"{SWR}.pruning=proportional", f"{SWR}.reinit_factor=0", f"{SWR}.period=3"],
        PackedSelectiveWeightReinitialization,
    ),
    "calibrated_partial_resets": ([f"{CPR}.replacement_rate=0", f"{CPR}.period=3"], PackedCalibratedPartialResets),
    "reset": ([f"{RESET}.of=last_k", f"{RESET}.k=0", f"{RESET}.at={{every: 3}}"], PackedReset),
    "fire": (["algorithm.fire.iterations=0"], PackedFIRE),
    "dash": (["algorithm.dash.minimum=1"], PackedDASH),
    "shrink_and_perturb_task": ([f"{SNP}.shrink=0", f"{SNP}.noise_std=0"], PackedBetweenTasks),
    "mixing": ([f"{SNP}.law=fresh", f"{SNP}.shrink=0", "optimizer.weight_decay=0.001"], PackedMixing),
    "hare_and_tortoise": ([f"{HARE}.mu=0", f"{HARE}.period=1"], PackedHareAndTortoise),
    "plasticity_injection": ([f"{INJECTION}.at=1000"], PackedPlasticityInjection),
}
# Normalize-and-project is not here: it projects or it does not, and has no strength.
CHOICE = {"mixing": "shrink_and_perturb"}  # of which it is an option
COMPILED = ("shrink_and_perturb", "continual_backprop")
# Compiled, but not with every other.
APART = ("l2_init", "weight_clipping", "self_normalized_resets", "calibrated_partial_resets")
SILENT = ("redo", "regrama")  # that reset a unit which is silent, whatever their strength
WHERE = {
    "digits": [DIGITS],
    "digits_adam_batch": [DIGITS, "optimizer=adam", "benchmark.batch_size=10"],
    "regression": [REGRESSION, "optimizer=momentum", "optimizer.step_size=0.001"],
    "imagenet": IMAGENET,
    "cifar": CIFAR,
    "ant": ANT,
}
BESIDE = {"nothing": [], "l2": ["l2"], "continual_backprop": ["continual_backprop"]}
# Where the torch engine has a method alone: beside others it is tried where tasks, mini-batches and epochs are.
ALONE = {"digits_adam_batch", "cifar", "ant"}
REPORTED = {"replaced_units", "clipped_fraction", "output_churn", "churn_coefficient"}
REPORTED |= {"tortoise_test_accuracy", "tortoise_test_cross_entropy"}
FUSED = {"digits", "digits_adam_batch", "regression"}


def acting(method: str) -> str:
    """By what it acts, at steps or between tasks."""
    names = ("before_update", "after_optimizer", "after_update", "before_task")
    if method == "plasticity_injection":  # at a task, as it is set here
        return "before_task"
    return next(name for name in names if name in vars(ZERO[method][1]))


def cases() -> list[Any]:
    """Alone where it is cheap, methods that only the torch engine has in one place; the rest is slow."""
    found = []
    for method in ZERO:
        for where in WHERE:
            for beside in BESIDE:
                for engine in ("torch", "fused") if where in FUSED else ("torch",):
                    if method == beside or (method in SILENT and where == "cifar"):  # its ReLUs die
                        continue
                    if method == "c_chain" and where in FUSED:  # there is no second mini-batch online
                        continue
                    if method == "plasticity_injection" and where not in FUSED:
                        continue
                    if where == "ant" and acting(method) == "before_task":  # it never changes
                        continue
                    if (method, beside) == ("regrama", "continual_backprop"):  # no gradient reaches a new unit
                        continue
                    if where in ALONE and beside != "nothing" and engine == "torch":
                        continue
                    compiled = method in table.FUSED["algorithm"]
                    if engine == "fused" and not compiled:
                        continue
                    if engine == "fused" and method in APART and beside == "continual_backprop":
                        continue
                    if (engine, method, where, beside) == ("fused", "l2_init", "digits", "l2"):
                        continue
                    quick = where in FUSED and (beside == "nothing" or engine == "fused")
                    quick &= method in COMPILED or (where, beside) == ("digits_adam_batch", "nothing")
                    quick |= (method, where, beside) == ("c_chain", "imagenet", "nothing")
                    marks = [] if quick else [pytest.mark.slow]
                    name = f"{method}-{where}-{beside}-{engine}"
                    found.append(pytest.param(method, where, beside, engine, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("method", "where", "beside", "engine"), cases())
def test_strength_zero_is_the_run_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, where: str, beside: str, engine: str
) -> None:
    zero, kind = ZERO[method]
    called: list[int] = []
    acts = acting(method)
    act = getattr(kind, acts)

    def counted(self: Any, *arguments: Any) -> None:
        called.append(arguments[-1])
        act(self, *arguments)

    monkeypatch.setattr(kind, acts, counted)
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
    compiled = engine == "fused" and method in (*COMPILED, *APART)
    assert bool(called) != compiled


def _shared(row: bytes) -> dict[str, Any]:
    """A row without what only the methods report."""
    found = {key: value for key, value in json.loads(row).items() if key not in REPORTED}
    found["epochs"] = {key: value for key, value in found.get("epochs", {}).items() if key not in REPORTED}
    return found
