"""MNIST, and what is common to data sets with published checksums: each way a file can be wrong is named, with
what to do; a fetch changes nothing unless all is right.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from http.client import IncompleteRead
from pathlib import Path

import pytest

from lop_sweeps.data import MNIST_FILES, check_mnist, main, mnist_folder
from lop_sweeps.data.archive import compressed
from lop_sweeps.data.command import PUBLISHED
from lop_sweeps.data.idx import idx_file, idx_header
from lop_sweeps.data.mnist import MNIST
from lop_sweeps.errors import DataError
from tests.shared import SHARED, needs_mnist

TRAIN_IMAGES = MNIST_FILES[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four files of the right size and header; the rest is a hole, so they take no room on disk."""
    mnist_folder(tmp_path).mkdir(parents=True)
    for file in MNIST_FILES:
        with (mnist_folder(tmp_path) / file.name).open("wb") as stream:
            stream.write(file.header)
            stream.truncate(file.size)
    return tmp_path


def rewrite_header(path: Path, header: bytes) -> None:
    with path.open("r+b") as stream:
        stream.write(header)


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as stream:
        stream.truncate(size)


def test_pinned_sizes_are_those_published() -> None:
    assert [file.size for file in MNIST_FILES] == [47040016, 60008, 7840016, 10008]


def test_quick_check_accepts_complete_files(root: Path) -> None:
    check_mnist(root)


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("missing", lambda path: path.unlink(), "is missing"),
    (
        "truncated",
        lambda path: truncate(path, 1000),
        "is truncated: has 1000 bytes, should have 47040016",
    ),
    (
        "too long",
        lambda path: truncate(path, 47040017),
        "is too long: has 47040017 bytes, should have 47040016",
    ),
    ("magic", lambda path: rewrite_header(path, b"\0\0\x09\x03"), "has the wrong header"),
    (
        "dimensions",
        lambda path: rewrite_header(path, idx_header((60000, 56, 14))),
        "has the wrong header",
    ),
]


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_damage_is_named_with_what_to_do(
    root: Path, damage: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mnist_folder(root) / TRAIN_IMAGES.name
    damage(path)
    with pytest.raises(DataError) as caught:
        check_mnist(root)
    assert main(["verify", "mnist", "--data", str(root)]) == 1
    for text in (str(caught.value), capsys.readouterr().err):
        assert str(path) in text
        assert message in text
        assert f"lop-data fetch mnist --data {root}" in text


def test_only_verify_sees_wrong_content(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_mnist(root)
    assert main(["verify", "mnist", "--data", str(root)]) == 1
    assert capsys.readouterr().err.count("has the wrong checksum") == len(MNIST_FILES)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is missing\. .*lop-data fetch mnist"):
        check_mnist(tmp_path)


@needs_mnist
def test_real_files_verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    check_mnist(SHARED / "data")
    monkeypatch.setenv("LOP_DATA", str(SHARED / "data"))
    assert main(["verify", "mnist"]) == 0
    # Complete data may be read-only: fetch takes no lock and needs no network.
    assert main(["fetch", "mnist"]) == 0
    assert "already complete" in capsys.readouterr().out


class Downloads:
    """Stands for the network: two small files, compressed, with checksums of their own."""

    def __init__(self) -> None:
        self.downloaded: list[str] = []
        self.error: Exception | None = None
        self.contents, self.archives = {}, {}
        files, archives = [], []
        for name, shape in (("images", (2, 3, 3)), ("labels", (2,))):
            content = idx_header(shape) + bytes(range(math.prod(shape)))
            self.contents[name], self.archives[f"{name}.gz"] = content, gzip.compress(content)
            files.append(idx_file(name, shape, hashlib.sha256(content).hexdigest()))
            md5 = hashlib.md5(self.archives[f"{name}.gz"]).hexdigest()
            archives.append(compressed(name, md5, ("http://first/", "http://second/")))
        self.data = replace(MNIST, files=tuple(files), archives=tuple(archives))

    def download_url(self, url: str, root: str, filename: str, md5: str) -> None:
        self.downloaded.append(url)
        assert url.endswith(f"/{filename}")
        (Path(root) / filename).write_bytes(self.archives[filename])
        if self.error:
            raise self.error


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    fake = Downloads()
    monkeypatch.setattr("torchvision.datasets.utils.download_url", fake.download_url)
    monkeypatch.setitem(PUBLISHED, "mnist", fake.data)
    return fake


def test_fetch_then_verify(downloads: Downloads, tmp_path: Path) -> None:
    arguments = ["mnist", "--data", str(tmp_path)]
    assert main(["fetch", *arguments]) == 0
    assert main(["verify", *arguments]) == 0
    assert main(["fetch", *arguments]) == 0
    assert downloads.downloaded == ["http://first/images.gz", "http://first/labels.gz"]
    assert not list((tmp_path / "MNIST").glob(".fetch*"))


def test_fetch_mends_a_truncated_file_and_leaves_the_others(downloads: Downloads, tmp_path: Path) -> None:
    """torchvision alone takes any existing file for complete. Only what is damaged is downloaded."""
    main(["fetch", "mnist", "--data", str(tmp_path)])
    downloads.downloaded.clear()
    images, labels = (mnist_folder(tmp_path) / file.name for file in downloads.data.files)
    truncate(images, 7)
    untouched = labels.stat().st_ino
    assert main(["fetch", "mnist", "--data", str(tmp_path)]) == 0
    assert images.read_bytes() == downloads.contents["images"]
    assert labels.stat().st_ino == untouched
    assert downloads.downloaded == ["http://first/images.gz"]


@pytest.mark.parametrize("error", [RuntimeError("no mirror"), OSError("disk full"), IncompleteRead(b"")])
def test_failed_download_changes_nothing(
    downloads: Downloads, tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    downloads.error = error
    assert main(["fetch", "mnist", "--data", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"http://first/images.gz: {error}" in message
    assert f"http://second/images.gz: {error}" in message
    assert f"copy images.gz (md5 {downloads.data.archives[0].md5}) into the folder {tmp_path / 'MNIST'}" in message
    assert "copy the folder MNIST/raw" in message
    assert not mnist_folder(tmp_path).exists()
    assert not list((tmp_path / "MNIST").glob(".fetch*"))


def test_damaged_download_is_not_installed(
    downloads: Downloads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    downloads.archives["labels.gz"] = gzip.compress(downloads.contents["labels"][:-1])
    assert main(["fetch", "mnist", "--data", str(tmp_path)]) == 1
    assert "labels is truncated: has 9 bytes, should have 10" in capsys.readouterr().err
    assert not mnist_folder(tmp_path).exists()


def test_concurrent_fetches_download_once(downloads: Downloads, tmp_path: Path) -> None:
    threads = [threading.Thread(target=downloads.data.fetch, args=(tmp_path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads.downloaded) == 2
    assert downloads.data.problems(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be somebody else")
def test_what_a_colleague_left_in_a_shared_folder_is_not_in_the_way(downloads: Downloads) -> None:
    """Case 5.10: a lock and a half-done download of another user, which nobody else can write."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        root = Path(folder)
        (root / "MNIST" / ".fetch" / "MNIST").mkdir(parents=True)
        (root / "MNIST" / ".lock").touch(mode=0o600)
        for shared in (root, root / "MNIST"):
            shared.chmod(0o777)

        def nobody() -> None:
            os.setuid(65534)
            downloads.data.fetch(root)

        process = multiprocessing.get_context("fork").Process(target=nobody)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert downloads.data.problems(root) == {}
        assert (mnist_folder(root) / "images").stat().st_uid == 65534


def test_unwritable_folder_is_an_error_of_one_line(
    downloads: Downloads, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["fetch", "mnist", "--data", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
