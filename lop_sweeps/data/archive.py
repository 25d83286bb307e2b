"""What is downloaded: a file of a data set, compressed, or many in one archive, with the MD5 sum that torchvision pins.

One that lies where the data set belongs is used instead of the network, once its sum is right: so a machine without a
network needs no more than a copy of what the authors published.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from lop_sweeps.errors import DataError

BLOCK = 1 << 20  # bytes that are copied at a time: a file inside may be larger than the memory that is left


@dataclass(frozen=True)
class Archive:
    """One download. Its name says what it is: `.tar.gz`, `.zip` (of files each compressed by gzip), `.gz` (of one
    file), or anything else for a file as it is.
    """

    name: str
    md5: str  # of the whole of it
    addresses: tuple[str, ...]  # where it can be had, the best first
    files: tuple[str, ...]  # those of the data set that are in it
    inside: str = ""  # what stands before their names in the archive

    def problem(self, path: Path) -> str | None:
        """What is wrong with the archive at `path`, in words that follow its name; None if nothing is."""
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "md5").hexdigest()
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None if found == self.md5 else f"has the wrong checksum: md5 is {found}, should be {self.md5}"

    def found(self, folders: Iterable[Path], report: Callable[[str], None]) -> Path | None:
        """The archive in the first of `folders` that has it whole; what is wrong with others is reported."""
        for path in dict.fromkeys(folder / self.name for folder in folders):
            if not path.is_file():
                continue
            wrong = self.problem(path)
            if wrong is None:
                return path
            report(f"{path} is not used: it {wrong}")
        return None

    def download(self, folder: Path) -> Path:
        """Where it is, whole; raises `DataError` with what each address said."""
        from torchvision.datasets.utils import download_url  # seconds to import: jobs and `verify` do without

        failures = []
        for address in self.addresses:
            try:
                download_url(address, str(folder), self.name, self.md5)
                return folder / self.name
            except (RuntimeError, OSError, HTTPException) as error:
                failures.append(f"{address}: {str(error).strip()}")
        raise DataError("\n".join(failures))

    def unpack(self, path: Path, names: Collection[str], folder: Path) -> None:
        """Copy the files `names` out of the archive at `path`, whose checksum was right, into `folder`.

        Nothing else in it is unpacked, and no file is held in memory. Raises `DataError` where a file is not in it,
        `OSError` where it cannot be written.
        """
        if self.name.endswith(".tar.gz"):
            self._unpack_tar(path, names, folder)
        elif self.name.endswith(".zip"):
            self._unpack_zip(path, names, folder)
        else:
            opened = gzip.open if self.name.endswith(".gz") else open
            with opened(path, "rb") as stream:
                _copy(stream, folder / self.files[0])

    def _unpack_tar(self, path: Path, names: Collection[str], folder: Path) -> None:
        wanted = {f"{self.inside}{name}": name for name in names}
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                if member.name in wanted and (stream := archive.extractfile(member)):
                    with stream:
                        _copy(stream, folder / wanted.pop(member.name))
        for member_name in wanted:
            raise DataError(f"{path} has no {member_name}")

    def _unpack_zip(self, path: Path, names: Collection[str], folder: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            there = set(archive.namelist())
            for name in names:
                member = f"{self.inside}{name}.gz"
                if member not in there:
                    raise DataError(f"{path} has no {member}")
                with archive.open(member) as packed, gzip.open(packed) as stream:
                    _copy(stream, folder / name)


def compressed(name: str, md5: str, mirrors: Iterable[str]) -> Archive:
    """One file, compressed by gzip; `mirrors` are addresses up to the name."""
    return Archive(f"{name}.gz", md5, tuple(f"{mirror}{name}.gz" for mirror in mirrors), (name,))


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def _copy(source: Readable, path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target, BLOCK)
