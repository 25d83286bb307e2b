"""ImageNet at 32×32 pixels, one file a class: what Continual ImageNet reads.

`<root>/imagenet32/classes/<class id>.npy` holds a class's images as uint8 (n, 3, 32, 32), ids 0, 1, … without
padding, the training images first: the layout of the authors' data. `<root>/imagenet32/manifest.json` says what
there is. `lop-data build imagenet32` writes both (build_imagenet32.py).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.errors import DataError

FORMAT = 1
SHAPE = (3, 32, 32)  # of one image


@dataclass(frozen=True)
class ClassFile:
    """What the manifest says of one class."""

    id: int
    name: str | None  # its WordNet id; None where the source has numbers only
    images: int
    size: int  # of the file, in bytes
    sha256: str  # of the file


@dataclass
class Manifest:
    """What the folder holds, and what it was made from."""

    kind: str  # of the source: "downsampled" (the official 32×32 set), "images" (resized here) or "classes"
    source: str  # the source's name
    train: int  # training images of each class, the first of its file
    test: int  # test images of each class, the rest
    class_count: int  # classes in the source; fewer files than that: the build was not finished
    files: dict[int, ClassFile] = field(default_factory=dict)  # by class id

    def text(self) -> str:
        """The manifest file's JSON."""
        classes = [asdict(self.files[id]) for id in sorted(self.files)]
        source = {"kind": self.kind, "name": self.source, "classes": self.class_count}
        value = {"format": FORMAT, "source": source, "train": self.train, "test": self.test, "classes": classes}
        return json.dumps(value, indent=1) + "\n"


def imagenet32_folder(root: Path) -> Path:
    return root / "imagenet32"


def manifest_path(root: Path) -> Path:
    return imagenet32_folder(root) / "manifest.json"


def class_path(root: Path, class_id: int) -> Path:
    return imagenet32_folder(root) / "classes" / f"{class_id}.npy"


def build_command(root: Path, manifest: Manifest | None = None) -> str:
    """The command that makes or mends the folder, to be shown; the user knows what SOURCE is."""
    options = f" --train {manifest.train} --test {manifest.test}" if manifest else ""
    return f"lop-data build imagenet32 SOURCE --data {shlex.quote(str(root))}{options}"


def read_manifest(root: Path) -> Manifest:
    """The manifest; raises `DataError`, with what to do, if it is missing or damaged."""
    path = manifest_path(root)
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != FORMAT:
            raise DataError(f"{path} has format {value['format']!r}; this version of lop-sweeps reads {FORMAT}")
        files = {entry["id"]: ClassFile(**entry) for entry in value["classes"]}
        source = value["source"]
        manifest = Manifest(source["kind"], source["name"], value["train"], value["test"], source["classes"], files)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing. To build it: {build_command(root)}\n"
            "(lop-data build --help says what SOURCE may be and where to get it)"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}). To mend it: {build_command(root)}") from error
    return manifest


def check_imagenet32(root: Path, classes: int, images: int) -> None:
    """Raise `DataError` unless classes 0 … `classes` − 1 are there with at least `images` images each.

    Quick (it reads the manifest and the size of each file), for every job to call; `lop-data verify imagenet32`
    compares checksums too.
    """
    manifest = read_manifest(root)
    for id in range(classes):
        file = manifest.files.get(id)
        if file is None:
            if len(manifest.files) < manifest.class_count:  # the build was not finished
                advice = f"To finish it: {build_command(root, manifest)}"
            else:
                advice = "Use fewer classes, or build from a source with more (into another folder, with --data)"
            raise DataError(
                f"{manifest_path(root)} lists {len(manifest.files)} classes, and class {id} is not one of them; "
                f"{classes} are needed. {advice}"
            )
        if file.images < images:
            raise DataError(
                f"{class_path(root, id)} has {file.images} images ({manifest.train} training, {manifest.test} test); "
                f"{images} are needed. Use fewer, or build with more into another folder: "
                f"lop-data build imagenet32 SOURCE --train N --test N --data DIR"
            )
        wrong = _size_problem(class_path(root, id), file)
        if wrong:
            raise DataError(f"{class_path(root, id)} {wrong}. To mend it: {build_command(root, manifest)}")


@lru_cache(maxsize=64)
def _check_once(root: Path, classes: int, images: int, modified: int) -> None:
    check_imagenet32(root, classes, images)


def check_unchanged(root: Path, classes: int, images: int) -> None:
    """As `check_imagenet32`, once for each state of the manifest: looking at a thousand files takes 20 ms, and a sweep
    has many points.
    """
    path = manifest_path(root)
    _check_once(root, classes, images, path.stat().st_mtime_ns if path.is_file() else 0)


def class_images(root: Path, class_id: int) -> NDArray[np.uint8]:
    """A class's images, uint8 (n, 3, 32, 32), the training images first; mapped read-only, not read yet.

    Raises `DataError` if the file is missing or holds anything else.
    """
    path = class_path(root, class_id)
    try:
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}. To mend it: {build_command(root)}") from error
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != SHAPE:
        raise DataError(f"{path} does not hold uint8 (n, 3, 32, 32). To mend it: {build_command(root)}")
    return images


def problems(root: Path) -> dict[Path, str]:
    """Everything that is not as the manifest says, with what is wrong with it; checksums included.

    Raises `DataError` if there is no manifest to go by.
    """
    manifest = read_manifest(root)
    found = {}
    for file in manifest.files.values():
        wrong = file_problem(class_path(root, file.id), file)
        if wrong:
            found[class_path(root, file.id)] = wrong
    if len(manifest.files) < manifest.class_count:
        found[manifest_path(root)] = (
            f"lists {len(manifest.files)} of {manifest.class_count} classes: the build was not finished"
        )
    return found


def file_problem(path: Path, file: ClassFile) -> str | None:
    """What is wrong with a class file, in words that follow its name; None if nothing is. Reads all of it."""
    wrong = _size_problem(path, file)
    if wrong:
        return wrong
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None if digest == file.sha256 else f"has the wrong checksum: sha256 is {digest}, should be {file.sha256}"


def _size_problem(path: Path, file: ClassFile) -> str | None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if size == file.size:
        return None
    kind = "is truncated" if size < file.size else "is too long"
    return f"{kind}: has {size} bytes, should have {file.size}"
