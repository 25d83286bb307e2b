"""scikit-learn's digits, which need no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from lop_sweeps.datasets.digits import Digits


def test_digits() -> None:
    data = Digits()
    data.check_data(Path("nowhere"))
    part, theirs = data.training_set(Path("nowhere")), load_digits()
    np.testing.assert_array_equal(part.images[:, 0], theirs.images)
    np.testing.assert_array_equal(part.labels, theirs.target)
    assert part.images.shape == (1_797, 1, 8, 8)
    assert part.images.max() == data.BRIGHTEST
    assert data.test_set(Path("nowhere")) is None
    scaled = part.images / data.BRIGHTEST
    np.testing.assert_allclose([data.MEAN, data.STD], [[scaled.mean()], [scaled.std()]], atol=5e-5)
