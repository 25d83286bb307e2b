"""`lop-data`: fetch, build and verify the data sets. Jobs only check; they never download."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lop_sweeps import __version__
from lop_sweeps.console import closing_quietly
from lop_sweeps.data import imagenet32
from lop_sweeps.data.cifar10 import CIFAR10
from lop_sweeps.data.cifar100 import CIFAR100
from lop_sweeps.data.emnist import EMNIST
from lop_sweeps.data.fashion_mnist import FASHION_MNIST
from lop_sweeps.data.mnist import MNIST
from lop_sweeps.data.published import PublishedSet
from lop_sweeps.data.root import data_root
from lop_sweeps.data.svhn import SVHN
from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.errors import DataError

PUBLISHED: dict[str, PublishedSet] = {
    data.name: data for data in (MNIST, FASHION_MNIST, EMNIST, CIFAR10, CIFAR100, SVHN)
}
IMAGENET32 = "imagenet32"
DIGITS = "digits"  # of scikit-learn, which brings them

FETCH_HELP = """\
Put the files of a data set in their places: what is missing or damaged is unpacked from the authors' archive if that
lies there (in the data set's folder or in DIR, as .gz, .tar.gz or .zip), else downloaded. Checksums are compared first.
"""

BUILD_HELP = """\
Make the class files of Continual ImageNet, <DIR>/imagenet32/classes/<class id>.npy, from images that you have.
Interrupted, the same command goes on where it stopped; run again, it mends what is missing or damaged.

SOURCE is one of
  - the official downsampled ImageNet at 32x32 pixels (1000 classes; what the published results are about): its
    zip archive, or a folder with train_data_batch_1 ... train_data_batch_10, also as .npz files;
  - ImageNet or Tiny ImageNet as image files: a folder with train/<WordNet id>/**/*.JPEG (or .png), or a .tar,
    .tar.gz or .zip archive of it. The images are resized to 32x32. Test images come from val/ where it says its
    classes (val/<WordNet id>/, or Tiny ImageNet's val_annotations.txt), else from the next ones of train/;
  - ILSVRC2012_img_train.tar, as it is: the archive of an archive for each class;
  - the files of a class each that the authors' code reads, or another build: classes/<id>.npy, in a folder or archive.

ImageNet's licence does not let this command download it. With an account (free for research), get it from
https://image-net.org/download-images under "Download downsampled image data (32x32)".
Tiny ImageNet has 500 training and 50 test images a class: --train 500 --test 50.
"""


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lop-data", description="Fetch, build and verify the data sets.")
    parser.add_argument("--version", action="version", version=f"lop-sweeps {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", metavar="DIR", help="where the data sets are (default: $LOP_DATA, else data)")
    sets = [*PUBLISHED, IMAGENET32, DIGITS]

    text = "download what is missing or damaged, or unpack it from archives that you have"
    fetch = commands.add_parser("fetch", parents=[data], help=text, description=FETCH_HELP)
    # imagenet32 and digits are understood, to say what to do instead.
    fetch.add_argument("dataset", choices=sets, metavar=f"{{{','.join(PUBLISHED)}}}")

    text = "compare size, header and, where published, checksum of each file"
    verify = commands.add_parser("verify", parents=[data], help=text, description=text.capitalize() + ".")
    verify.add_argument("dataset", choices=sets, metavar=f"{{{','.join([*PUBLISHED, IMAGENET32])}}}")

    build = commands.add_parser(
        "build",
        parents=[data],
        help="make the files of Continual ImageNet from images that you have",
        description=BUILD_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    build.add_argument("dataset", choices=[IMAGENET32])
    build.add_argument("source", metavar="SOURCE", type=Path, help="folder or archive with the images")
    build.add_argument("--train", metavar="N", type=int, default=600, help="training images a class (default: 600)")
    build.add_argument("--test", metavar="N", type=int, default=100, help="test images a class (default: 100)")
    return parser


@closing_quietly
def main(argv: Sequence[str] | None = None) -> int:
    """The console script; 0 when the data are in order, 1 when not, 130 after Ctrl-C."""
    parser = argument_parser()
    arguments = parser.parse_args(argv)
    load_dot_env()
    root = data_root(arguments.data)
    try:
        if arguments.dataset == DIGITS:
            print("The digits come with scikit-learn; there is nothing to do")
            return 0
        if arguments.command == "build":
            if arguments.train < 1 or arguments.test < 0:
                parser.error("--train must be at least 1, --test at least 0")
            return build(root, arguments.source.expanduser(), arguments.train, arguments.test)
        if arguments.command == "fetch":
            return fetch(root, arguments.dataset)
        return verify(root, arguments.dataset)
    except DataError as error:
        print(f"lop-data: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = arguments.command == "build"
        print(f"lop-data: interrupted{'; the same command goes on from here' if goes_on else ''}", file=sys.stderr)
        return 130


def fetch(root: Path, name: str) -> int:
    if name == IMAGENET32:
        raise DataError(f"imagenet32 cannot be downloaded by this command. Instead: {imagenet32.build_command(root)}")
    data = PUBLISHED[name]
    fetched = data.fetch(root, lambda line: print(f"lop-data: {line}", file=sys.stderr))
    print(f"{data.title} {'fetched into' if fetched else 'is already complete in'} {data.path(root)}")
    return 0


def verify(root: Path, name: str) -> int:
    if name == IMAGENET32:
        problems = imagenet32.problems(root)
        manifest = imagenet32.read_manifest(root)
        title, folder = "ImageNet 32x32", imagenet32.imagenet32_folder(root)
        mend = imagenet32.build_command(root, manifest)
        right = (
            f"{len(manifest.files)} classes of {manifest.train} training and {manifest.test} test images, "
            "sizes and checksums are right"
        )
    else:
        data = PUBLISHED[name]
        problems = data.problems(root)
        title, folder, mend = data.title, data.path(root), data.fetch_command(root)
        right = f"{data.checked} are right"
    for path, wrong in problems.items():
        print(f"lop-data: {path} {wrong}", file=sys.stderr)
    if problems:
        print(f"To mend it: {mend}", file=sys.stderr)
        return 1
    print(f"{title} is complete in {folder}: {right}")
    return 0


def build(root: Path, source: Path, train: int, test: int) -> int:
    from lop_sweeps.data.build_imagenet32 import build_imagenet32  # Pillow: other commands and jobs do without

    folder = imagenet32.imagenet32_folder(root)
    shown = 0.0

    def report(line: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 2:  # seconds; a chunk of small images takes less
            print(line, flush=True)
            shown = time.monotonic()

    print(f"Reading {source}", flush=True)  # the names in a large archive take a while
    built = build_imagenet32(root, source, train, test, report)
    print(f"ImageNet 32x32 {'built in' if built else 'is already complete in'} {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
