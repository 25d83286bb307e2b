"""Files below a folder or inside an archive, read alike and never unpacked to disk.

Names in an archive are only compared with one another, so a name such as `../../x` can lead nowhere. Only regular files
are read, and none that is larger than the caller expects: a small archive may hold gigabytes of zeros.
"""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lop_sweeps.errors import DataError
from lop_sweeps.regular_file import NotRegular, read_bytes

IMAGE_BYTES = 64 << 20  # of one encoded image, or a file of that order; the largest of ImageNet has 16 MB
HEADER_BYTES = 1 << 20  # of what a tar archive says about one file, which is read whole
MAX_NAMES = 20_000_000  # ImageNet has 1.4 million files
# The original archive of ImageNet's training images holds an archive for each class.
CLASS_ARCHIVE = re.compile(r"(?:.*/)?(?P<wnid>n\d{8})\.tar")


class FileTree(Protocol):
    """Names are relative, with slashes. All methods raise `DataError` if a file or the archive cannot be read."""

    @property
    def path(self) -> Path: ...

    def names(self) -> list[str]:
        """Every file, in no particular order."""
        ...

    def read(self, names: Sequence[str], skip: int = 0, limit: int = IMAGE_BYTES) -> Iterator[tuple[str, bytes]]:
        """(name, content) of each of `names` after the first `skip`, in an order that is the same every time:
        the one in which a tar archive has them, elsewhere the one given. limit: bytes that one of them may have.
        """
        ...


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong in reading into a `DataError` that names the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Get it again") from error
    except (OSError, RuntimeError, KeyError) as error:  # a zip may be encrypted, say
        raise DataError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True)
class Folder:
    """Links are followed, but not into a folder that holds this one, nor twice into the same."""

    path: Path

    def names(self) -> list[str]:
        found: list[str] = []
        seen: set[tuple[int, int]] = set()
        waiting, linked = deque([""]), deque[str]()
        while waiting or linked:  # a folder by its own name rather than by a link's
            below = waiting.popleft() if waiting else linked.popleft()
            try:
                status = (self.path / below).stat()
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(self.path / below) as entries:
                    for entry in entries:
                        name = f"{below}{entry.name}"
                        link = entry.is_symlink()
                        if not (os.path.isdir(entry.path) if link else entry.is_dir()):
                            found.append(name)
                        elif not link:
                            waiting.append(f"{name}/")
                        elif not self._lies_in(entry.path):
                            linked.append(f"{name}/")
            except OSError as error:
                if {"train", "val"} & set(Path(below).parts):  # else classes would be missing, without a word
                    raise DataError(f"{self.path / below} cannot be read: {error.strerror or error}") from error
            if len(found) > MAX_NAMES:
                raise DataError(f"{self.path} has more than {MAX_NAMES:,} files; give the folder with the images alone")
        return found

    def _lies_in(self, folder: str) -> bool:
        return Path(folder).resolve() in self.path.resolve().parents

    def read(self, names: Sequence[str], skip: int = 0, limit: int = IMAGE_BYTES) -> Iterator[tuple[str, bytes]]:
        for name in names[skip:]:
            with readable(self.path / name):
                content = read_bytes(self.path / name, limit)
            yield name, content


@dataclass(frozen=True)
class Zip:
    path: Path

    def names(self) -> list[str]:
        with readable(self.path), zipfile.ZipFile(self.path) as archive:
            return [member.filename for member in archive.infolist() if not member.is_dir()]

    def read(self, names: Sequence[str], skip: int = 0, limit: int = IMAGE_BYTES) -> Iterator[tuple[str, bytes]]:
        with readable(self.path), zipfile.ZipFile(self.path) as archive:
            for name in names[skip:]:
                _check_size(name, archive.getinfo(name).file_size, limit)  # no more than that is unpacked
                yield name, archive.read(name)


@dataclass(frozen=True)
class Tar:
    """Also compressed (gzip, bzip2, xz). Read from its beginning each time, as a stream: it cannot be searched.

    ILSVRC2012_img_train.tar, which holds a tar archive for each class, is read as `train/<WordNet id>/...`.
    """

    path: Path

    def names(self) -> list[str]:
        return [name for _, _, name in self._members()]

    def read(self, names: Sequence[str], skip: int = 0, limit: int = IMAGE_BYTES) -> Iterator[tuple[str, bytes]]:
        wanted = set(names)
        if not wanted:
            return
        for archive, member, name in self._members():
            if name not in wanted:  # nor the second of two members with one name
                continue
            wanted.remove(name)
            skip -= 1
            if skip < 0:
                with readable(self.path):
                    _check_size(name, member.size, limit)
                    stream = archive.extractfile(member)
                    content = stream.read() if stream else b""
                    if len(content) != member.size:
                        raise EOFError(f"{name} has {len(content)} of {member.size} bytes")
                yield name, content
            if not wanted:
                return
        raise DataError(f"{self.path} is truncated or has changed: {min(wanted)} is missing. Get it again")

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
        with readable(self.path), tarfile.open(self.path, "r|*", tarinfo=Entry) as archive:
            for member in _regular(archive):
                name = plain(member.name)
                if not (match := CLASS_ARCHIVE.fullmatch(name)):
                    yield archive, member, name
                    continue
                with tarfile.open(fileobj=archive.extractfile(member), mode="r|*", tarinfo=Entry) as inner:
                    for image in _regular(inner):
                        yield inner, image, f"train/{match['wnid']}/{plain(image.name)}"


def _regular(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would remember ImageNet's million members
        if member.isreg():
            yield member


class Entry(tarfile.TarInfo):
    """What a tar archive says of one file; a long name, say, is a file before it, which is read whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Entry:
        entry = super().frombuf(buf, encoding, errors)
        if not entry.isreg() and entry.size > HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {entry.size:,} bytes")
        return entry


def _check_size(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise NotRegular(f"{name} has {size:,} bytes; at most {limit:,} are read")


def plain(name: str) -> str:
    """The name without the `./` that `tar -c .` puts before it."""
    return name.removeprefix("./")


def open_tree(path: Path) -> FileTree:
    """The files of `path`; raises `DataError` if it is neither a folder nor a zip or tar archive."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not path.is_file():  # a pipe would be waited for
        raise DataError(f"{path} is neither a folder nor a regular file")
    with readable(path):
        if zipfile.is_zipfile(path):
            return Zip(path)
        if _is_tar(path):
            return Tar(path)
    raise DataError(f"{path} is neither a folder nor a .zip, .tar or .tar.gz archive; it may be truncated")


def _is_tar(path: Path) -> bool:
    """By its first header; `tarfile.is_tarfile` reads a file of zeros to its end, in case it is padding of xz."""
    try:
        with tarfile.open(path, "r|*", tarinfo=Entry) as archive:
            return archive.next() is not None
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError):
        return False
