"""Every two methods together: a tiny run trains, or is refused with a sentence when it is planned."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import lop_sweeps
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.activations import ACTIVATIONS
from lop_sweeps.sweeps.planning import Plan
from tests import runs

CONF = Path(lop_sweeps.__file__).parents[1] / "conf"
TINY = ["benchmark=permuted_digits", "benchmark.num_tasks=2", "benchmark.examples_per_task=50"]
NETWORK = ["network=mlp", "network.hidden=[8,8]"]
# Groups of which a run has one choice, and the choices with which every run of this project is otherwise tested.
ONE = ("optimizer", "network.activation")
PLAIN = {"backprop", "sgd", "relu"}


def methods() -> list[tuple[str, str]]:
    """(group, choice) of everything that a paper could call its method."""
    found = [(group, path.stem) for group in ("algorithm", "optimizer") for path in (CONF / group).glob("*.yaml")]
    found += [("network.activation", name) for name in ACTIVATIONS]
    return sorted(one for one in found if one[1] not in PLAIN)


# Activations that are more than a function: two features of a unit, or parameters or draws of their own.
MORE = {"crelu", "fourier", "prelu", "aid", "rrelu", "randomized_smooth_leaky", "rational", "adalin"}


def overrides(pair: tuple[tuple[str, str], tuple[str, str]]) -> list[str] | None:
    """The line that asks for both; None where one excludes the other, or neither knows of the other."""
    (group, one), (other_group, other) = pair
    if "network.activation" in (group, other_group) and not MORE & {one, other}:
        return None
    if group == other_group:
        return None if group in ONE else [f"{group}=[{one},{other}]"]
    return [f"{group}={one}", f"{other_group}={other}"]


def planned(folder: Path, *line: str) -> Plan | str:
    """The plan of a tiny run, or why there is none."""
    try:
        return runs.plan(folder, *TINY, *NETWORK, *line)
    except ConfigError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.parametrize("first", methods(), ids="=".join)
def test_every_two_methods_train_together_or_are_refused_with_a_sentence(
    tmp_path: Path, first: tuple[str, str]
) -> None:
    lines = [overrides(pair) for pair in itertools.combinations(methods(), 2) if pair[0] == first]
    for number, line in enumerate(line for line in lines if line):
        plan = planned(tmp_path / str(number), *line)
        if isinstance(plan, str):
            assert len(plan.split()) > 5, line
            assert "\n" not in plan, line
        else:
            assert [outcome.state for outcome in runs.train(plan)] == ["done"], line


# What trains in mini-batches only, or in epochs, or where there is a second mini-batch of the same data.
NEED_SOMETHING_ELSE = {"batch_norm", "momentum_cifar100", "c_chain"}


@pytest.mark.parametrize("one", methods(), ids="=".join)
def test_every_method_trains_on_permuted_digits(tmp_path: Path, one: tuple[str, str]) -> None:
    plan = planned(tmp_path, "=".join(one))
    assert isinstance(plan, str) == (one[1] in NEED_SOMETHING_ELSE), plan
    if not isinstance(plan, str):
        assert [outcome.state for outcome in runs.train(plan)] == ["done"]
