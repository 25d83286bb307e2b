"""CIFAR-100: small files made here stand for the official ones, with checksums of their own."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps.data import LabelledImages, check_cifar100, cifar100, load_arrays, load_cifar100, main
from lop_sweeps.data.cifar100 import CIFAR100
from lop_sweeps.data.command import PUBLISHED
from lop_sweeps.data.published import PublishedFile
from lop_sweeps.errors import DataError
from tests.shared import SHARED

PART = SHARED / "data" / "cifar100" / "cifar100_part.npz"


def images(n: int, seed: int) -> NDArray[np.uint8]:
    """Channel-last, as users see them."""
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)


def official(n: int, seed: int) -> bytes:
    rows = images(n, seed).transpose(0, 3, 1, 2).reshape(n, -1)
    return pickle.dumps({"data": rows, "fine_labels": list(range(n)), "coarse_labels": [0] * n}, protocol=2)


@pytest.fixture
def contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The small files' contents by name; they are under `tmp_path`, and both torchvision and we take them for right."""
    import torchvision.datasets

    made = {"train": official(5, 0), "test": official(3, 1), "meta": pickle.dumps({"fine_label_names": ["a", "b"]})}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in made.items()}
    official_class = torchvision.datasets.CIFAR100
    monkeypatch.setattr(official_class, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(official_class, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(official_class, "meta", {**official_class.meta, "md5": md5["meta"]})
    files = tuple(PublishedFile(name, len(content), "md5", md5[name]) for name, content in made.items())
    monkeypatch.setattr(cifar100, "CIFAR100", replace(CIFAR100, files=files))
    monkeypatch.setitem(PUBLISHED, "cifar100", cifar100.CIFAR100)
    CIFAR100.path(tmp_path).mkdir()
    for name, content in made.items():
        (CIFAR100.path(tmp_path) / name).write_bytes(content)
    return made


def test_official_files_are_loaded_in_their_order(contents: dict[str, bytes], tmp_path: Path) -> None:
    check_cifar100(tmp_path)
    loaded = load_cifar100(tmp_path)
    expected = LabelledImages(images(5, 0), np.arange(5), images(3, 1), np.arange(3))
    for name in LabelledImages._fields:
        array, right = getattr(loaded, name), getattr(expected, name)
        assert array.dtype == right.dtype
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, right)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_quick_check_names_a_truncated_file(contents: dict[str, bytes], tmp_path: Path, name: str) -> None:
    path = CIFAR100.path(tmp_path) / name
    path.write_bytes(contents[name][:-1])
    for refuses in (check_cifar100, load_cifar100):
        with pytest.raises(DataError) as caught:
            refuses(tmp_path)
        assert f"{path} is truncated: has {len(contents[name]) - 1} bytes" in str(caught.value)
        assert f"lop-data fetch cifar100 --data {tmp_path}" in str(caught.value)


def test_real_sizes() -> None:
    sizes = [(file.name, file.size, file.exact) for file in CIFAR100.files]
    assert sizes == [("train", 155249918, True), ("test", 30720000, False), ("meta", 1473, True)]


def test_a_lower_bound_lets_larger_files_pass(tmp_path: Path) -> None:
    (tmp_path / "test").write_bytes(bytes(10))
    assert PublishedFile("test", 9, "md5", "", exact=False).problem(tmp_path, checksum=False) is None
    wrong = PublishedFile("test", 11, "md5", "", exact=False).problem(tmp_path, checksum=False)
    assert wrong == "is truncated: has 10 bytes, should have at least 11"


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_file_that_is_not_the_official_one_is_never_unpickled(
    contents: dict[str, bytes], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    malicious = pickle.dumps(Malicious(tmp_path / "ran")) + b"."
    (CIFAR100.path(tmp_path) / name).write_bytes(malicious.ljust(len(contents[name]), b".")[: len(contents[name])])
    with pytest.raises(DataError, match="lop-data"):
        load_cifar100(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert main(["verify", "cifar100", "--data", str(tmp_path)]) == 1
    assert f"{name} " in capsys.readouterr().err


def save(path: Path, **changes: object) -> Path:
    arrays = {"x_train": images(4, 0), "y_train": np.arange(4), "x_test": images(2, 1), "y_test": np.array([0, 99])}
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})  # type: ignore[arg-type]
    return path


def test_arrays_of_a_part(tmp_path: Path) -> None:
    loaded = load_arrays(save(tmp_path / "part.npz", y_train=np.arange(4, dtype=np.uint8)))
    np.testing.assert_array_equal(loaded.x_train, images(4, 0))
    assert [array.dtype for array in loaded] == [np.uint8, np.int64, np.uint8, np.int64]
    assert loaded.y_test.tolist() == [0, 99]


WRONG_ARRAYS = [
    ({"x_test": None}, "has no array x_test"),
    ({"x_train": images(4, 0).astype(np.float32)}, "x_train is float32"),
    ({"x_train": images(4, 0).transpose(0, 3, 1, 2)}, r"x_train is uint8 \(4, 3, 32, 32\)"),
    ({"x_test": images(0, 0), "y_test": np.zeros(0, int)}, "n ≥ 1"),
    ({"y_train": np.arange(3)}, r"y_train is int64 \(3,\); it should be integers \(4,\)"),
    ({"y_train": np.zeros(4)}, "y_train is float64"),
    ({"y_test": np.array([0, 100])}, r"y_test has labels 0 … 100; allowed: 0 … 99"),
    ({"y_test": np.array([None, 1])}, "cannot be read"),  # an object array is a pickle
]


@pytest.mark.parametrize(("changes", "message"), WRONG_ARRAYS)
def test_wrong_arrays_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_arrays(save(tmp_path / "part.npz", **changes))
    assert str(tmp_path / "part.npz") in str(caught.value)


def test_what_is_no_npz_file_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "part.npz").read_bytes()
    for content in (b"", b"text", whole[:1000], whole[:-100], pickle.dumps(Malicious(tmp_path / "ran"))):
        (tmp_path / "wrong.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"wrong\.npz"):
            load_arrays(tmp_path / "wrong.npz")
    np.save(tmp_path / "single.npy", images(1, 0))
    for name, message in (("single.npy", "single array"), ("missing.npz", "cannot be read")):
        with pytest.raises(DataError, match=message):
            load_arrays(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not PART.exists(), reason="a part of CIFAR-100 (../shared/data) is not here")
def test_real_part() -> None:
    loaded = load_arrays(PART)
    assert (loaded.x_train.shape, loaded.x_test.shape) == ((10000, 32, 32, 3), (2000, 32, 32, 3))
    assert np.bincount(loaded.y_train).tolist() == [100] * 100
    assert np.bincount(loaded.y_test).tolist() == [20] * 100
