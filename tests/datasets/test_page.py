"""The table of data sets in docs/benchmarks.md says what the classes and files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lop_sweeps.data.command import PUBLISHED
from tests.datasets.test_dataset import CHOICES, chosen

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def row(choice: str) -> list[str]:
    found = re.search(rf"^\| `{choice}` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert found, choice
    return found[1].split(" | ")


@pytest.mark.parametrize("choice", CHOICES)
def test_row(choice: str) -> None:
    made, options = chosen(choice)
    data = made(**options)
    images, shape, classes, _, line = row(choice)
    assert shape == " x ".join(map(str, data.shape))
    assert classes == f"{data.classes:,}"
    assert line == (f"`lop-data fetch {choice}`" if choice in PUBLISHED else line)
    sizes = [file.size for file in PUBLISHED[choice].files] if choice in PUBLISHED else []
    if data.shape == (1, 28, 28):  # an IDX file of labels has a byte each after a header of eight
        assert images == f"{sizes[1] - 8:,}, {sizes[3] - 8:,}"
    elif choice == "imagenet32":
        counts = (data.classes * options["train_per_class"], data.classes * options["test_per_class"])
        assert images == f"{counts[0]:,}, {counts[1]:,}"
