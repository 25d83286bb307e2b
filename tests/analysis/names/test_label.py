"""Labels: short, unique per configuration, the same for all seeds of one."""

import pytest

from lop_sweeps.analysis.names.label import ordered
from lop_sweeps.analysis.reading.load import load
from tests.analysis.sweep_builder import SweepBuilder


def labels(sweep: SweepBuilder) -> list[str]:
    return load(sweep.folder).runs.sort_values("run")["label"].tolist()


def test_algorithms_alone_where_nothing_else_differs(sweep: SweepBuilder) -> None:
    sweep.add(algorithm="backprop")
    sweep.add(algorithm=[])
    sweep.add(algorithm=["l2", "continual_backprop"])
    (sweep.folder / "run-0001" / "config.yaml").unlink()  # backprop is both a choice and no intervention at all
    assert labels(sweep) == ["backprop", "l2+continual_backprop"]


def test_no_intervention_is_backprop(sweep: SweepBuilder) -> None:
    sweep.add(algorithm=[])
    assert labels(sweep) == ["backprop"]


def test_exactly_the_differing_hyper_parameters(sweep: SweepBuilder) -> None:
    for rate in (1e-5, 1e-4):
        sweep.add(
            algorithm="continual_backprop",
            options={"continual_backprop": {"replacement_rate": rate, "maturity_threshold": 100}},
        )
    sweep.add(algorithm="l2", optimizer={"weight_decay": 1e-4})
    assert labels(sweep) == [
        "continual_backprop, replacement_rate=1e-05",
        "continual_backprop, replacement_rate=0.0001",
        "l2",
    ]


def test_the_tasks_in_which_a_method_acts_are_a_difference_beside_others(sweep: SweepBuilder) -> None:
    """Who says nothing of them says that it acts in all; of other options it may be older than they are."""
    sweep.add(algorithm="redo", options={"redo": {"threshold": 0.1}})
    sweep.add(algorithm="redo", options={"redo": {"threshold": 0.2, "from_task": 5, "added_later": 1}})
    assert labels(sweep) == ["redo, threshold=0.1", "redo, threshold=0.2, from_task=5"]


def test_variant_name_comes_first(sweep: SweepBuilder) -> None:
    sweep.add(config={"variant": "tuned"}, optimizer={"step_size": 0.003})
    sweep.add(config={"variant": "tuned"}, optimizer={"step_size": 0.01})
    sweep.add(config={"variant": "plain"}, optimizer={"step_size": 0.1})
    assert labels(sweep) == ["tuned, step_size=0.003", "tuned, step_size=0.01", "plain"]


def test_choice_stands_for_the_options_it_brings(sweep: SweepBuilder) -> None:
    sweep.add(choices={"optimizer": "sgd"}, optimizer={"step_size": 0.01})
    sweep.add(choices={"optimizer": "adam"}, optimizer={"step_size": 0.001, "beta1": 0.9})
    sweep.add(choices={"network": "linear"}, network={"hidden": []})
    assert labels(sweep) == [
        "backprop, network=mlp, optimizer=sgd",
        "backprop, network=mlp, optimizer=adam",
        "backprop, network=linear",
    ]


def test_same_short_key_twice_gets_its_component(sweep: SweepBuilder) -> None:
    for outer, inner in ((0.1, 0.2), (0.3, 0.4)):
        sweep.add(algorithm="redo", optimizer={"step_size": outer}, options={"redo": {"step_size": inner, "tau": 0.0}})
    assert labels(sweep) == [
        "redo, optimizer.step_size=0.1, redo.step_size=0.2",
        "redo, optimizer.step_size=0.3, redo.step_size=0.4",
    ]


def test_seeds_and_lengths_share_a_label(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    sweep.add(seed=1, benchmark={"num_tasks": 40})  # extended, the other not yet
    sweep.add(seed=2, optimizer={"momentum": 0.0})
    sweep.add(seed=3, optimizer={"momentum": 0})
    found = labels(sweep)
    assert found[0] == found[1] == "backprop"
    assert found[2] == found[3] == "backprop, momentum=0"


def test_an_option_that_older_runs_do_not_say_is_no_difference(sweep: SweepBuilder) -> None:
    """Nor is the number of inputs, where newer runs have an option of that name."""
    sweep.add(optimizer={"step_size": 0.1}, benchmark={"inputs": 64})
    sweep.add(optimizer={"step_size": 0.2}, benchmark={"inputs": "zero_one"}, network={"leaky_slope": 0.01})
    assert labels(sweep) == ["backprop, step_size=0.1", "backprop, step_size=0.2"]


def test_labels_are_unique_per_configuration(sweep: SweepBuilder) -> None:
    """Equal to six digits; different only in the class; a variant named like an algorithm."""
    sweep.add(optimizer={"step_size": 0.1234567891})
    sweep.add(optimizer={"step_size": 0.1234567892})
    sweep.add(optimizer={"_target_": "mine.SGD"})
    sweep.add(optimizer={"_target_": "yours.SGD"})
    sweep.add(config={"variant": "backprop"}, optimizer={"step_size": 5})
    runs = load(sweep.folder).runs
    assert runs["label"].nunique() == runs["configuration"].nunique() == 5


def test_benchmarks_do_not_lengthen_each_others_labels(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(benchmark={"name": "permuted_mnist", "examples_per_task": 60000})
    assert labels(sweep) == ["backprop", "backprop"]


def test_same_configuration_with_and_without_a_variant_name_is_one(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    sweep.add(seed=1, config={"variant": "plain"})
    assert labels(sweep) == ["plain", "plain"]


@pytest.mark.parametrize("names", [["l2", "backprop, step_size=0.01", "backprop, step_size=1e-05", "backprop"]])
def test_baselines_first_and_numbers_by_value(names: list[str]) -> None:
    assert ordered(names) == ["backprop", "backprop, step_size=1e-05", "backprop, step_size=0.01", "l2"]
