"""Small sources of ImageNet, made up: the official batches, and trees of image files."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lop_sweeps.data import batch_source
from lop_sweeps.data.build_imagenet32 import build_imagenet32

BATCHES, BATCH_CLASSES, ROWS = 3, 3, 6


def build(
    root: Path, source: Path, train: int = 2, test: int = 1, report: Callable[[str], None] = lambda line: None
) -> bool:
    return build_imagenet32(root, source, train, test, report)


def batch(number: int) -> dict[str, object]:
    """Every class twice in each batch."""
    data = np.random.default_rng(number).integers(0, 256, (ROWS, 3072), np.uint8)
    labels = [1 + (row + number) % BATCH_CLASSES for row in range(ROWS)]
    return {"data": data, "labels": labels, "mean": data.mean(axis=0)}


def class_rows(id: int, images: int) -> NDArray[np.uint8]:
    """The first images of a class in the order of the batches: what its file should hold."""
    batches = [batch(number) for number in range(1, BATCHES + 1)]
    data = np.concatenate([np.asarray(each["data"], np.uint8) for each in batches])
    labels = np.concatenate([np.asarray(each["labels"]) for each in batches])
    rows: NDArray[np.uint8] = data[labels == id + 1][:images].reshape(-1, 3, 32, 32)
    return rows


def batch_folder(path: Path, monkeypatch: pytest.MonkeyPatch, *, npz: bool = False, protocol: int = 4) -> Path:
    monkeypatch.setattr(batch_source, "BATCHES", BATCHES)
    monkeypatch.setattr(batch_source, "CLASSES", BATCH_CLASSES)
    path.mkdir(parents=True)
    for number in range(1, BATCHES + 1):
        file = path / f"train_data_batch_{number}"
        if npz:
            np.savez(file, **batch(number))  # type: ignore[arg-type]
        else:
            file.write_bytes(pickle.dumps(batch(number), protocol=protocol))
    return path


def picture(seed: int, size: tuple[int, int] = (32, 32), format: str = "PNG", mode: str = "RGB") -> bytes:
    """An encoded image of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format)
    return stream.getvalue()


def pixels(content: bytes) -> NDArray[np.uint8]:
    """(3, 32, 32), of an image of that size."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def tiny_imagenet(classes: int = 3, train: int = 3, test: int = 2, top: str = "") -> dict[str, bytes]:
    """Tiny ImageNet's layout: contents by file name."""
    files = {f"{top}words.txt": b"n0\tfish\n"}
    lines = []
    for id in range(classes):
        wnid = f"n{id:08}"
        for image in range(train):
            files[f"{top}train/{wnid}/images/{wnid}_{image}.JPEG"] = picture(100 * id + image)
        files[f"{top}train/{wnid}/{wnid}_boxes.txt"] = b""
    for image in range(classes * test):  # the classes take turns
        files[f"{top}val/images/val_{image}.JPEG"] = picture(1000 + image)
        lines.append(f"val_{image}.JPEG\tn{image % classes:08}\t0\t0\t31\t31\n")
    files[f"{top}val/val_annotations.txt"] = "".join(lines).encode()
    return files


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
