"""Classes of ImageNet from files that hold a class each, as the authors' archive and a finished build have them.

`classes/<class id>.npy`, ids 0, 1, … without padding, each (n, 3, 32, 32) with the training images first. The authors'
code casts what it reads and does not say what it is; whole numbers from 0 to 255 of any type are taken.
"""

from __future__ import annotations

import io
import re
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.file_tree import FileTree
from lop_sweeps.data.imagenet32 import SHAPE
from lop_sweeps.data.source import Chunk
from lop_sweeps.errors import DataError

CLASS = re.compile(r"(?P<top>(?:.*/)?classes/|)(?P<id>0|[1-9]\d{0,5})\.npy")


class ClassSource:
    """The first images of each file."""

    kind = "classes"

    def __init__(self, tree: FileTree, names: Sequence[str], train: int, test: int) -> None:
        """`names` are the tree's; raises `DataError` unless the classes 0, 1, … are there, in one folder."""
        self.tree, self.needed = tree, train + test
        found: dict[int, str] = {}
        for match in filter(None, map(CLASS.fullmatch, names)):
            if (other := found.setdefault(int(match["id"]), match.string)) != match.string:
                raise DataError(f"{tree.path} has class {match['id']} twice: {other} and {match.string}")
        missing = next((id for id in range(len(found)) if id not in found), None)
        if missing is not None:
            raise DataError(f"{tree.path} has {len(found)} classes, and class {missing} is not one of them")
        self.files = [found[id] for id in range(len(found))]
        self.class_names: list[str | None] = [None] * len(found)

    @property
    def plan(self) -> str:
        return " ".join(self.files)

    def chunks(self, classes: Container[int], filled: Mapping[int, int], done: int) -> Iterator[Chunk]:
        """One class each."""
        ids = {name: id for id, name in enumerate(self.files) if id in classes}
        for name, content in self.tree.read(list(ids), skip=done):
            images = read_class(f"{self.tree.path}: {name}", content, self.needed)
            yield Chunk(1, np.full(self.needed, ids[name]), np.arange(self.needed), images)


def read_class(name: str, content: bytes, needed: int) -> NDArray[np.uint8]:
    """The first `needed` images, uint8 (needed, 3, 32, 32); raises `DataError` unless the file has as many."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # a damaged file may raise anything
        raise DataError(f"{name} cannot be read ({error}): it is damaged or no .npy file. Get it again") from error
    if not isinstance(array, np.ndarray) or array.shape[1:] != SHAPE or array.dtype.kind not in "iuf":
        shown = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise DataError(f"{name} is {shown}, should be numbers (n, {', '.join(map(str, SHAPE))})")
    if len(array) < needed:
        raise DataError(f"{name} has {len(array)} images; {needed} are needed (--train and --test). Ask for fewer")
    images = array[:needed]
    with np.errstate(invalid="ignore"):  # NaN
        whole = images.astype(np.uint8)
    if images.dtype != np.uint8 and not np.array_equal(whole, images):
        raise DataError(f"{name} has {images.min():g} … {images.max():g}, should be whole numbers 0 … 255, unscaled")
    return whole
