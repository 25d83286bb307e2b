"""Labels by the names that people use for them."""

import pandas as pd
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.names.naming import Naming
from lop_sweeps.analysis.names.resolve import one_label, resolve, split
from lop_sweeps.analysis.names.seeds import seeds_of

LABELS = ["backprop", "backprop, network=linear", "l2, weight_decay=0.1, step_size=1", "Shrink and perturb", "cbp, a=1"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("backprop", ["backprop"]),
        ("l2", ["l2, weight_decay=0.1, step_size=1"]),
        ("l2, step_size=1", ["l2, weight_decay=0.1, step_size=1"]),
        ("L2, weight decay=0.1", ["l2, weight_decay=0.1, step_size=1"]),
        ("shrink_and_perturb", ["Shrink and perturb"]),
        ("l2, step_size=2", []),
        ("l", []),
        ("", []),
    ],
)
def test_name_stands_for_labels_with_its_method_and_settings(name: str, found: list[str]) -> None:
    assert resolve(name, LABELS) == found


def test_one_label_says_which_there_are() -> None:
    assert one_label("cbp", LABELS, "here") == "cbp, a=1"
    with pytest.raises(AnalysisError, match="no label 'x' here; there are: backprop; "):
        one_label("x", LABELS, "here")
    with pytest.raises(AnalysisError, match="one of 2 labels"):
        one_label("l2", ["l2, a=1", "l2, a=2"], "here")


def test_text_begins_behind_the_first_label() -> None:
    assert split(r"cbp=CBP $\rho=10^{-4}$", LABELS, "--label") == ("cbp", r"CBP $\rho=10^{-4}$")
    assert split("l2, weight_decay=0.1=L2=x", LABELS, "--label") == ("l2, weight_decay=0.1", "L2=x")
    for text in ("cbp", "x=y", "=y"):
        with pytest.raises(AnalysisError, match="--label"):
            split(text, LABELS, "--label")


def test_name_of_several_labels_keeps_their_settings() -> None:
    naming = Naming(texts={"l2": "Decay"})
    labels = ["l2, weight_decay=0.1", "l2, weight_decay=0.2"]
    assert list(naming.given(labels).values()) == ["Decay, weight decay=0.1", "Decay, weight decay=0.2"]
    assert naming.given(labels[:1]) == {labels[0]: "Decay"}
    assert Naming(["l2, weight_decay=0.2"]).ordered(labels) == labels[::-1]


def test_unknown_names_are_refused_with_what_there_is() -> None:
    with pytest.raises(AnalysisError, match="no label 'adam'; there are: backprop"):
        Naming.parse(["adam"], [], [], LABELS)
    with pytest.raises(AnalysisError, match="value is missing"):
        Naming.parse([], [], ["cbp= "], LABELS)


def test_seeds_are_a_sentence() -> None:
    """Cases 3.1."""
    rows = [("a", seed, 5, "done") for seed in range(5)] + [("b_c", seed, 5, "done") for seed in range(2)]
    runs = pd.DataFrame([*rows, ("b_c", 9, 0, "waiting")], columns=["label", "seed", "tasks", "state"])
    assert seeds_of(runs) == "Seeds 0–4; b c: 0–1"
    assert seeds_of(runs[:1]) == "Seed 0"
    assert seeds_of(runs[-1:]) == ""
