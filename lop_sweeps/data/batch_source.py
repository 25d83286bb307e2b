"""Classes of ImageNet from the official downsampled set at 32×32 (Chrabaszcz, Loshchilov and Hutter 2017).

`train_data_batch_1` … `10`, each a pickled dictionary, or an `.npz` file: `data` uint8 (n, 3072), channel-first,
`labels` 1 … 1000, and a mean that is not needed. Its order of the classes is not that of the WordNet ids, and the
files do not name them: class id = label − 1.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.file_tree import FileTree
from lop_sweeps.data.imagenet32 import SHAPE
from lop_sweeps.data.source import Chunk
from lop_sweeps.errors import DataError

BATCHES = 10
CLASSES = 1000
BATCH_BYTES = 512 << 20  # of one batch; the official ones have 394 MB
BATCH = re.compile(r"(?:.*/)?train_data_batch_(?P<number>\d+)(?P<npz>\.npz)?")


class BatchSource:
    """The first images of each class, in the order of the files."""

    kind = "downsampled"

    def __init__(self, tree: FileTree, names: Sequence[str], train: int, test: int) -> None:
        """`names` are the tree's; raises `DataError` unless all ten batches are there."""
        self.tree, self.needed = tree, train + test
        self.class_names: list[str | None] = [None] * CLASSES
        matches = [match for match in map(BATCH.fullmatch, names) if match]
        if any(match["npz"] for match in matches):  # both variants hold the same; this one needs no pickle
            matches = [match for match in matches if match["npz"]]
        files = {int(match["number"]): match.string for match in matches}
        missing = [number for number in range(1, BATCHES + 1) if number not in files]
        if missing:
            raise DataError(
                f"{tree.path} has no train_data_batch_{missing[0]} ({BATCHES - len(missing)} of {BATCHES} batches are "
                "there). Unpack all of the archive, or give the archive itself"
            )
        self.files = [files[number] for number in range(1, BATCHES + 1)]

    @property
    def plan(self) -> str:
        return " ".join(self.files)

    def chunks(self, classes: Container[int], filled: Mapping[int, int], done: int) -> Iterator[Chunk]:
        """One batch each, of which the images that are still needed are kept."""
        counts = np.array([filled.get(id, 0) if id in classes else self.needed for id in range(CLASSES)])
        for name in self.files[done:]:
            ((_, content),) = self.tree.read(
                [name], limit=BATCH_BYTES
            )  # one at a time: a tar archive has its own order
            data, labels = read_batch(f"{self.tree.path}: {name}", content)
            del content  # 400 MB
            kept, positions = [], []
            for id in np.flatnonzero(counts < self.needed):
                found = np.flatnonzero(labels == id + 1)[: self.needed - counts[id]]
                kept.append(found)
                positions.append(counts[id] + np.arange(len(found)))
                counts[id] += len(found)
            rows = np.concatenate(kept)
            yield Chunk(1, labels[rows] - 1, np.concatenate(positions), data[rows].reshape(-1, *SHAPE))


def read_batch(name: str, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 3072) and labels (n,) of one batch file; raises `DataError` unless it is what it should be."""
    try:
        if name.endswith(".npz"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                size = sum(member.file_size for member in packed.infolist())
            if size > BATCH_BYTES:
                raise ValueError(f"it unpacks to {size:,} bytes; at most {BATCH_BYTES:,} are read")
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                batch = {key: file[key] for key in ("data", "labels") if key in file}
        else:
            batch = ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        if not isinstance(batch, dict) or not {"data", "labels"} <= batch.keys():
            raise ValueError("it has no arrays data and labels")
        data, labels = batch["data"], np.asarray(batch["labels"])
    except Exception as error:  # a damaged pickle may raise anything
        raise DataError(f"{name} cannot be read ({error}): it is damaged or no official file. Get it again") from error
    pixels = math.prod(SHAPE)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != pixels:
        shown = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{name}: data is {shown}, should be uint8 (n, {pixels}): the set at 32x32 pixels is needed")
    if labels.dtype.kind not in "iu" or labels.shape != data.shape[:1]:
        raise DataError(f"{name}: labels are {labels.dtype} {labels.shape}, should be integers ({len(data)},)")
    if len(labels) and not (labels.min() >= 1 and labels.max() <= CLASSES):
        raise DataError(f"{name}: labels are {labels.min()} … {labels.max()}, should be 1 … {CLASSES}")
    return data, labels.astype(np.int64)


class ArrayUnpickler(pickle.Unpickler):
    """Reads containers, numbers, text and numpy arrays; a pickle that asks for anything else is refused.

    A pickle names functions to call, so that an ordinary one runs whatever its author likes.
    """

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy._core", "numpy.core")  # named so since numpy 2
        if (module, name) == ("_codecs", "encode"):  # bytes in a pickle of an old protocol
            return _latin1
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if (module, name) in _ARRAY_FUNCTIONS:
            return _ARRAY_FUNCTIONS[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _numpy_function(array: Any, protocol: int) -> Any:
    """The function that numpy itself names when it pickles `array`: its home differs between versions."""
    return array.__reduce_ex__(protocol)[0]


_ARRAY_FUNCTIONS = {
    ("numpy.core.multiarray", "_reconstruct"): _numpy_function(np.zeros(1), 2),
    ("numpy.core.numeric", "_frombuffer"): _numpy_function(np.zeros(1), 5),
    ("numpy.core.multiarray", "scalar"): _numpy_function(np.int64(0), 2),
}
