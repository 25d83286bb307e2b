"""SVHN: small MATLAB files made here stand for the official ones, with checksums of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.datasets.svhn import SVHN
from lop_sweeps.errors import DataError
from tests.datasets.files import labels, pixels, write_svhn

COUNTS = (40, 20)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(SVHN, "published", write_svhn(tmp_path, SVHN.published, monkeypatch, COUNTS))
    return tmp_path


def test_images_are_upright_and_the_digit_zero_is_class_zero(root: Path) -> None:
    data = SVHN()
    data.check_data(root)
    for seed, part in enumerate((data.training_set(root), data.test_set(root))):
        stored = pixels(seed, 32, 32, 3, COUNTS[seed])  # row, column, channel, image
        expected = np.stack([stored[..., i].transpose(2, 0, 1) for i in range(COUNTS[seed])])
        np.testing.assert_array_equal(part.images, expected)
        np.testing.assert_array_equal(part.labels, labels(seed, COUNTS[seed], 10))
        assert np.bincount(part.labels).tolist() == [COUNTS[seed] // 10] * 10


@pytest.mark.parametrize("name", [file.name for file in SVHN.published.files])
def test_damage_is_named_with_the_command_that_mends_it(root: Path, name: str) -> None:
    path = root / "SVHN" / name
    whole = path.read_bytes()
    mend = f"lop-data fetch svhn --data {root}"
    for damaged, message in ((whole[:-1], "is truncated"), (b"x" + whole[1:], "has the wrong header")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{path} {message}.*{mend}"):
            SVHN().check_data(root)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    SVHN().check_data(root)
    read = SVHN().training_set if name.startswith("train") else SVHN().test_set
    with pytest.raises(DataError, match=rf"not as published.*lop-data verify svhn says which.*{mend}"):
        read(root)
