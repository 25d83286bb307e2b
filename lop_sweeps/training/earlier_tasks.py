"""How well a network does what a run has learned before: the accuracy on a task that is past."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.networks.network import Network

CHUNK = 250  # examples that the network looks at together


@torch.no_grad()
def accuracy_on(benchmark: Benchmark, seed: int, task: int, network: Network, examples: int) -> float:
    """Share of a task's examples that the network (in evaluation mode) classifies correctly.

    Online, of the task's first examples, which the run has seen; in epochs, of its test set or, where it has none, of
    its training images, evenly spread over them. At most `examples` of them.
    """
    x, y = _examples(benchmark, seed, task, examples, next(network.parameters()))
    outputs = None
    if benchmark.protocol == "epochs" and (used := benchmark.task(seed, task).outputs) is not None:
        outputs = torch.from_numpy(used).to(x.device)
    right = 0
    for inputs, labels in zip(x.split(CHUNK), y.split(CHUNK), strict=True):
        output = network(inputs)[0]
        if outputs is not None:
            output = output[:, outputs]
        right += int((output.argmax(1) == labels).sum())
    return right / len(y)


def _examples(benchmark: Benchmark, seed: int, task: int, examples: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (n, inputs) and labels (n,)."""
    assert benchmark.protocol != "control"
    if benchmark.protocol == "online":
        x, y = benchmark.task(seed, task).examples(0, min(examples, benchmark.examples_per_task))
        inputs = torch.from_numpy(np.ascontiguousarray(x)).to(like)
        return inputs, torch.from_numpy(np.ascontiguousarray(y)).to(like.device)
    found = benchmark.task(seed, task)
    split = found.train if found.test is None else found.test
    count = min(examples, len(split.rows))
    chosen = np.arange(count) * len(split.rows) // count  # of all classes, also where they lie one after the other
    images = found.images[torch.from_numpy(split.rows[chosen])].to(like.device)
    inputs = benchmark.prepare(images, None, like.dtype)
    if found.pixels is not None:
        inputs = inputs[:, torch.from_numpy(found.pixels).to(like.device)]
    return inputs, torch.from_numpy(split.labels[chosen]).to(like.device)
