"""`lop-data`: fetch and verify the data sets on disk. Jobs only check; they never download.

A thousand jobs that find a file missing must not start a thousand downloads, so the network is used by one
command alone, under a lock. torchvision takes a file that exists for complete and unpacks in place, so that a
killed download stays broken for good: here the files are unpacked beside their place, verified, and only then
moved in.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from lop_sweeps.errors import DataError


@dataclass(frozen=True)
class IdxFile:
    """One array of unsigned bytes in the IDX format: two zeros, the type code 8, the number of dimensions,
    each dimension as a big-endian 32-bit integer, then the values.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str  # of the whole decompressed file

    @property
    def header(self) -> bytes:
        return bytes([0, 0, 8, len(self.shape)]) + b"".join(n.to_bytes(4, "big") for n in self.shape)

    @property
    def size(self) -> int:
        return len(self.header) + math.prod(self.shape)


# Checksums of the files inside the archives whose MD5 sums torchvision pins.
MNIST_FILES: tuple[IdxFile, ...] = (
    IdxFile(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    IdxFile(
        "train-labels-idx1-ubyte",
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


def data_root(configured: str | None) -> Path:
    """The folder of the data sets: what is configured, else the environment's LOP_DATA, else `data`."""
    return Path(configured or os.environ.get("LOP_DATA") or "data").expanduser()


def mnist_folder(root: Path) -> Path:
    """torchvision's place for the IDX files: `torchvision.datasets.MNIST(root)` reads the same ones."""
    return root / "MNIST" / "raw"


def check_mnist(root: Path) -> None:
    """Raise `DataError` unless the four IDX files are there, complete and of the right kind.

    Quick (it reads 16 bytes a file), for every job to call; `lop-data verify mnist` compares checksums too.
    """
    for file in MNIST_FILES:
        path = mnist_folder(root) / file.name
        wrong = problem(path, file, checksum=False)
        if wrong:
            raise DataError(f"{path} {wrong}. To mend it: {fetch_command(root)}")


def problem(path: Path, file: IdxFile, *, checksum: bool) -> str | None:
    """What is wrong with the file at `path`, in words that follow its name; None if nothing is."""
    try:
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != file.size:
            kind = "is truncated" if size < file.size else "is too long"
            return f"{kind}: has {size} bytes, should have {file.size}"
        with path.open("rb") as stream:
            header = stream.read(len(file.header))
            if header != file.header:
                return f"has the wrong IDX header: {header.hex()}, should be {file.header.hex()}"
            if checksum:
                stream.seek(0)
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
                if digest != file.sha256:
                    return f"has the wrong checksum: sha256 is {digest}, should be {file.sha256}"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def mnist_problems(root: Path) -> dict[Path, str]:
    """Every file that is not exactly as published, with what is wrong with it; checksums included."""
    found = {}
    for file in MNIST_FILES:
        path = mnist_folder(root) / file.name
        wrong = problem(path, file, checksum=True)
        if wrong:
            found[path] = wrong
    return found


def fetch_mnist(root: Path) -> bool:
    """Download what is missing or damaged; True if there was anything to do. Processes take turns."""
    if not mnist_problems(root):  # before the lock: complete data may lie on a read-only file system
        return False
    staging = root / "MNIST" / ".fetch"
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "MNIST" / ".lock"):
            damaged = mnist_problems(root)
            if not damaged:  # another process was faster
                return False
            shutil.rmtree(staging, ignore_errors=True)  # what a killed fetch left
            try:
                download_mnist(staging)
                mnist_folder(root).mkdir(exist_ok=True)
                for path in damaged:
                    (mnist_folder(staging) / path.name).replace(path)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write MNIST to {root}: {error}") from error
    return True


def download_mnist(staging: Path) -> None:
    """Put all four files, verified, under the empty folder `staging`."""
    from torchvision.datasets import MNIST  # seconds to import: jobs and `verify` do without

    try:
        MNIST(str(staging), download=True)
    except (RuntimeError, OSError, HTTPException) as error:
        raise DataError(
            f"MNIST could not be downloaded: {str(error).strip()}\n"
            "Without a network, copy the folder MNIST/raw from a machine where `lop-data fetch mnist` works."
        ) from error
    for path, wrong in mnist_problems(staging).items():
        raise DataError(f"MNIST was downloaded, but {path.name} {wrong}. Nothing was changed; try again")


def fetch_command(root: Path) -> str:
    return f"lop-data fetch mnist --data {shlex.quote(str(root))}"


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lop-data", description="Fetch and verify the data sets.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command, text in (
        ("fetch", "download what is missing or damaged"),
        ("verify", "compare size, header and checksum of each file"),
    ):
        sub = commands.add_parser(command, help=text, description=text.capitalize() + ".")
        sub.add_argument("dataset", choices=["mnist"])
        sub.add_argument("--data", metavar="DIR", help="where the data sets are (default: $LOP_DATA, else data)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; 0 when the data are in order, 1 when not."""
    arguments = argument_parser().parse_args(argv)
    root = data_root(arguments.data)
    if arguments.command == "fetch":
        try:
            fetched = fetch_mnist(root)
        except DataError as error:
            print(f"lop-data: {error}", file=sys.stderr)
            return 1
        print(f"MNIST {'fetched into' if fetched else 'is already complete in'} {mnist_folder(root)}")
        return 0
    problems = mnist_problems(root)
    for path, wrong in problems.items():
        print(f"lop-data: {path} {wrong}", file=sys.stderr)
    if problems:
        print(f"To mend it: {fetch_command(root)}", file=sys.stderr)
        return 1
    print(f"MNIST is complete in {mnist_folder(root)}: sizes, headers and checksums are right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
