"""MNIST, Fashion-MNIST and EMNIST against plain numpy reading of the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.datasets.dataset import LabelledSet
from lop_sweeps.datasets.emnist import EMNIST
from lop_sweeps.datasets.fashion_mnist import FashionMNIST
from lop_sweeps.datasets.idx_images import IDXImages
from lop_sweeps.datasets.mnist import MNIST
from lop_sweeps.errors import DataError
from tests.datasets.files import labels, pixels, write_idx
from tests.shared import SHARED

SETS = [MNIST, FashionMNIST, EMNIST]


@pytest.mark.parametrize("made", SETS)
def test_small_files_are_read_as_they_are(
    made: type[IDXImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EMNIST's, too: not turned upright."""
    write_idx(tmp_path, made, monkeypatch, train=100, test=50)
    data = made()
    data.check_data(tmp_path)
    for seed, part in enumerate((data.training_set(tmp_path), data.test_set(tmp_path))):
        np.testing.assert_array_equal(part.images, pixels(seed, 100 - 50 * seed, 28, 28)[:, None])
        np.testing.assert_array_equal(part.labels, labels(seed, 100 - 50 * seed, data.classes))
        assert part.images.shape[1:] == data.shape
    assert data.training_set(tmp_path) is made().training_set(tmp_path)  # once per process


@pytest.mark.parametrize("made", SETS)
@pytest.mark.parametrize("file", range(4))
def test_damage_is_named_with_the_command_that_mends_it(
    made: type[IDXImages], file: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path, made, monkeypatch, train=100, test=50)
    path = made.published.path(tmp_path) / made.published.files[file].name
    whole = path.read_bytes()
    for damaged, message in ((whole[:-1], "is truncated"), (b"\0\0\x09" + whole[3:], "has the wrong header")):
        path.write_bytes(damaged)
        for refuses in (made().check_data, made().training_set, made().test_set):
            with pytest.raises(DataError, match=message) as caught:
                refuses(tmp_path)
            assert str(path) in str(caught.value)
            assert f"lop-data fetch {made.published.name} --data {tmp_path}" in str(caught.value)


@pytest.mark.parametrize("made", SETS)
def test_labels_of_no_class_are_named(made: type[IDXImages], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick check cannot see them."""
    write_idx(tmp_path, made, monkeypatch, train=100, test=50)
    path = made.published.path(tmp_path) / made.published.files[1].name
    path.write_bytes(path.read_bytes()[:-1] + bytes([made.classes]))
    made().check_data(tmp_path)
    allowed = f"has labels 0 … {made.classes}, should have 0 … {made.classes - 1}"
    with pytest.raises(DataError, match=f"{path.name} {allowed}.*lop-data fetch"):
        made().training_set(tmp_path)


def test_what_an_old_torchvision_left_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, FashionMNIST, monkeypatch, train=100, test=50)
    (tmp_path / "FashionMNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (tmp_path / "FashionMNIST" / "processed" / name).write_bytes(b"older")
    np.testing.assert_array_equal(FashionMNIST().training_set(tmp_path).labels, labels(0, 100, 10))


def plain(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images = np.fromfile(folder / f"{part}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 28, 28)
    return images, np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8)[8:]


@pytest.mark.parametrize("made", [MNIST, FashionMNIST])
def test_real_files(made: type[IDXImages]) -> None:
    folder = made.published.path(SHARED / "data")
    if not folder.is_dir():
        pytest.skip(f"real {made.__name__} (../shared/data) is not here")
    data = made()
    data.check_data(SHARED / "data")
    for part, read in (("train", data.training_set), ("t10k", data.test_set)):
        found: LabelledSet = read(SHARED / "data")
        images, right = plain(folder, part)
        np.testing.assert_array_equal(found.images[:, 0], images)
        np.testing.assert_array_equal(found.labels, right)
        each = 6_000 if part == "train" else 1_000
        counts = np.bincount(found.labels)
        assert (len(counts), counts.sum()) == (10, 10 * each)
        assert set(counts) == {each} or made is MNIST
    scaled = data.training_set(SHARED / "data").images / 255
    np.testing.assert_allclose([made.MEAN, made.STD], [[scaled.mean()], [scaled.std()]], atol=5e-5)
