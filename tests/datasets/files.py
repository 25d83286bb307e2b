"""Small files in the data sets' official formats, that both torchvision and we take for the official ones."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as official
from numpy.typing import NDArray
from scipy.io import savemat

from lop_sweeps.data.idx import idx_file, idx_header
from lop_sweeps.data.published import PublishedFile, PublishedSet
from lop_sweeps.datasets.idx_images import IDXImages


def pixels(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def labels(seed: int, images: int, classes: int) -> NDArray[np.int64]:
    """Every class as often as any other, nearly."""
    return np.random.default_rng(seed).permutation(np.arange(images) % classes)


def write_idx(root: Path, data: type[IDXImages], monkeypatch: pytest.MonkeyPatch, train: int, test: int) -> None:
    """Images and labels of `pixels` and `labels` with seeds 0 (training) and 1 (test), as IDX files."""
    names, files = [file.name for file in data.published.files], []
    data.published.path(root).mkdir(parents=True)
    for seed, images in enumerate((train, test)):
        arrays = (pixels(seed, images, 28, 28), labels(seed, images, data.classes).astype(np.uint8))
        for name, array in zip(names[2 * seed :], arrays, strict=False):
            (data.published.path(root) / name).write_bytes(idx_header(array.shape) + array.tobytes())
            files.append(idx_file(name, array.shape, None))
    monkeypatch.setattr(data, "published", replace(data.published, files=tuple(files)))


def batch(seed: int, images: int, classes: int, key: str) -> bytes:
    """A pickled batch of CIFAR: channel-first rows, and a list of labels."""
    rows = pixels(seed, images, 3 * 32 * 32)
    return pickle.dumps({"data": rows, key: labels(seed, images, classes).tolist()}, protocol=2)


def write_batches(
    root: Path, published: PublishedSet, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]
) -> PublishedSet:
    """`contents` by file name in the order of torchvision's lists; what stands for the published set."""
    theirs = getattr(official, published.title)
    published.path(root).mkdir(parents=True)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        (published.path(root) / name).write_bytes(content)
    for group in ("train_list", "test_list"):
        monkeypatch.setattr(theirs, group, [[name, md5[name]] for name, _ in getattr(theirs, group)])
    monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": md5[theirs.meta["filename"]]})
    files = tuple(PublishedFile(name, len(content), "md5", md5[name]) for name, content in contents.items())
    return replace(published, files=files)


def write_svhn(root: Path, published: PublishedSet, monkeypatch: pytest.MonkeyPatch, counts: Any) -> PublishedSet:
    """MATLAB files of `counts` images, the digit 0 labelled 10; seeds 0 and 1."""
    published.path(root).mkdir(parents=True)
    files = []
    for seed, (file, split) in enumerate(zip(published.files, ("train", "test"), strict=True)):
        stream = io.BytesIO()
        digits = labels(seed, counts[seed], 10)
        arrays = {"X": pixels(seed, 32, 32, 3, counts[seed]), "y": np.where(digits == 0, 10, digits)[:, None]}
        savemat(stream, {"X": arrays["X"], "y": arrays["y"].astype(np.uint8)}, do_compression=True)
        content = stream.getvalue()
        (published.path(root) / file.name).write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        files.append(replace(file, size=len(content), checksum=md5))
        pinned = {**official.SVHN.split_list, split: [f"http://nowhere/{file.name}", file.name, md5]}
        monkeypatch.setattr(official.SVHN, "split_list", pinned)
    return replace(published, files=tuple(files))
