"""Data sets in torchvision's layout, from archives with published checksums.

A thousand jobs that find a file missing must not start a thousand downloads, so the network is used by one
command alone, under a lock, and only for what no archive at hand holds. torchvision takes a file that exists for
complete and unpacks in place, so that a killed download stays broken for good: here the files are unpacked beside
their place, verified, and only then moved in.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from lop_sweeps.data.archive import Archive
from lop_sweeps.errors import DataError
from lop_sweeps.turns import own, turn


@dataclass(frozen=True)
class PublishedFile:
    """One file as its authors published it."""

    name: str
    size: int  # bytes
    algorithm: str  # of the checksum: sha256, or what torchvision pins, md5
    checksum: str | None  # of the whole file; None where only that of the archive is published
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
                if checksum and self.checksum:
                    stream.seek(0)
                    found = hashlib.file_digest(stream, self.algorithm).hexdigest()
                    if found != self.checksum:
                        return f"has the wrong checksum: {self.algorithm} is {found}, should be {self.checksum}"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        return None


@dataclass(frozen=True)
class PublishedSet:
    """A data set in torchvision's layout."""

    name: str  # on the command line
    title: str  # in messages; also the class in torchvision.datasets
    folder: str  # of the files, below the root
    files: tuple[PublishedFile, ...]
    archives: tuple[Archive, ...]  # which hold all of the files

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

    @property
    def checked(self) -> str:
        """What `problems` looks at, in words."""
        if all(file.checksum for file in self.files):
            return "sizes, headers and checksums"
        return "sizes and headers (no checksum of the files is published; `fetch` compares that of their archive)"

    def problems(self, root: Path) -> dict[Path, str]:
        """Every file that is not as published, with what is wrong with it; checksums included, where there are some."""
        found = {}
        for file in self.files:
            wrong = file.problem(self.path(root), checksum=True)
            if wrong:
                found[self.path(root) / file.name] = wrong
        return found

    def fetch(self, root: Path, report: Callable[[str], None] = lambda line: None) -> bool:
        """Unpack or download what is missing or damaged; True if there was anything to do. Processes take turns.

        report: told of archives that lie there. Raises `DataError`; the files that were there are then as before.
        """
        if not self.problems(root):  # before the lock: complete data may lie on a read-only file system
            return False
        staging = own(self._home(root) / ".fetch")
        try:
            self._home(root).mkdir(parents=True, exist_ok=True)
            with turn(self._home(root) / ".lock"):
                damaged = self.problems(root)
                if not damaged:  # another process was faster
                    return False
                shutil.rmtree(staging, ignore_errors=True)  # what a killed fetch left
                try:
                    self._stage(root, staging, damaged.keys(), report)
                    self.path(root).mkdir(exist_ok=True)
                    for path in damaged:
                        (self.path(staging) / path.name).replace(path)
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
        except OSError as error:
            raise DataError(f"cannot write {self.title} to {root}: {error}") from error
        return True

    def _home(self, root: Path) -> Path:
        return root / Path(self.folder).parts[0]

    def _stage(self, root: Path, staging: Path, damaged: Collection[Path], report: Callable[[str], None]) -> None:
        """Put what belongs in the place of the files `damaged`, verified, under the empty folder `staging`."""
        names = {path.name for path in damaged}
        folders = (self.path(root), self._home(root), root)  # torchvision itself uses the first or the last
        self.path(staging).mkdir(parents=True)
        for archive in self.archives:
            if not (wanted := names & set(archive.files)):
                continue
            # One that is no archive is not where it is damaged.
            source = archive.found([path for path in folders if path / archive.name not in damaged], report)
            if source:
                report(f"unpacking {source}")
            else:
                source = self._downloaded(archive, root, staging)
            archive.unpack(source, wanted, self.path(staging))
        for file in self.files:
            if file.name in names and (wrong := file.problem(self.path(staging), checksum=True)):
                raise DataError(f"{self.title} was fetched, but {file.name} {wrong}. Nothing was changed; try again")

    def _downloaded(self, archive: Archive, root: Path, staging: Path) -> Path:
        try:
            return archive.download(staging)
        except DataError as error:
            raise DataError(
                f"{self.title} could not be downloaded. {error}\n"
                f"Without a network, copy {archive.name} (md5 {archive.md5}) into the folder {self._home(root)} and "
                f"run this command again, or copy the folder {self.folder} from a machine where it works."
            ) from error

    def fetch_command(self, root: Path) -> str:
        return f"lop-data fetch {self.name} --data {shlex.quote(str(root))}"

    def not_as_published(self, root: Path, error: Exception) -> DataError:
        """What to raise where a job, having checked sizes, finds other content."""
        return DataError(
            f"{self.path(root)} holds files that are not as published ({error}). "
            f"lop-data verify {self.name} says which. To mend it: {self.fetch_command(root)}"
        )
