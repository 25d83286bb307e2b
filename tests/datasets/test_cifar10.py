"""CIFAR-10: small files made here stand for the official ones, with checksums of their own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.datasets.cifar10 import CIFAR10
from lop_sweeps.errors import DataError
from tests.datasets.files import batch, labels, pixels, write_batches


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five batches of 20 images with seeds 1 … 5, and 30 test images with seed 6."""
    contents = {f"data_batch_{seed}": batch(seed, 20, 10, "labels") for seed in range(1, 6)}
    contents |= {"test_batch": batch(6, 30, 10, "labels"), "batches.meta": pickle.dumps({"label_names": ["a"] * 10})}
    monkeypatch.setattr(CIFAR10, "published", write_batches(tmp_path, CIFAR10.published, monkeypatch, contents))
    return tmp_path


def test_batches_are_read_in_their_order(root: Path) -> None:
    data = CIFAR10()
    data.check_data(root)
    train, test = data.training_set(root), data.test_set(root)
    expected = np.concatenate([pixels(seed, 20, 3 * 32 * 32) for seed in range(1, 6)]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(train.images, expected)
    np.testing.assert_array_equal(train.labels, np.concatenate([labels(seed, 20, 10) for seed in range(1, 6)]))
    np.testing.assert_array_equal(test.images, pixels(6, 30, 3, 32, 32))
    assert np.bincount(train.labels).tolist() == [10] * 10
    assert np.bincount(test.labels).tolist() == [3] * 10
    assert data.training_set(root) is train


@pytest.mark.parametrize("name", [file.name for file in CIFAR10.published.files])
def test_damage_is_named_with_the_command_that_mends_it(root: Path, name: str) -> None:
    path = CIFAR10.published.path(root) / name
    whole = path.read_bytes()
    mend = f"lop-data fetch cifar10 --data {root}"
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=rf"{path} is truncated.*{mend}"):
        CIFAR10().check_data(root)
    path.write_bytes(whole[:-1] + b"x")  # only reading compares checksums
    CIFAR10().check_data(root)
    with pytest.raises(DataError, match=rf"not as published.*lop-data verify cifar10 says which.*{mend}"):
        CIFAR10().training_set(root)
