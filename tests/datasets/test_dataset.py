"""What every data set gives, and one's own; its choices in the configuration."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lop_sweeps.datasets import DataSet, LabelledSet
from lop_sweeps.errors import DataError
from tests.datasets.files import pixels

CONF = Path(__file__).parents[2] / "conf" / "benchmark" / "data"
CHOICES = sorted(path.stem for path in CONF.glob("*.yaml"))


def chosen(choice: str) -> tuple[type[DataSet], dict[str, Any]]:
    """The class that a choice names, and the options that it gives."""
    node = yaml.safe_load((CONF / f"{choice}.yaml").read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    assert module == f"lop_sweeps.datasets.{choice}"
    made: type[DataSet] = getattr(importlib.import_module(module), name)
    return made, node


def test_the_data_sets() -> None:
    known = ["cifar10", "cifar100", "digits", "emnist", "fashion_mnist", "imagenet32", "mnist", "svhn"]
    assert known == CHOICES


@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_gives_every_option_its_default(choice: str) -> None:
    made, options = chosen(choice)
    assert issubclass(made, DataSet)
    parameters = {} if "__init__" not in vars(made) else dict(inspect.signature(made).parameters)
    assert options == {name: parameter.default for name, parameter in parameters.items()}


@pytest.mark.parametrize("choice", CHOICES)
def test_each_says_its_shape_and_scale(choice: str) -> None:
    made, options = chosen(choice)
    data = made(**options)
    channels, height, width = data.shape
    assert (channels, height) in ((1, 28), (3, 32), (1, 8))
    assert height == width
    assert data.classes >= 10
    assert (data.MEAN is None) == (data.STD is None)
    for constants in (data.MEAN, data.STD):
        assert constants is None or (len(constants) == channels and all(0 < value < 1 for value in constants))


@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice != "digits"])
def test_what_is_missing_is_named_with_the_command_that_mends_it(choice: str, tmp_path: Path) -> None:
    made, options = chosen(choice)
    command = "build imagenet32 SOURCE" if choice == "imagenet32" else f"fetch {choice}"
    for refuses in (made(**options).check_data, made(**options).training_set, made(**options).test_set):
        with pytest.raises(DataError, match=rf"lop-data {command} --data {tmp_path}"):
            refuses(tmp_path)


class Stripes(DataSet):
    """Of a user's own: as little as is needed."""

    shape = (1, 2, 2)
    classes = 2

    def training_set(self, root: Path) -> LabelledSet:
        return LabelledSet(np.array([[[[0, 255]] * 2], [[[0, 0], [255, 255]]]], np.uint8), np.arange(2))


def test_ones_own_needs_a_training_set_only(tmp_path: Path) -> None:
    data = Stripes()
    data.check_data(tmp_path)
    assert data.training_set(tmp_path).images.shape == (2, 1, 2, 2)
    assert data.test_set(tmp_path) is None
    assert (data.version, data.BRIGHTEST, data.MEAN) == (1, 255.0, None)
    with pytest.raises(TypeError, match="training_set"):
        type("Nothing", (DataSet,), {})()


WRONG = [
    (pixels(0, 4, 1, 8, 8).astype(np.float32), np.zeros(4, np.int64), r"images .* float32 \(4, 1, 8, 8\); should be"),
    (pixels(0, 4, 8, 8), np.zeros(4, np.int64), r"uint8 \(4, 8, 8\)"),
    (pixels(0, 0, 1, 8, 8), np.zeros(0, np.int64), "n ≥ 1"),
    (pixels(0, 4, 8, 8, 3).transpose(0, 3, 1, 2), np.zeros(4, np.int64), "not contiguous"),
    (pixels(0, 4, 1, 8, 8), np.zeros(3, np.int64), r"labels .* int64 \(3,\); should be int64 \(4,\)"),
    (pixels(0, 4, 1, 8, 8), np.zeros(4, np.uint8), r"labels .* uint8 \(4,\)"),
]


@pytest.mark.parametrize(("images", "labels", "message"), WRONG)
def test_what_is_no_labelled_set_is_named(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelledSet(images, labels)
