"""Is my_network what it should be, and does `lop` train it, also by a method that replaces its units?"""

from __future__ import annotations

from pathlib import Path

import torch
from my_network import MyNetwork

from lop_sweeps import run
from lop_sweeps.networks.network import draw_network

HERE = Path(__file__).parent


def drawn(seed: int) -> MyNetwork:
    network = draw_network(lambda: MyNetwork(6, 3, hidden=8), torch.float64, seed, "initial weights")
    assert isinstance(network, MyNetwork)
    return network


def test_outputs_and_activations() -> None:
    outputs, activations = drawn(0)(torch.randn(4, 6, dtype=torch.float64))
    assert outputs.shape == (4, 3)
    assert [tuple(activation.shape) for activation in activations] == [(4, 8), (4, 8)]


def test_a_seed_has_its_own_weights() -> None:
    one, again, other = ([p.detach() for p in drawn(seed).parameters()] for seed in (0, 0, 1))
    assert all(map(torch.equal, one, again))
    assert not torch.equal(one[0], other[0])


def test_lop_trains_it_and_replaces_its_units(tmp_path: Path) -> None:
    line = ["network=my_network", "algorithm=continual_backprop", "algorithm.continual_backprop.replacement_rate=0.01"]
    short = ["scale=tiny", "benchmark.num_tasks=1", f"paths.sweeps={tmp_path}"]
    folder = run(*line, *short, trusted=["my_network"], config_dir=HERE / "conf", quiet=True)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 1
