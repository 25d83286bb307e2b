"""Data sets that torchvision can download and whose files have published checksums.

A thousand jobs that find a file missing must not start a thousand downloads, so the network is used by one
command alone, under a lock. torchvision takes a file that exists for complete and unpacks in place, so that a
killed download stays broken for good: here the files are unpacked beside their place, verified, and only then
moved in.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from lop_sweeps.errors import DataError
from lop_sweeps.turns import own, turn


@dataclass(frozen=True)
class PublishedFile:
    """One file as its authors published it."""

    name: str
    size: int  # bytes
    algorithm: str  # of the checksum: sha256, or what torchvision pins, md5
    checksum: str  # of the whole file
    header: bytes = b""  # the file's first bytes, where they say what it holds
    exact: bool = True  # False: `size` is only a lower bound, from what the file must hold

    def problem(self, folder: Path, *, checksum: bool) -> str | None:
        """What is wrong with the file in `folder`, in words that follow its name; None if nothing is."""
        path = folder / self.name
        try:
            if not path.is_file():
                return "is missing"
            size = path.stat().st_size
            if size < self.size or (self.exact and size > self.size):
                kind = "is truncated" if size < self.size else "is too long"
                return f"{kind}: has {size} bytes, should have {'' if self.exact else 'at least '}{self.size}"
            with path.open("rb") as stream:
                header = stream.read(len(self.header))
                if header != self.header:
                    return f"has the wrong header: {header.hex()}, should be {self.header.hex()}"
                if checksum:
                    stream.seek(0)
                    found = hashlib.file_digest(stream, self.algorithm).hexdigest()
                    if found != self.checksum:
                        return f"has the wrong checksum: {self.algorithm} is {found}, should be {self.checksum}"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None


@dataclass(frozen=True)
class PublishedSet:
    """A data set in torchvision's layout, which torchvision can download."""

    name: str  # on the command line
    title: str  # in messages; also the class in torchvision.datasets
    folder: str  # of the files, below the root
    files: tuple[PublishedFile, ...]

    def path(self, root: Path) -> Path:
        return root / self.folder

    def check(self, root: Path) -> None:
        """Raise `DataError` unless the files are there and complete.

        Quick (it looks at sizes and a few bytes), for every job to call; `lop-data verify` compares checksums too.
        """
        for file in self.files:
            wrong = file.problem(self.path(root), checksum=False)
            if wrong:
                raise DataError(f"{self.path(root) / file.name} {wrong}. To mend it: {self.fetch_command(root)}")

    def problems(self, root: Path) -> dict[Path, str]:
        """Every file that is not exactly as published, with what is wrong with it; checksums included."""
        found = {}
        for file in self.files:
            wrong = file.problem(self.path(root), checksum=True)
            if wrong:
                found[self.path(root) / file.name] = wrong
        return found

    def fetch(self, root: Path) -> bool:
        """Download what is missing or damaged; True if there was anything to do. Processes take turns.

        Raises `DataError`; the files that were there are then as before.
        """
        if not self.problems(root):  # before the lock: complete data may lie on a read-only file system
            return False
        home = root / Path(self.folder).parts[0]
        staging = own(home / ".fetch")
        try:
            home.mkdir(parents=True, exist_ok=True)
            with turn(home / ".lock"):
                damaged = self.problems(root)
                if not damaged:  # another process was faster
                    return False
                shutil.rmtree(staging, ignore_errors=True)  # what a killed fetch left
                try:
                    self._download(staging)
                    self.path(root).mkdir(exist_ok=True)
                    for path in damaged:
                        (self.path(staging) / path.name).replace(path)
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise DataError(f"cannot write {self.title} to {root}: {error}") from error
        return True

    def _download(self, staging: Path) -> None:
        """Put all files, verified, under the empty folder `staging`."""
        import torchvision.datasets  # seconds to import: jobs and `verify` do without

        try:
            getattr(torchvision.datasets, self.title)(str(staging), download=True)
        except (RuntimeError, OSError, HTTPException) as error:
            raise DataError(
                f"{self.title} could not be downloaded: {str(error).strip()}\n"
                f"Without a network, copy the folder {self.folder} from a machine "
                f"where `lop-data fetch {self.name}` works."
            ) from error
        for path, wrong in self.problems(staging).items():
            raise DataError(f"{self.title} was downloaded, but {path.name} {wrong}. Nothing was changed; try again")

    def fetch_command(self, root: Path) -> str:
        return f"lop-data fetch {self.name} --data {shlex.quote(str(root))}"
