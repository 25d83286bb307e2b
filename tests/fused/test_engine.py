"""Which engine trains a run, and why, in a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.head_resetting import HeadResetting
from lop_sweeps.algorithms.retrained_network import RetrainedNetwork
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused import limits
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.engine import choose
from tests import runs


class OwnNetwork(MLP):
    """It may compute anything."""


class OwnOptimizer(SGD):
    """So may it."""


class OwnNoise(ShrinkAndPerturb):
    """And it."""


@dataclass(frozen=True)
class Setting:
    network: Any
    optimizer: Any
    interventions: tuple[Any, ...] = ()
    batch: int = 1


def mlp(**options: Any) -> MLP:
    return MLP(6, 3, **{"hidden": (8, 7), **options})


def wide() -> MLP:
    """More parameters than `limits.LARGE`."""
    with torch.device("meta"):
        return mlp(hidden=(1_000, 1_000))


SP, LAZY, CBP = ShrinkAndPerturb(), ShrinkAndPerturb(noise="lazy"), ContinualBackprop()
OF_ALL = ContinualBackprop(rate_of="all")
SUM = ContinualBackprop(utility="contribution", averaging="sum")
DECAYING = SGD(0.1, weight_decay=6.0)

# What auto takes, and words of its reason.
AUTO: dict[str, tuple[Setting, str, str]] = {
    "sgd": (Setting(mlp(), SGD()), "fused", "it is faster"),
    "linear": (Setting(Linear(6, 3), SGD()), "fused", "it is faster"),
    "head resetting": (Setting(mlp(), SGD(), (HeadResetting(),)), "fused", "it is faster"),
    "retrained network": (Setting(mlp(), SGD(), (RetrainedNetwork(), CBP)), "fused", "it is faster"),
    "a rate of all units": (Setting(mlp(), SGD(), (OF_ALL,)), "torch", "rate_of=mature and averaging=running only"),
    "a sum of activities": (Setting(mlp(), SGD(), (SUM,)), "torch", "rate_of=mature and averaging=running only"),
    "no hidden layer": (Setting(mlp(hidden=()), Adam()), "fused", "it is faster"),
    "dropout": (Setting(mlp(dropout=0.1), SGD()), "fused", "it is faster"),
    "momentum": (Setting(mlp(), SGD(momentum=0.9)), "fused", "it is faster"),
    "adam": (Setting(mlp(), Adam(correction="authors")), "fused", "it is faster"),
    "adamw": (Setting(mlp(), AdamW(step_size=1.0, weight_decay=0.9)), "fused", "it is faster"),
    "cbp": (Setting(mlp(), Adam(), (CBP,)), "fused", "it is faster"),
    "cbp and noise": (Setting(mlp(), SGD(), (CBP, SP)), "fused", "it is faster"),
    "noise and cbp": (Setting(mlp(), SGD(), (SP, CBP)), "fused", "it is faster"),
    "lazy": (Setting(mlp(), SGD(), (LAZY,)), "fused", "noise is drawn lazily"),
    "lazy in large batches": (Setting(mlp(), SGD(), (LAZY,), 500), "fused", "noise is drawn lazily"),
    "a large batch": (Setting(mlp(), SGD(), (), limits.LARGEST_BATCH), "fused", "it is faster"),
    "a larger batch": (Setting(mlp(), SGD(), (), limits.LARGEST_BATCH + 1), "torch", "mini-batches of more than 128"),
    "a wide network": (Setting(wide(), SGD(), (), limits.LARGEST_BATCH_OF_LARGE), "fused", "it is faster"),
    "a wide network's larger batch": (
        Setting(wide(), SGD(), (), limits.LARGEST_BATCH_OF_LARGE + 1),
        "torch",
        "mini-batches of more than 32",
    ),
    "half a step": (Setting(mlp(), SGD(0.1, weight_decay=5.0)), "fused", "it is faster"),
    "more than half a step": (Setting(mlp(), DECAYING), "torch", "less than half"),
    "layer norm": (Setting(mlp(norm="layer"), SGD()), "fused", "it is faster"),
    "layer norm behind": (
        Setting(mlp(norm="layer", norm_after=True), SGD()),
        "torch",
        "it has no layer normalisation after activations",
    ),
    "two features": (Setting(mlp(activation="crelu"), SGD()), "fused", "it is faster"),
    "two features of new units": (Setting(mlp(activation="crelu"), SGD(), (CBP,)), "torch", "those of crelu have two"),
    "a layer's slope": (Setting(mlp(activation="prelu", prelu_per="layer"), SGD()), "torch", "prelu_per=unit only"),
    "batch norm": (Setting(mlp(norm="batch"), SGD(), (), 10), "torch", "it has no batch normalisation"),
    "online norm": (Setting(mlp(norm="online", norm_after=True), SGD()), "torch", "it has no online normalisation"),
    "a network of one's own": (Setting(OwnNetwork(6, 3), SGD()), "torch", "OwnNetwork is not a fully connected"),
    "an optimizer of one's own": (Setting(mlp(), OwnOptimizer()), "torch", "does not know the optimizer OwnOptimizer"),
    "an intervention of one's own": (Setting(mlp(), SGD(), (OwnNoise(),)), "torch", "OwnNoise acts at every step"),
    "noise twice": (Setting(mlp(), SGD(), (SP, SP)), "torch", "here are 2 ShrinkAndPerturb"),
    "cbp twice": (Setting(mlp(), SGD(), (CBP, SP, CBP)), "torch", "here are 2 ContinualBackprop"),
}

# What lazy noise cannot go with, on any engine.
LAZY_OBSTACLES: dict[str, tuple[Setting, str]] = {
    "cbp": (Setting(mlp(), SGD(), (CBP, LAZY)), "continual backprop needs the weights of every step"),
    "momentum": (Setting(mlp(), SGD(momentum=0.9), (LAZY,)), "lazy noise goes with plain SGD"),
    "adam": (Setting(mlp(), Adam(), (LAZY,)), "lazy noise goes with plain SGD"),
    "norm": (Setting(mlp(norm="online", norm_after=True), SGD(), (LAZY,)), "it has no online normalisation"),
    "strong decay": (Setting(mlp(), DECAYING, (LAZY,)), "less than half"),
}


def ask(asked: str, setting: Setting) -> tuple[str, str]:
    return choose(asked, setting.network, setting.optimizer, setting.interventions, "online", setting.batch)


@pytest.mark.parametrize("name", AUTO)
def test_auto_takes_the_fused_engine_where_it_can_and_is_faster(name: str) -> None:
    setting, engine, words = AUTO[name]
    taken, reason = ask("auto", setting)
    assert taken == engine
    assert words in reason


@pytest.mark.parametrize("name", AUTO)
def test_what_was_asked_for_is_taken_or_refused(name: str) -> None:
    setting, engine, words = AUTO[name]
    if LAZY in setting.interventions:
        with pytest.raises(ConfigError, match="cannot draw noise lazily; use noise=per_step") as refused:
            ask("torch", setting)
        assert (refused.value.key, refused.value.value) == ("engine", "torch")
    else:
        assert ask("torch", setting) == ("torch", "it was asked for")
    if engine == "fused" or ("batch" in name and "norm" not in name):
        assert ask("fused", setting) == ("fused", "it was asked for")
    else:
        with pytest.raises(ConfigError, match="use engine=auto") as refused:
            ask("fused", setting)
        assert (refused.value.key, refused.value.value) == ("engine", "fused")
        assert words in str(refused.value)


@pytest.mark.parametrize("name", LAZY_OBSTACLES)
def test_lazy_noise_where_it_is_impossible_is_an_error(name: str) -> None:
    setting, words = LAZY_OBSTACLES[name]
    with pytest.raises(ConfigError, match="must be per_step here") as refused:
        ask("auto", setting)
    assert refused.value.key == "algorithm.shrink_and_perturb.noise"
    assert words in str(refused.value)
    with pytest.raises(ConfigError, match="cannot train this") as refused:
        ask("fused", setting)
    assert words in str(refused.value)
    with pytest.raises(ConfigError, match="cannot draw noise lazily"):
        ask("torch", setting)


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (["engine=fused", "algorithm=online_norm"], "engine", "no online normalisation"),
        (["engine=fast"], "engine", "auto, fused, torch"),
        (
            ["optimizer=adam", "algorithm=shrink_and_perturb", "algorithm.shrink_and_perturb.noise=lazy"],
            "algorithm.shrink_and_perturb.noise",
            "plain SGD",
        ),
    ],
)
def test_the_command_line_says_so(tmp_path: Path, overrides: list[str], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        runs.point(tmp_path, "scale=tiny", *overrides)
    assert refused.value.key == key
    assert words in str(refused.value)
