"""Files below a folder or inside an archive, read alike and never unpacked to disk.

Names in an archive are only compared with one another, so a name such as `../../x` can lead nowhere.
"""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lop_sweeps.errors import DataError


class FileTree(Protocol):
    """Names are relative, with slashes. All methods raise `DataError` if a file or the archive cannot be read."""

    @property
    def path(self) -> Path: ...

    def names(self) -> list[str]:
        """Every regular file, in no particular order."""
        ...

    def read(self, names: Sequence[str], skip: int = 0) -> Iterator[tuple[str, bytes]]:
        """(name, content) of each of `names` after the first `skip`, in an order that is the same every time:
        the one in which a tar archive has them, elsewhere the one given.
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
    path: Path

    def names(self) -> list[str]:
        found = []
        for folder, _, files in os.walk(self.path, followlinks=True):
            below = Path(folder).relative_to(self.path)
            found += [(below / file).as_posix() for file in files]
        return found

    def read(self, names: Sequence[str], skip: int = 0) -> Iterator[tuple[str, bytes]]:
        for name in names[skip:]:
            with readable(self.path / name):
                content = (self.path / name).read_bytes()
            yield name, content


@dataclass(frozen=True)
class Zip:
    path: Path

    def names(self) -> list[str]:
        with readable(self.path), zipfile.ZipFile(self.path) as archive:
            return [member.filename for member in archive.infolist() if not member.is_dir()]

    def read(self, names: Sequence[str], skip: int = 0) -> Iterator[tuple[str, bytes]]:
        with readable(self.path), zipfile.ZipFile(self.path) as archive:
            for name in names[skip:]:
                yield name, archive.read(name)


@dataclass(frozen=True)
class Tar:
    """Also compressed (gzip, bzip2, xz). Read from its beginning each time, as a stream: it cannot be searched."""

    path: Path

    def names(self) -> list[str]:
        return [plain(member.name) for _, member in self._members()]

    def read(self, names: Sequence[str], skip: int = 0) -> Iterator[tuple[str, bytes]]:
        wanted = set(names)
        if not wanted:
            return
        for archive, member in self._members():
            name = plain(member.name)
            if name not in wanted:  # nor the second of two members with one name
                continue
            wanted.remove(name)
            skip -= 1
            if skip < 0:
                with readable(self.path):
                    stream = archive.extractfile(member)
                    content = stream.read() if stream else b""
                    if len(content) != member.size:
                        raise EOFError(f"{name} has {len(content)} of {member.size} bytes")
                yield name, content
            if not wanted:
                return
        raise DataError(f"{self.path} is truncated or has changed: {min(wanted)} is missing. Get it again")

    def _members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        with readable(self.path), tarfile.open(self.path, "r|*") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would remember ImageNet's million members
                if member.isreg():
                    yield archive, member


def plain(name: str) -> str:
    """The name without the `./` that `tar -c .` puts before it."""
    return name.removeprefix("./")


def open_tree(path: Path) -> FileTree:
    """The files of `path`; raises `DataError` if it is neither a folder nor a zip or tar archive."""
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    with readable(path):
        if zipfile.is_zipfile(path):
            return Zip(path)
        if tarfile.is_tarfile(path):
            return Tar(path)
    raise DataError(f"{path} is neither a folder nor a .zip, .tar or .tar.gz archive; it may be truncated")
