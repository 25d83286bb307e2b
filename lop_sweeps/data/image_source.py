"""Classes of ImageNet from image files, resized to 32×32: `train/<WordNet id>/**/*.JPEG` in a folder or an archive.

That is the usual layout of ImageNet, and Tiny ImageNet's with its `images` folders. As for the official downsampled
set (Chrabaszcz, Loshchilov and Hutter 2017), the box filter is used and the aspect ratio is not kept.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lop_sweeps import cores
from lop_sweeps.data.batch_source import BATCHES
from lop_sweeps.data.file_tree import FileTree
from lop_sweeps.data.imagenet32 import SHAPE
from lop_sweeps.data.source import Chunk
from lop_sweeps.errors import DataError

MAX_PIXELS = 80_000_000  # of one image, which take 240 MB
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is a warning on the screen; ours is an error that names the file
CHUNK = 4096  # images between two saves of the progress

# A name that begins with a dot is no image: macOS puts such files into archives.
IMAGE = r"(?P<top>(?:.*?/)?){}/(?P<wnid>[^/]+)/(?:.*/)?[^/.][^/]*\.(?:jpe?g|png)"
TRAIN = re.compile(IMAGE.format("train"), re.IGNORECASE)
ARCHIVE = re.compile(r"(?:.*/)?(?:n\d{8}|[^/]*(?:imagenet|img_train|batch)[^/]*)\.(?:tar|tar\.gz|zip)", re.IGNORECASE)
CLASS_FOLDER = re.compile(r"(?:.*/)?n\d{8}/")
VAL = re.compile(IMAGE.format("val"), re.IGNORECASE)


class ImageSource:
    """The first images of each class in the order of their names: training images from `train/`, then test images
    from `val/` where it says its classes (Tiny ImageNet's `val_annotations.txt`, or `val/<WordNet id>/`), else the
    next ones of `train/`. Class ids are the places of the sorted WordNet ids.
    """

    kind = "images"

    def __init__(self, tree: FileTree, names: Sequence[str], train: int, test: int) -> None:
        """`names` are the tree's; raises `DataError` if there are no classes, or one has too few images."""
        self.tree = tree
        tops = {match["top"] for match in map(TRAIN.fullmatch, names) if match}
        if not tops:
            raise DataError(
                f"{tree.path} has neither train/<WordNet id>/*.JPEG nor train_data_batch_1 … {BATCHES} nor "
                f"classes/<id>.npy{_what_it_has(names)}"
            )
        if len(tops) > 1:
            shown = ", ".join(f"{top}train" for top in sorted(tops))
            raise DataError(
                f"{tree.path} has several folders with classes: {shown}. Give the folder that holds one of them"
            )
        (top,) = tops
        for_training = _by_class(TRAIN, names, top)
        for_test = self._annotated(names, top) or _by_class(VAL, names, top)
        if not for_test.keys() & for_training.keys():  # images without their classes
            for_test = {}
        self.class_names: list[str | None] = [*sorted(for_training)]
        self.places: dict[str, tuple[int, int]] = {}  # of each image's file: class id, position in the class
        for id, name in enumerate(sorted(for_training)):
            images = sorted(for_training[name])
            if for_test:
                chosen = images[:train] + sorted(for_test.get(name, []))[:test]
                self._demand(id, name, "train", len(images), train, f"--train {train}")
                self._demand(id, name, "val", len(for_test.get(name, [])), test, f"--test {test}")
            else:
                chosen = images[: train + test]
                self._demand(id, name, "train", len(images), train + test, f"--train {train} and --test {test}")
            self.places.update((file, (id, position)) for position, file in enumerate(chosen))

    def _demand(self, id: int, name: str, part: str, found: int, needed: int, options: str) -> None:
        if found < needed:
            raise DataError(
                f"{self.tree.path}: class {id} ({name}) has {found} images in {part}/; "
                f"{needed} are needed ({options}). Ask for fewer, or check that the source is complete"
            )

    def _annotated(self, names: Iterable[str], top: str) -> dict[str, list[str]]:
        """Tiny ImageNet's validation images by class; empty for other sources."""
        file = f"{top}val/val_annotations.txt"
        present = set(names)
        if file not in present:
            return {}
        found = defaultdict(list)
        ((_, content),) = self.tree.read([file])
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            image, _, rest = line.partition("\t")
            path = next((path for folder in ("images/", "") if (path := f"{top}val/{folder}{image}") in present), None)
            if path is None or not rest:
                raise DataError(f"{self.tree.path}: {file}, line {number}: no image in val/ and class: {line[:80]!r}")
            found[rest.split("\t")[0]].append(path)
        return found

    @property
    def plan(self) -> str:
        """Changes when other files are chosen."""
        return hashlib.sha256("\n".join(self.places).encode("utf-8", "surrogateescape")).hexdigest()

    def chunks(self, classes: Container[int], filled: Mapping[int, int], done: int) -> Iterator[Chunk]:
        """The chosen images of `classes` after the first `done` files; `filled` is not needed."""
        files = self.tree.read([file for file, (id, _) in self.places.items() if id in classes], skip=done)
        with ThreadPoolExecutor(cores.allotted()) as pool:  # Pillow works without the GIL
            while batch := list(islice(files, CHUNK)):
                places = np.array([self.places[name] for name, _ in batch])
                images = list(pool.map(lambda file: small_image(self.tree.path, *file), batch))
                yield Chunk(len(batch), places[:, 0], places[:, 1], np.stack(images))


def _what_it_has(names: Iterable[str]) -> str:
    """What to do with what is there instead, if that is known."""
    for name in names:
        if ARCHIVE.fullmatch(name):
            return f". It holds an archive, {name}: give that, or unpack it"
        if CLASS_FOLDER.match(name):
            return f". It holds the folders of classes ({name}): give the folder above it, and call it train"
    return ""


def _by_class(pattern: re.Pattern[str], names: Iterable[str], top: str) -> dict[str, list[str]]:
    found = defaultdict(list)
    for name in names:
        match = pattern.fullmatch(name)
        if match and match["top"] == top:
            found[match["wnid"]].append(name)
    return found


def small_image(source: Path, name: str, content: bytes) -> NDArray[np.uint8]:
    """The encoded image as RGB, uint8 (3, 32, 32); raises `DataError` that names it if it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
            small = image.convert("RGB").resize(SHAPE[1:], Image.Resampling.BOX)
    except Exception as error:  # a damaged image may raise anything
        raise DataError(f"{source}: {name} cannot be decoded ({error}). Get the source again") from error
    return np.asarray(small).transpose(2, 0, 1)
