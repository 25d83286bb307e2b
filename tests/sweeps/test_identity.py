"""What is, and what is not, part of a run's identity."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.build import parts_of
from lop_sweeps.optimizers import trac
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps import identity
from lop_sweeps.sweeps.identity import run_id, scientific
from lop_sweeps.sweeps.planning import resolve
from lop_sweeps.sweeps.run_files import digest
from tests import runs

CBP = ["algorithm=continual_backprop"]
SNP, NOISE = ["algorithm=shrink_and_perturb"], "algorithm.shrink_and_perturb.noise"
TRAC = ["optimizer=trac"]
RATE = "algorithm.continual_backprop.replacement_rate"

# A change here means that finished runs of every user are run again: raise a component's `version` to mean it.
PINNED: dict[str, list[str]] = {
    "backprop-seed0-772c234c9553": [],
    "backprop-seed1-7f25140efad1": ["seed=1"],
    "backprop-seed0-60597a947623": ["algorithm=l2"],
    "shrink_and_perturb-seed0-2a5ac9e96d10": SNP,
    "shrink_and_perturb-seed0-88b35aa07715": [*SNP, f"{NOISE}=lazy"],
    "continual_backprop-seed0-0db6aab31401": CBP,
    "continual_backprop-seed0-ca01f918defc": ["algorithm=[l2,continual_backprop]", f"{RATE}=[1e-4,0]"],
    "backprop-seed0-7762901d5690": ["optimizer=adam", "benchmark=permuted_mnist"],
    "backprop-seed0-1366817245f3": ["benchmark=slowly_changing_regression", "scale=paper"],
    "backprop-seed0-49b2c6d72906": ["network=linear"],
    "backprop-seed0-18cf348aca04": ["algorithm=online_norm", "precision=float64"],
}


def name(*overrides: str) -> str:
    """The identity of what these overrides compose to; needs no data."""
    composer = runs.composer()
    config, choices = composer.compose(list(overrides))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    resolved = resolve(plain, choices)
    return run_id({key: value for key, value in resolved.items() if key != "choices"})


@pytest.mark.parametrize("expected", PINNED)
def test_identities_are_pinned(expected: str) -> None:
    assert name(*PINNED[expected]) == expected


SAME = {
    "number_formats": (["optimizer.step_size=0.01"], ["optimizer.step_size=1e-2"]),
    "1_and_1.0": (["algorithm=l2", "optimizer.weight_decay=1"], ["algorithm=l2", "optimizer.weight_decay=1.0"]),
    "engine": ([], ["engine=torch"]),
    "engine_of_the_other_kind": ([], ["engine=fused"]),
    "noise_as_it_is_by_default": (SNP, [*SNP, f"{NOISE}=per_step"]),
    "place": ([], ["paths.sweeps=elsewhere", "sweep=other"]),
    "checkpoints": ([], ["checkpoint.first=1", "checkpoint.every=2"]),
    "number_of_tasks": ([], ["benchmark.num_tasks=7"]),
    "unused_rows_of_the_scale_table": ([], ["benchmark.scales.paper.num_tasks=3"]),
    "scale_that_sets_the_same": ([], ["scale=paper", "benchmark.examples_per_task=1797"]),
    "a_preset_and_its_option": (["algorithm=l2"], ["optimizer.weight_decay=1e-4"]),
    "an_option_that_an_optimiser_hands_on": (
        [*TRAC, "optimizer.step_size=0.01"],
        [*TRAC, "optimizer.base.step_size=0.01"],
    ),
    "what_it_hands_on_is_said_to_be_the_bases": (TRAC, [*TRAC, "optimizer.weight_decay=null"]),
    "order_of_keys": (
        [*CBP, f"{RATE}=1e-3", "algorithm.continual_backprop.decay_rate=0.9"],
        [*CBP, "algorithm.continual_backprop.decay_rate=0.9", f"{RATE}=1e-3"],
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_same_experiment_has_the_same_identity(case: str) -> None:
    one, other = SAME[case]
    assert name(*one) == name(*other)


DIFFERENT = {
    "seed": ["seed=1"],
    "step_size": ["optimizer.step_size=0.0031"],
    "task_length": ["benchmark.examples_per_task=1000"],
    "precision": ["precision=float64"],
    "network": ["network.hidden=[50,51]"],
    "optimizer": ["optimizer=adam"],
    "algorithm": CBP,
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_different_experiment_has_another_identity(case: str) -> None:
    assert name(*DIFFERENT[case]) != name()


def test_lazy_noise_is_another_run() -> None:
    """It has the same distribution, but other draws."""
    assert name(*SNP, f"{NOISE}=lazy") != name(*SNP)


def test_order_of_interventions_matters() -> None:
    """Noise before a replacement is not noise after it."""
    both = ("continual_backprop", "shrink_and_perturb")
    assert name(f"algorithm=[{','.join(both)}]") != name(f"algorithm=[{','.join(reversed(both))}]")


def test_an_option_added_with_a_harmless_default_changes_no_identity() -> None:
    with_all = {"_target_": "lop_sweeps.optimizers.sgd.SGD", "step_size": 0.5, "reset_momentum": False}
    before = {"_target_": "lop_sweeps.optimizers.sgd.SGD", "step_size": 0.5}  # as if reset_momentum were new
    plain: Any = OmegaConf.to_container(runs.composer().compose([])[0], resolve=True)
    config = resolve(plain, {})
    ids = [scientific({**config, "optimizer": node})["optimizer"] for node in (with_all, before)]
    assert ids[0] == ids[1]


def stored(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration, and what is recorded of its identity."""
    config, choices = runs.composer().compose(list(overrides))
    plain: Any = OmegaConf.to_container(config, resolve=True)
    resolved = resolve(plain, choices)
    return resolved, json.loads(json.dumps(identity.of(resolved)))


def test_a_base_optimiser_is_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ([], ["optimizer/base=adamw"], ["optimizer/base=sgd"], ["optimizer.base.beta1=0.5"], ["optimizer.eps=1e-7"])
    names = [name(*TRAC, *line) for line in lines]
    assert len(set(names)) == len(names)
    config, recorded = stored(*TRAC)
    monkeypatch.setattr(Adam, "version", 2)
    assert name(*TRAC) != names[0]
    assert identity.compare(config, names[0], recorded) == ["version 1 of lop_sweeps.optimizers.adam.Adam"]


def test_an_option_that_is_called_parts_is_an_option() -> None:
    """Only optimisers have parts, and say so by another name."""
    for path in ("algorithm.mine", "optimizer"):
        assert parts_of(SimpleNamespace(parts=3, PARTS=4), path) == {}
    assert set(parts_of(trac.TRAC, "optimizer")) == {"base"}
    assert parts_of(trac.TRAC, "algorithm.trac") == {}


def test_an_edited_base_optimiser_is_found() -> None:
    config, recorded = stored(*TRAC, "optimizer.base.beta1=0.5", "optimizer.step_size=0.01")
    described = {**config, "configuration": digest(recorded["science"])}
    assert identity.disagreement(described, recorded) == ""
    for path in (("base", "beta1"), ("step_size",)):
        edited = copy.deepcopy(described)
        node = edited["optimizer"]
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = 0.25
        assert "edited" in identity.disagreement(edited, recorded)


def test_runs_with_other_options_of_a_base_optimiser_share_a_pack() -> None:
    keys = {
        line: identity.pack_key(stored(*TRAC, line)[0])
        for line in (
            "seed=0",
            "optimizer.base.beta1=0.5",
            "optimizer.step_size=0.5",
            "optimizer.base.correction=authors",
        )
    }
    first, *others = keys.values()
    assert [key == first for key in others] == [True, True, False]


@pytest.mark.parametrize("component", [SGD, ContinualBackprop])
def test_a_component_with_another_version_is_another_run(component: type, monkeypatch: pytest.MonkeyPatch) -> None:
    before = name(*CBP)
    monkeypatch.setattr(component, "version", 2)
    assert name(*CBP) != before
