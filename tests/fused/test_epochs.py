"""Learning in epochs on both engines: the same numbers, up to rounding, in everything that a task leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lop_sweeps.benchmarks.benchmark import steps_of
from lop_sweeps.training.components import make_learner
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.session import Position
from tests.contracts.table import CBP, SNR
from tests.diagnostics.packs import components, stage_of
from tests.fused.engines import assert_same_state

EXACT = 1e-9
LINE = [
    *("benchmark=stream", "benchmark/data=digits", "benchmark/protocol=epochs", "benchmark.num_tasks=3"),
    *("benchmark.batch_size=16", "benchmark.epochs=3"),
    *("network=mlp", "network.hidden=[17,20]", "optimizer.step_size=0.05", "precision=float64"),
]
ADAM = ["optimizer=adam", "optimizer.step_size=0.003"]
# 430 images are 26 mini-batches of 16 and one of 14; epochs of 27 or 26 steps do not end with an interval of 25.
LINES: dict[str, list[str]] = {
    "inputs": ["benchmark/change=inputs_permuted"],
    "inputs_kept": ["benchmark/change=inputs_permuted", "benchmark.last_batch=keep", "algorithm=dropout"],
    "an_interval_and_what_is_left": ["benchmark.change.count=405", "benchmark.last_batch=keep"],
    "only_what_is_left": ["benchmark.change.count=10", "benchmark.last_batch=keep", "optimizer=momentum"],
    "memorised": ["benchmark/change=labels_random", "benchmark.inputs=minus_one_one", *ADAM],
    "added": ["benchmark/change=classes_added", "benchmark.num_tasks=2", "benchmark.change.per_class=60", *ADAM],
    "heads": ["benchmark/change=chunks", "benchmark.new_heads=true", "optimizer=momentum"],
    "scheduled": ["benchmark/change=chunks", "optimizer.warm_up=0.3", "optimizer.cosine=true"],
    "decayed": ["benchmark/change=chunks", "optimizer.decay_at=[0.5]", *ADAM],
    "cbp": ["algorithm=continual_backprop", f"{CBP}.replacement_rate=0.02", f"{CBP}.maturity_threshold=10"],
    "cbp_kept": [
        *("algorithm=[l2,continual_backprop]", "benchmark.last_batch=keep", *ADAM),
        *(f"{CBP}.replacement_rate=0.02", f"{CBP}.maturity_threshold=10"),
    ],
    "redo": ["algorithm=redo", "algorithm.redo.period=10", "algorithm.redo.threshold=0.3"],
    "noise": ["algorithm=shrink_and_perturb", "benchmark.last_batch=keep"],
    "l2_init": ["algorithm=l2_init", "benchmark.last_batch=keep"],
    "clipping": ["algorithm=weight_clipping", "algorithm.weight_clipping.kappa=0.5", *ADAM],
    "resets": ["algorithm=self_normalized_resets", f"{SNR}.initial_threshold=30", f"{SNR}.tau_max=60"],
    "resets_and_redo": [
        *("algorithm=[self_normalized_resets,redo]", f"{SNR}.initial_threshold=30", f"{SNR}.tau_max=60"),
        *("algorithm.redo.period=10", "algorithm.redo.threshold=0.3"),
    ],
    "resets_and_cbp": [
        *("algorithm=[self_normalized_resets,continual_backprop]", f"{SNR}.initial_threshold=30", f"{SNR}.tau_max=60"),
        *(f"{CBP}.replacement_rate=0.02", f"{CBP}.maturity_threshold=10", "benchmark.last_batch=keep"),
    ],
    "between_tasks": ["algorithm=[dash,head_resetting]"],
}


def learned(tmp_path: Path, line: list[str], engine: str, tasks: int = 2) -> tuple[Learner, list[Position]]:
    """What a run's learner and positions are after some tasks."""
    made = components(tmp_path, *line, f"engine={engine}")
    learner, seen = make_learner([made], [3], engine), []
    for task in range(tasks):
        stage, position, steps = stage_of(learner, made, [3], task), Position(task), steps_of(made.benchmark, task)
        position.sums = stage.begin()
        while position.step < steps:
            stage.learn(position, steps - position.step)
        seen.append(position)
        stage.end(position)
    return learner, seen


@pytest.mark.parametrize("name", LINES)
def test_equals_the_torch_engine(tmp_path: Path, name: str) -> None:
    own = any("change=" in option for option in LINES[name])
    line = [*LINE, *([] if own else ["benchmark/change=inputs_permuted"]), *LINES[name]]
    line += [] if any(".change." in option for option in line) else ["benchmark.change.count=430"]
    one, positions = learned(tmp_path, line, "torch")
    other, twins = learned(tmp_path, line, "fused")
    for position, twin in zip(positions, twins, strict=True):
        assert (position.step, position.samples) == (twin.step, twin.samples)
        assert_same_state(position.sums, twin.sums, EXACT)
    assert_same_state(one.state(), other.state(), EXACT)


def test_augmented_images_are_the_same(tmp_path: Path) -> None:
    from tests.training.test_epochs import CIFAR, MLP

    line = [*CIFAR, *MLP, "benchmark.restore_best=false", "precision=float64", "benchmark.num_tasks=2"]
    one, positions = learned(tmp_path, line, "torch")
    other, twins = learned(tmp_path, line, "fused")
    for position, twin in zip(positions, twins, strict=True):
        assert_same_state(position.sums, twin.sums, EXACT)
    torch.testing.assert_close(one.state()["parameters"], other.state()["parameters"], rtol=EXACT, atol=EXACT)
