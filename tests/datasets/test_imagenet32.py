"""ImageNet at 32×32: classes one after another, training images first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.data.imagenet32 import class_path
from lop_sweeps.datasets.imagenet32 import ImageNet32
from lop_sweeps.errors import ConfigError, DataError
from tests.images import write_imagenet32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five classes of 12 images."""
    write_imagenet32(tmp_path, classes=5, images=12)
    return tmp_path


def test_classes_one_after_another(root: Path) -> None:
    data = ImageNet32(classes=4, train_per_class=7, test_per_class=3)
    data.check_data(root)
    train, test = data.training_set(root), data.test_set(root)
    files = [np.load(class_path(root, c)) for c in range(4)]
    np.testing.assert_array_equal(train.images, np.concatenate([file[:7] for file in files]))
    assert test is not None
    np.testing.assert_array_equal(test.images, np.concatenate([file[7:10] for file in files]))
    assert np.bincount(train.labels).tolist() == [7] * 4
    assert test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert ImageNet32(classes=4, train_per_class=7, test_per_class=0).test_set(root) is None


def test_what_is_not_there_is_named(root: Path) -> None:
    for options, message in (
        ({"classes": 6}, "lists 5 classes, and class 5 is not one of them; 6 are needed"),
        ({"classes": 5, "test_per_class": 6}, "has 12 images .* 13 are needed.*lop-data build imagenet32"),
    ):
        with pytest.raises(DataError, match=message):
            ImageNet32(**{"train_per_class": 7, "test_per_class": 5, **options}).check_data(root)
    path = class_path(root, 2)
    path.write_bytes(path.read_bytes()[:-1])
    data = ImageNet32(classes=5, train_per_class=6, test_per_class=2)
    for refuses in (data.check_data, data.training_set):
        with pytest.raises(DataError, match=rf"{path} .*lop-data build imagenet32 SOURCE --data {root}"):
            refuses(root)


@pytest.mark.parametrize(("key", "value"), [("classes", 1), ("train_per_class", 0), ("test_per_class", -1)])
def test_wrong_options_name_their_key(key: str, value: int) -> None:
    with pytest.raises(ConfigError) as caught:
        ImageNet32(**{key: value})
    assert caught.value.key == key
