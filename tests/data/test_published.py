"""Every data set that can be fetched: what it pins is what torchvision pins; an archive that lies there is used."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torchvision.datasets as official

from lop_sweeps.data import main
from lop_sweeps.data.archive import Archive
from lop_sweeps.data.cifar10 import CIFAR10
from lop_sweeps.data.cifar100 import CIFAR100
from lop_sweeps.data.command import PUBLISHED
from lop_sweeps.data.emnist import EMNIST
from lop_sweeps.data.fashion_mnist import FASHION_MNIST
from lop_sweeps.data.idx import idx_header
from lop_sweeps.data.mnist import MNIST
from lop_sweeps.data.published import PublishedFile, PublishedSet
from lop_sweeps.data.svhn import SVHN
from lop_sweeps.errors import DataError
from tests.shared import SHARED


def test_every_file_comes_from_one_archive() -> None:
    for data in PUBLISHED.values():
        held = [name for archive in data.archives for name in archive.files]
        assert sorted(held) == sorted(file.name for file in data.files)


@pytest.mark.parametrize("data", [MNIST, FASHION_MNIST], ids=["mnist", "fashion_mnist"])
def test_what_torchvision_pins_of_idx_files(data: PublishedSet) -> None:
    theirs = getattr(official, data.title)
    assert [(archive.name, archive.md5) for archive in data.archives] == theirs.resources
    for archive in data.archives:
        assert list(archive.addresses) == [f"{mirror}{archive.name}" for mirror in theirs.mirrors]
    assert data.folder == f"{theirs.__name__}/raw"


def test_what_torchvision_pins_of_emnist() -> None:
    (archive,) = EMNIST.archives
    assert (archive.addresses, archive.md5) == ((official.EMNIST.url,), official.EMNIST.md5)
    assert [file.size for file in EMNIST.files] == [16 + 112_800 * 784, 8 + 112_800, 16 + 18_800 * 784, 8 + 18_800]


@pytest.mark.parametrize("data", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_what_torchvision_pins_of_pickled_batches(data: PublishedSet) -> None:
    theirs = getattr(official, data.title)
    (archive,) = data.archives
    assert (archive.name, archive.addresses, archive.md5) == (theirs.filename, (theirs.url,), theirs.tgz_md5)
    pinned = {name: md5 for name, md5 in theirs.train_list + theirs.test_list}
    assert {file.name: file.checksum for file in data.files} == {**pinned, theirs.meta["filename"]: theirs.meta["md5"]}
    assert data.folder == theirs.base_folder


def test_what_torchvision_pins_of_svhn() -> None:
    pinned = [official.SVHN.split_list[split] for split in ("train", "test")]
    assert [[*each.addresses, each.name, each.md5] for each in SVHN.archives] == pinned
    assert [file.checksum for file in SVHN.files] == [md5 for _, _, md5 in pinned]


@pytest.mark.skipif(not (SHARED / "data" / "FashionMNIST").is_dir(), reason="real Fashion-MNIST is not here")
def test_real_fashion_mnist_verifies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "fashion_mnist", "--data", str(SHARED / "data")]) == 0
    assert main(["fetch", "fashion_mnist", "--data", str(SHARED / "data")]) == 0
    assert "sizes, headers and checksums are right" in capsys.readouterr().out


# Archives that lie there. Small ones stand for the authors'; the network is not there at all.

CONTENTS = {"a": b"the first file", "b": b"the second"}


def tar_gz(contents: dict[str, bytes], inside: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in {"readme.html": b"more", **contents}.items():
            member = tarfile.TarInfo(f"{inside}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zip_of_gz(contents: dict[str, bytes], inside: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in {"other-split": b"large", **contents}.items():
            archive.writestr(f"{inside}{name}.gz", gzip.compress(content))
    return stream.getvalue()


def made_up(like: PublishedSet, archives: dict[str, tuple[bytes, dict[str, bytes]]], checksums: bool) -> PublishedSet:
    """Such a set of other archives: for each its content, and the files that are in it."""
    inside = like.archives[0].inside
    files: list[PublishedFile] = []
    for _, contents in archives.values():
        for name, content in contents.items():
            checksum = hashlib.md5(content).hexdigest() if checksums else None
            files.append(PublishedFile(name, len(content), "md5", checksum, content[:3]))
    held = [
        Archive(name, hashlib.md5(packed).hexdigest(), ("http://nowhere/",), tuple(contents), inside)
        for name, (packed, contents) in archives.items()
    ]
    return replace(like, files=tuple(files), archives=tuple(held))


LAYOUTS: dict[str, tuple[PublishedSet, dict[str, tuple[bytes, dict[str, bytes]]]]] = {
    ".gz": (FASHION_MNIST, {f"{name}.gz": (gzip.compress(c), {name: c}) for name, c in CONTENTS.items()}),
    ".tar.gz": (CIFAR10, {"cifar.tar.gz": (tar_gz(CONTENTS, "cifar-10-batches-py/"), CONTENTS)}),
    ".zip": (EMNIST, {"gzip.zip": (zip_of_gz(CONTENTS, "gzip/"), CONTENTS)}),
}
Lying = Callable[[str, str], tuple[PublishedSet, dict[Path, bytes]]]


@pytest.fixture
def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lying:
    """Puts the archives of a layout into a place; there is no network."""

    def refuse(url: str, *_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)

    def put(layout: str, place: str) -> tuple[PublishedSet, dict[Path, bytes]]:
        like, archives = LAYOUTS[layout]
        data = made_up(like, archives, checksums=layout != ".zip")
        monkeypatch.setitem(PUBLISHED, data.name, data)
        folder = {"files": data.path(tmp_path), "set": tmp_path / Path(data.folder).parts[0], "root": tmp_path}[place]
        folder.mkdir(parents=True, exist_ok=True)
        placed = {folder / name: packed for name, (packed, _) in archives.items()}
        for path, packed in placed.items():
            path.write_bytes(packed)
        return data, placed

    return put


@pytest.mark.parametrize("place", ["files", "set", "root"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_archive_that_lies_there_is_unpacked(
    lying: Lying, tmp_path: Path, layout: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, placed = lying(layout, place)
    assert main(["fetch", data.name, "--data", str(tmp_path)]) == 0
    assert {path: path.read_bytes() for path in placed} == placed  # still there, and nothing else
    files = {path.name for path in data.path(tmp_path).iterdir()} - {path.name for path in placed} - {".lock"}
    assert files == set(CONTENTS)
    assert {name: (data.path(tmp_path) / name).read_bytes() for name in files} == CONTENTS
    told = capsys.readouterr().err
    assert all(f"unpacking {path}" in told for path in placed)
    assert main(["verify", data.name, "--data", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert ("no checksum of the files is published" in told) == (layout == ".zip")
    assert ("sizes, headers and checksums are right" in told) == (layout != ".zip")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_archive_is_named_and_not_used(
    lying: Lying, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, placed = lying(layout, "set")
    path, content = next(iter(placed.items()))
    path.write_bytes(content[:-1])
    assert main(["fetch", data.name, "--data", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert f"{path} is not used: it has the wrong checksum: md5 is {hashlib.md5(content[:-1]).hexdigest()}" in told
    assert "no network" in told
    assert f"copy {path.name} (md5 {hashlib.md5(content).hexdigest()}) into the folder {path.parent}" in told
    assert not any((data.path(tmp_path) / name).exists() for name in CONTENTS)


def test_only_what_is_damaged_is_unpacked(lying: Lying, tmp_path: Path) -> None:
    data, _ = lying(".tar.gz", "root")
    main(["fetch", data.name, "--data", str(tmp_path)])
    good, damaged = (data.path(tmp_path) / name for name in CONTENTS)
    inode = good.stat().st_ino
    damaged.write_bytes(b"something else")
    assert main(["fetch", data.name, "--data", str(tmp_path)]) == 0
    assert (damaged.read_bytes(), good.stat().st_ino) == (CONTENTS["b"], inode)


@pytest.mark.parametrize("pack", [tar_gz, zip_of_gz])
def test_an_archive_without_a_file_is_named(tmp_path: Path, pack: Callable[[dict[str, bytes], str], bytes]) -> None:
    name = "x.zip" if pack is zip_of_gz else "x.tar.gz"
    (tmp_path / name).write_bytes(pack({"a": b"1"}, "top/"))
    archive = Archive(name, "", (), ("a", "b"), "top/")
    with pytest.raises(DataError, match=rf"{name} has no top/b"):
        archive.unpack(tmp_path / name, ["a", "b"], tmp_path)


def test_a_file_that_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision puts SVHN's files where it is told, often into the folder of all data sets."""
    content = b"MATLAB 5.0 MAT-file, made up"
    data = made_up(SVHN, {"train.mat": (content, {"train.mat": content})}, checksums=True)
    monkeypatch.setitem(PUBLISHED, "svhn", data)
    calls = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        calls.append(url)
        (Path(root) / filename).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    (tmp_path / "train.mat").write_bytes(content)
    assert main(["fetch", "svhn", "--data", str(tmp_path)]) == 0
    assert (calls, (tmp_path / "SVHN" / "train.mat").read_bytes()) == ([], content)
    (tmp_path / "train.mat").unlink()
    (tmp_path / "SVHN" / "train.mat").write_bytes(content[:-1])  # the damaged one is no source for itself
    assert main(["fetch", "svhn", "--data", str(tmp_path)]) == 0
    assert (calls, (tmp_path / "SVHN" / "train.mat").read_bytes()) == (["http://nowhere/"], content)


def test_a_full_disk_is_not_taken_for_a_damaged_archive(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = lying(".gz", "files")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lop_sweeps.data.archive.shutil.copyfileobj", full)
    assert main(["fetch", data.name, "--data", str(tmp_path)]) == 1
    assert f"cannot write FashionMNIST to {tmp_path}: [Errno 28] No space left" in capsys.readouterr().err
    assert not list(tmp_path.rglob(".fetch*"))


def test_headers_say_what_the_files_are() -> None:
    assert EMNIST.files[0].header == idx_header((112_800, 28, 28))
    assert all(file.header.startswith(b"MATLAB 5.0") for file in SVHN.files)
