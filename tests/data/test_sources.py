"""What `lop-data build imagenet32` takes (case 5.9), and what it refuses in one line (case 2.5)."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.data import cifar100, class_images, image_source, load_arrays, main
from lop_sweeps.data.batch_source import read_batch
from lop_sweeps.data.build_imagenet32 import open_source
from lop_sweeps.data.file_tree import Folder, open_tree
from lop_sweeps.data.imagenet32 import imagenet32_folder, read_manifest
from lop_sweeps.errors import DataError
from tests.data.imagenet_sources import build, picture, pixels, write_folder, write_tar, write_zip

WNIDS = ("n00000001", "n00000002")
IMAGES = {f"train/{wnid}/{wnid}_{i}.JPEG": picture(10 * c + i) for c, wnid in enumerate(WNIDS) for i in range(3)}
VICTIM = f"train/{WNIDS[0]}/{WNIDS[0]}_1.JPEG"


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def images_of(id: int, count: int = 5) -> np.ndarray:
    return np.random.default_rng(id).integers(0, 256, (count, 3, 32, 32), np.uint8)


# --- taken ---


@pytest.mark.parametrize("kind", ["folder", "classes", "tar", "zip"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_authors_own_files_are_taken(tmp_path: Path, kind: str, dtype: type) -> None:
    files = {f"data/classes/{id}.npy": npy(images_of(id).astype(dtype)) for id in range(11)}
    if kind in ("folder", "classes"):
        source = write_folder(tmp_path / "theirs", files) / ("data/classes" if kind == "classes" else "")
    else:
        source = {"tar": write_tar, "zip": write_zip}[kind](tmp_path / f"theirs.{kind}", files)
    assert build(tmp_path / "root", source)
    for id in range(11):
        np.testing.assert_array_equal(class_images(tmp_path / "root", id), images_of(id, 5)[:3])
    assert not build(tmp_path / "root", source)


def test_another_build_is_taken(tmp_path: Path) -> None:
    build(tmp_path / "one", write_folder(tmp_path / "source", IMAGES))
    assert build(tmp_path / "other", imagenet32_folder(tmp_path / "one"))
    np.testing.assert_array_equal(class_images(tmp_path / "other", 1), class_images(tmp_path / "one", 1))
    assert read_manifest(tmp_path / "other").kind == "classes"


def class_archives(folder: Path) -> dict[str, bytes]:
    """An archive for each class, as ILSVRC2012_img_train.tar holds them."""
    folder.mkdir(exist_ok=True)
    found = {}
    for wnid in WNIDS:
        members = {Path(name).name: content for name, content in IMAGES.items() if f"/{wnid}/" in name}
        found[f"{wnid}.tar"] = write_tar(folder / f"{wnid}.tar", members).read_bytes()
    return found


def test_the_archive_of_archives_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it was stopped on the way."""
    monkeypatch.setattr(image_source, "CHUNK", 2)
    source = write_tar(tmp_path / "ILSVRC2012_img_train.tar", class_archives(tmp_path / "inner"))

    def stop(line: str) -> None:
        if line.startswith("2 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "root", source, report=stop)
    assert build(tmp_path / "root", source)
    for id, wnid in enumerate(WNIDS):
        expected = [pixels(IMAGES[f"train/{wnid}/{wnid}_{i}.JPEG"]) for i in range(3)]
        np.testing.assert_array_equal(class_images(tmp_path / "root", id), np.stack(expected))


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({f"{WNIDS[0]}/a.JPEG": b""}, "call it train"),
        ({"sub/n00000001.tar": b""}, r"sub/n00000001\.tar"),
        ({"ILSVRC2012_img_train.tar": b""}, r"ILSVRC2012_img_train\.tar"),
        ({"Imagenet32_train.zip": b""}, r"Imagenet32_train\.zip"),
        ({"classes/0.npy": b"", "classes/2.npy": b""}, "class 1 is not"),
        ({"a/classes/0.npy": b"", "b/classes/0.npy": b""}, "twice"),
    ],
)
def test_what_is_nearly_a_source_is_told_what_to_do(tmp_path: Path, files: dict[str, bytes], word: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        build(tmp_path / "root", write_folder(tmp_path / "source", files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((2, 3, 32, 32), np.uint8), "2 images; 3 are needed"),
        (np.zeros((5, 32, 32, 3), np.uint8), r"\(5, 32, 32, 3\)"),
        (np.full((5, 3, 32, 32), 0.5), "whole numbers"),
        (np.full((5, 3, 32, 32), np.nan), "whole numbers"),
        (np.full((5, 3, 32, 32), -1), "whole numbers"),
        (np.zeros((5, 3, 32, 32), complex), "complex"),
    ],
)
def test_files_of_classes_that_hold_anything_else_are_named(tmp_path: Path, array: np.ndarray, word: str) -> None:
    with pytest.raises(DataError, match=word) as caught:
        build(tmp_path / "root", write_folder(tmp_path / "source", {"classes/0.npy": npy(array)}))
    assert "classes/0.npy" in str(caught.value)


def test_files_put_where_the_build_goes_are_not_overwritten(tmp_path: Path) -> None:
    folder = write_folder(imagenet32_folder(tmp_path), {"classes/0.npy": npy(images_of(0))})
    for source in (folder, folder / "classes"):
        with pytest.raises(DataError, match="elsewhere"):
            build(tmp_path, source)
    assert (folder / "classes" / "0.npy").read_bytes() == npy(images_of(0))


# --- refused ---


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 42)


ODD = (pipe, listener, link_to_device, link_to_nothing, link_to_itself, sparse)


@pytest.mark.parametrize("make", ODD)
def test_an_image_that_is_no_regular_file_is_named(
    tmp_path: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "source", {name: image for name, image in IMAGES.items() if name != VICTIM})
    make(source / VICTIM)
    assert main(["build", "imagenet32", str(source), "--train=2", "--test=1", "--data", str(tmp_path / "root")]) == 1
    said = capsys.readouterr().err
    assert VICTIM in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("make", ODD)
def test_odd_files_that_are_no_images_are_in_nobodys_way(tmp_path: Path, make: Callable[[Path], None]) -> None:
    source = write_folder(tmp_path / "source", IMAGES)
    make(source / "train" / "odd")
    make(source / "odd")
    assert build(tmp_path / "root", source)


@pytest.mark.parametrize("make", [pipe, listener, sparse])
def test_a_source_that_is_no_regular_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "source")
    with pytest.raises(DataError, match="source"):
        open_tree(tmp_path / "source")
    with pytest.raises(DataError, match="neither"):
        open_tree(Path("/dev/zero"))


def test_links_to_folders_lead_in_and_never_round(tmp_path: Path) -> None:
    store = write_folder(tmp_path / "store", {name.removeprefix("train/"): image for name, image in IMAGES.items()})
    source = tmp_path / "source"
    (source / "train").mkdir(parents=True)
    for wnid in WNIDS:
        (source / "train" / wnid).symlink_to(store / wnid)
    (source / "train" / "up").symlink_to("..")
    (source / "top").symlink_to("/")
    (source / "same").symlink_to("train")
    assert sorted(Folder(source).names()) == sorted(IMAGES)
    assert build(tmp_path / "root", source)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_what_unpacks_to_gigabytes_is_refused(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"source.{kind}"
    large = 65 << 20  # bytes, of zeros; more than an image may have
    if kind == "zip":
        write_zip(path, {**IMAGES, VICTIM: bytes(large)})
    elif kind == "tar":
        write_tar(path, {**IMAGES, VICTIM: bytes(large)})
    else:  # a name of a terabyte, which is read before the file that has it
        member = tarfile.TarInfo("long")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
        first = tarfile.TarInfo("first").tobuf()
        path.write_bytes(gzip.compress(first + member.tobuf() + bytes(1 << 20)))
    assert main(["build", "imagenet32", str(path), "--train=2", "--test=1", "--data", str(tmp_path / "root")]) == 1
    said = capsys.readouterr().err
    assert str(path) in said
    assert said.count("\n") == 1


def test_a_batch_that_unpacks_to_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lop_sweeps.data.batch_source.BATCH_BYTES", 1 << 20)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", bytes(2 << 20))
    with pytest.raises(DataError, match="unpacks to"):
        read_batch("train_data_batch_1.npz", stream.getvalue())


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "MAX_PIXELS", 1_000)
    with pytest.raises(DataError, match="32 x 32 pixels"):
        build(tmp_path / "root", write_folder(tmp_path / "source", IMAGES))


def test_a_batch_that_is_no_regular_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lop_sweeps.data.batch_source.BATCHES", 1)
    os.mkfifo(tmp_path / "train_data_batch_1")
    source = open_source(tmp_path, 2, 1)
    with pytest.raises(DataError, match=r"train_data_batch_1.*pipe"):
        next(source.chunks(range(1000), {}, 0))


@pytest.mark.parametrize("make", [pipe, listener, link_to_device, link_to_itself, sparse])
def test_a_file_of_arrays_is_read_within_limits(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Of the same kind: benchmark.file=part.npz."""
    make(tmp_path / "part.npz")
    with pytest.raises(DataError, match=r"part\.npz") as caught:
        load_arrays(tmp_path / "part.npz")
    assert "\n" not in str(caught.value)


def test_arrays_that_unpack_to_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar100, "MAX_BYTES", 1 << 20)
    write_zip(tmp_path / "part.npz", {"x_train.npy": bytes(2 << 20)})
    with pytest.raises(DataError, match="unpacks to"):
        load_arrays(tmp_path / "part.npz")
