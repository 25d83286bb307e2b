"""CIFAR-100: the official files, which small ones stand for, and a part of it in an .npz file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.data import cifar100
from lop_sweeps.datasets.cifar100 import CIFAR100
from lop_sweeps.errors import ConfigError, DataError
from tests.datasets.files import batch, labels, pixels, write_batches
from tests.shared import SHARED

PART = SHARED / "data" / "cifar100" / "cifar100_part.npz"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    contents = {"train": batch(0, 200, 100, "fine_labels"), "test": batch(1, 100, 100, "fine_labels")}
    contents["meta"] = pickle.dumps({"fine_label_names": ["a"] * 100})
    monkeypatch.setattr(cifar100, "CIFAR100", write_batches(tmp_path, cifar100.CIFAR100, monkeypatch, contents))
    return tmp_path


def test_official_files(root: Path) -> None:
    data = CIFAR100()
    data.check_data(root)
    for seed, (part, images) in enumerate(((data.training_set(root), 200), (data.test_set(root), 100))):
        np.testing.assert_array_equal(part.images, pixels(seed, images, 3, 32, 32))
        np.testing.assert_array_equal(part.labels, labels(seed, images, 100))
        assert np.bincount(part.labels).tolist() == [images // 100] * 100


def test_damage_is_named_with_the_command_that_mends_it(root: Path) -> None:
    path = root / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes()[:-1])
    for refuses in (CIFAR100().check_data, CIFAR100().training_set, CIFAR100().test_set):
        with pytest.raises(DataError, match=rf"{path} is truncated.*lop-data fetch cifar100 --data {root}"):
            refuses(root)


def save(path: Path, **changes: object) -> None:
    arrays = {"x_train": pixels(0, 9, 32, 32, 3), "y_train": np.arange(9), "x_test": pixels(1, 3, 32, 32, 3)}
    arrays = {**arrays, "y_test": np.arange(97, 100), **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_a_part_in_a_file(tmp_path: Path) -> None:
    save(tmp_path / "part.npz")
    data = CIFAR100(file="part.npz")
    data.check_data(tmp_path)
    train, test = data.training_set(tmp_path), data.test_set(tmp_path)
    np.testing.assert_array_equal(train.images, pixels(0, 9, 32, 32, 3).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(test.images, pixels(1, 3, 32, 32, 3).transpose(0, 3, 1, 2))
    assert (train.labels.tolist(), test.labels.tolist()) == ([*range(9)], [97, 98, 99])
    assert data.classes == 100


def test_a_wrong_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"part\.npz is missing; `file` names it, relative to"):
        CIFAR100(file="part.npz").check_data(tmp_path)
    save(tmp_path / "part.npz", y_test=None)
    with pytest.raises(DataError, match="does not hold x_train, y_train, x_test, y_test"):
        CIFAR100(file="part.npz").check_data(tmp_path)
    save(tmp_path / "other.npz", y_test=np.array([0, 1, 100]))
    with pytest.raises(DataError, match=r"y_test has labels 0 … 100; allowed: 0 … 99"):
        CIFAR100(file="other.npz").test_set(tmp_path)
    with pytest.raises(ConfigError, match="file"):
        CIFAR100(file=1)  # type: ignore[arg-type]


@pytest.mark.skipif(not PART.exists(), reason="a part of CIFAR-100 (../shared/data) is not here")
def test_the_real_part() -> None:
    data = CIFAR100(file="cifar100/cifar100_part.npz")
    data.check_data(SHARED / "data")
    train, test = data.training_set(SHARED / "data"), data.test_set(SHARED / "data")
    with np.load(PART) as arrays:
        np.testing.assert_array_equal(train.images.transpose(0, 2, 3, 1), arrays["x_train"])
        np.testing.assert_array_equal(test.labels, arrays["y_test"])
    assert np.bincount(train.labels).tolist() == [100] * 100
    assert np.bincount(test.labels).tolist() == [20] * 100
    found = [train.images.mean((0, 2, 3)) / 255, train.images.std((0, 2, 3)) / 255]
    np.testing.assert_allclose([data.MEAN, data.STD], found, atol=3e-3)  # of a fifth of the images
