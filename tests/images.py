"""Small made-up image data sets in the places where benchmarks look for them; a class is known by its colour."""

from __future__ import annotations

import hashlib
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.imagenet32 import ClassFile, Manifest, class_path, manifest_path

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # until the process ends
CIFAR_FILE = "part.npz"


@lru_cache(maxsize=1)
def image_data() -> Path:
    """A folder for `paths.data`: ImageNet32 with 8 classes of 40 images, and a part of CIFAR-100, 12 + 4 a class."""
    _KEPT.append(tempfile.TemporaryDirectory(prefix="lop-images-"))
    root = Path(_KEPT[-1].name)
    write_imagenet32(root, classes=8, images=40)
    write_cifar100(root / CIFAR_FILE)
    write_cifar100(root / "other.npz", seed=2)
    return root


def coloured(rng: np.random.Generator, class_id: int, images: int) -> NDArray[np.uint8]:
    """Noise around a colour of the class, (images, 3, 32, 32)."""
    colour = np.random.default_rng(class_id).integers(60, 196, (3, 1, 1))
    return np.clip(rng.normal(colour, 50, (images, 3, 32, 32)), 0, 255).astype(np.uint8)


def write_imagenet32(root: Path, classes: int, images: int) -> None:
    rng = np.random.default_rng(0)
    manifest = Manifest("images", "made up", images // 2, images - images // 2, classes)
    class_path(root, 0).parent.mkdir(parents=True)
    for c in range(classes):
        path = class_path(root, c)
        np.save(path, coloured(rng, c, images))
        content = path.read_bytes()
        manifest.files[c] = ClassFile(c, None, images, len(content), hashlib.sha256(content).hexdigest())
    manifest_path(root).write_text(manifest.text())


def write_cifar100(path: Path, train: int = 12, test: int = 4, seed: int = 1) -> None:
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, each in (("train", train), ("test", test)):
        labels = rng.permutation(np.repeat(np.arange(100), each))
        arrays[f"x_{split}"] = np.stack([coloured(rng, c, 1)[0] for c in labels]).transpose(0, 2, 3, 1)
        arrays[f"y_{split}"] = labels
    np.savez(path, **arrays)
