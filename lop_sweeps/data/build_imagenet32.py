"""Builds the class files of ImageNet at 32×32 (see imagenet32.py) from what the user got from image-net.org.

Images are written into `<root>/imagenet32/.build/<class id>.npy`; when a class has all of its images, the file is
moved into `classes/` and entered in the manifest. After each chunk of the source the files are safe on disk before
`progress.json` says so: a build that is killed at any moment goes on from the last chunk.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.batch_source import BATCH, BatchSource
from lop_sweeps.data.class_source import CLASS, ClassSource
from lop_sweeps.data.file_tree import open_tree
from lop_sweeps.data.image_source import ImageSource
from lop_sweeps.data.imagenet32 import (
    SHAPE,
    ClassFile,
    Manifest,
    class_path,
    file_problem,
    imagenet32_folder,
    manifest_path,
    read_manifest,
)
from lop_sweeps.data.source import Chunk, Source
from lop_sweeps.durable import sync_directory
from lop_sweeps.errors import DataError
from lop_sweeps.turns import own, turn


def build_imagenet32(
    root: Path, source: Path, train: int = 600, test: int = 100, report: Callable[[str], None] = print
) -> bool:
    """Build what is missing or damaged; True if there was anything to do. Processes take turns.

    `source` is a folder or an archive, of the official downsampled set, of image files in `train/<WordNet id>/` or of
    the files of classes;
    `report` is given a line after each chunk. Raises `DataError` where the source is not what it should be, a class
    has too few images, or the folder holds something else; what was built is kept.
    """
    if source.resolve() in (imagenet32_folder(root).resolve(), class_path(root, 0).parent.resolve()):
        raise DataError(f"{source} is the folder to be built. Move what is there elsewhere first, and give that")
    opened = open_source(source, train, test)
    build = Build(root, opened, train, test, report)
    if build.complete():  # before the lock: complete data may lie on a read-only file system
        shutil.rmtree(build.staging, ignore_errors=True)  # a build may be killed after its last class
        return False
    try:
        class_path(root, 0).parent.mkdir(parents=True, exist_ok=True)
        with turn(imagenet32_folder(root) / ".lock"):
            return build.run()
    except OSError as error:
        raise DataError(f"cannot write ImageNet 32x32 to {imagenet32_folder(root)}: {error}") from error


def open_source(path: Path, train: int, test: int) -> Source:
    """What `path` holds; raises `DataError` if it is nothing to build from."""
    tree = open_tree(path)
    names = tree.names()
    if any(map(BATCH.fullmatch, names)):
        return BatchSource(tree, names, train, test)
    if any(map(CLASS.fullmatch, names)):
        return ClassSource(tree, names, train, test)
    return ImageSource(tree, names, train, test)


class Build:
    """One build: the folder, the source, and how far it has come."""

    def __init__(self, root: Path, source: Source, train: int, test: int, report: Callable[[str], None]) -> None:
        """Writes nothing; raises `DataError` if the folder holds classes of another build."""
        self.root, self.source, self.report = root, source, report
        self.images = train + test  # of each class
        self.header = npy_header(self.images)
        self.staging = staging_folder(root)
        self.manifest = Manifest(source.kind, source.tree.path.name, train, test, len(source.class_names))
        self.done = 0  # files of the source that need not be read again
        self.filled: dict[int, int] = {}  # images in the file of each class that this build is about

    def complete(self) -> bool:
        """Whether every class is in the manifest and its file as it should be."""
        self.read_manifest()
        return len(self.manifest.files) == self.manifest.class_count and not self.damaged()

    def run(self) -> bool:
        self.read_manifest()  # again: another process may have been at work until now
        damaged = self.damaged()
        wanted = {id for id in range(self.manifest.class_count) if id not in self.manifest.files or id in damaged}
        if not wanted:
            return False
        if damaged or not self.resume(wanted):
            self.start(wanted)
        self.move_finished()
        if self.unfinished():
            self.report(self.state())
            for chunk in self.source.chunks(frozenset(self.filled), self.filled, self.done):
                self.write(chunk)
                self.move_finished()
                self.report(self.state())
                if not self.unfinished():
                    break
        self.demand_all()
        shutil.rmtree(self.staging, ignore_errors=True)
        return True

    def read_manifest(self) -> None:
        """Take over the classes of the manifest there is. A damaged one counts as none: all is built again."""
        try:
            there = read_manifest(self.root)
        except DataError:
            return
        if not there.files:
            return
        ours = self.manifest
        names = self.source.class_names
        if (there.kind, there.train, there.test, there.class_count) != (
            ours.kind,
            ours.train,
            ours.test,
            ours.class_count,
        ) or any(names[file.id] != file.name for file in there.files.values()):
            raise DataError(
                f"{imagenet32_folder(self.root)} was built from {there.source} ({there.class_count} classes, "
                f"{there.kind}) with --train {there.train} --test {there.test}, not as asked for here. "
                "Remove that folder, or give another one with --data"
            )
        ours.source, ours.files = there.source, there.files

    def damaged(self) -> set[int]:
        """Classes of the manifest whose file is not as it says."""
        files = self.manifest.files.values()
        return {file.id for file in files if file_problem(class_path(self.root, file.id), file)}

    def unfinished(self) -> list[int]:
        return [id for id, count in self.filled.items() if count < self.images]

    def state(self) -> str:
        counts = (sum(self.filled.values()), len(self.filled) * self.images)
        finished = self.manifest.class_count - len(self.unfinished())
        return f"{counts[0]:,} of {counts[1]:,} images, {finished} of {self.manifest.class_count} classes"

    # The progress on disk.

    def partial(self, id: int) -> Path:
        return self.staging / f"{id}.npy"

    def identity(self) -> list[object]:
        """A build goes on only with the source and the numbers it was begun with."""
        path = self.source.tree.path.resolve()
        status = path.stat()
        source = [self.source.kind, str(path), status.st_size, status.st_mtime_ns, self.source.plan]
        return [*source, self.manifest.train, self.manifest.test]

    def resume(self, wanted: set[int]) -> bool:
        """Take over the progress on disk; False if there is none, or none that fits."""
        try:
            progress = json.loads((self.staging / "progress.json").read_bytes())
            filled = {int(id): int(count) for id, count in progress["filled"].items()}
            done = int(progress["done"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False
        fits = progress.get("identity") == self.identity() and wanted <= filled.keys()
        if not fits or not all(self.kept(id, filled[id]) for id in wanted):
            return False
        self.filled, self.done = filled, done
        return True

    def kept(self, id: int, count: int) -> bool:
        """Whether the images of a class that the progress speaks of are on disk."""
        if count == self.images and class_path(self.root, id).exists():
            return True  # moved, but not yet in the manifest when the build was killed
        try:
            return self.partial(id).stat().st_size == len(self.header) + self.images * math.prod(SHAPE)
        except FileNotFoundError:
            return count == 0

    def start(self, wanted: set[int]) -> None:
        """Begin anew with the classes that are wanted."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir()
        self.filled, self.done = dict.fromkeys(sorted(wanted), 0), 0
        for id in wanted:
            self.manifest.files.pop(id, None)
        write_safely(manifest_path(self.root), self.manifest.text())

    def write(self, chunk: Chunk) -> None:
        """Put the images in their places, then say so in the progress."""
        for id in np.unique(chunk.ids).tolist():
            rows = np.flatnonzero(chunk.ids == id)
            self.write_images(self.partial(id), chunk.positions[rows], chunk.images[rows])
            self.filled[id] += len(rows)
        self.done += chunk.files
        progress = {"identity": self.identity(), "done": self.done, "filled": self.filled}
        write_safely(self.staging / "progress.json", json.dumps(progress))

    def write_images(self, path: Path, positions: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
        # Not a memory map: on a full disk that ends in a signal instead of an error.
        with path.open("r+b" if path.exists() else "w+b") as stream:
            stream.write(self.header)
            stream.truncate(len(self.header) + self.images * math.prod(SHAPE))
            for position, image in zip(positions.tolist(), images, strict=True):
                stream.seek(len(self.header) + position * math.prod(SHAPE))
                stream.write(image.tobytes())
            stream.flush()
            os.fsync(stream.fileno())

    def move_finished(self) -> None:
        """Move the files of finished classes to their places and enter them in the manifest."""
        finished = [id for id, count in self.filled.items() if count == self.images and id not in self.manifest.files]
        for id in finished:
            path = class_path(self.root, id)
            if self.partial(id).exists():  # else it was moved before the build was killed
                self.partial(id).replace(path)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = path.stat().st_size
            self.manifest.files[id] = ClassFile(id, self.source.class_names[id], self.images, size, digest)
        if finished:
            sync_directory(class_path(self.root, 0).parent)
            write_safely(manifest_path(self.root), self.manifest.text())

    def demand_all(self) -> None:
        for id in self.unfinished():
            raise DataError(
                f"{self.source.tree.path}: class {id} ({self.source.class_names[id] or f'label {id + 1}'}) has "
                f"{self.filled[id]} images; {self.images} are needed "
                f"(--train {self.manifest.train} and --test {self.manifest.test}). "
                "Ask for fewer, or check that the source is complete"
            )


def staging_folder(root: Path) -> Path:
    """Where classes are built; beside what another user has left there, so that it is not in the way."""
    path = imagenet32_folder(root) / ".build"
    try:
        return path if path.stat().st_uid == os.getuid() else own(path)
    except OSError:
        return path


def npy_header(images: int) -> bytes:
    """What a `.npy` file of that many images, uint8 (images, 3, 32, 32), begins with."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (images, *SHAPE)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def write_safely(path: Path, text: str) -> None:
    """Replace a file so that at any moment the old or the new one is there, whole."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_directory(path.parent)
