"""What ImageNet at 32×32 can be built from."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.file_tree import FileTree


class Chunk(NamedTuple):
    """Images between two saves of the progress. Each has a class, and a position among the images of that class."""

    files: int  # of the source, that they came from
    ids: NDArray[np.int64]  # (n,), the class ids
    positions: NDArray[np.int64]  # (n,)
    images: NDArray[np.uint8]  # (n, 3, 32, 32)


class Source(Protocol):
    kind: str  # for the manifest
    tree: FileTree
    class_names: list[str | None]  # WordNet ids by class id; None where the source has numbers only

    @property
    def plan(self) -> str:
        """Changes when other files are read, or in another order."""
        ...

    def chunks(self, classes: Container[int], filled: Mapping[int, int], done: int) -> Iterator[Chunk]:
        """The images of `classes`, the same every time, from the file after the first `done`: those gave
        `filled[id]` images of class `id`. Raises `DataError` where the source is damaged.
        """
        ...
