"""The class files that jobs read: the quick check and `lop-data verify imagenet32` name what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lop_sweeps.data import check_imagenet32, class_images, main
from lop_sweeps.data.imagenet32 import class_path, manifest_path
from lop_sweeps.errors import DataError
from tests.data.imagenet_sources import BATCH_CLASSES, batch_folder, build


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of 2 training images and 1 test image."""
    build(tmp_path, batch_folder(tmp_path / "source", monkeypatch))
    return tmp_path


def truncate(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(1000)


def change_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_complete_classes_pass(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_imagenet32(root, BATCH_CLASSES, 3)
    check_imagenet32(root, 2, 1)
    assert main(["verify", "imagenet32", "--data", str(root)]) == 0
    assert "3 classes of 2 training and 1 test images" in capsys.readouterr().out


def test_images_are_mapped_read_only(root: Path) -> None:
    images = class_images(root, 1)
    assert isinstance(images, np.memmap)
    assert (images.shape, images.dtype, images.flags.writeable) == ((3, 3, 32, 32), np.uint8, False)


def test_manifest_says_what_there_is(root: Path) -> None:
    manifest = json.loads(manifest_path(root).read_text())
    assert manifest["format"] == 1
    assert manifest["source"] == {"kind": "downsampled", "name": "source", "classes": 3}
    assert (manifest["train"], manifest["test"]) == (2, 1)
    assert [entry["id"] for entry in manifest["classes"]] == [0, 1, 2]
    assert manifest["classes"][0].keys() == {"id", "name", "images", "size", "sha256"}
    assert all(entry["size"] == class_path(root, entry["id"]).stat().st_size for entry in manifest["classes"])


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda root: class_path(root, 1).unlink(), "1.npy is missing"),
    ("truncated", lambda root: truncate(class_path(root, 1)), "1.npy is truncated: has 1000 bytes, should have 9344"),
    ("no manifest", lambda root: manifest_path(root).unlink(), "manifest.json is missing"),
    ("half a manifest", lambda root: truncate_text(manifest_path(root)), "manifest.json is damaged"),
    ("other manifest", lambda root: manifest_path(root).write_text("[1]"), "manifest.json is damaged"),
    ("later format", lambda root: manifest_path(root).write_text('{"format": 9}'), "has format 9"),
]


def truncate_text(path: Path) -> None:
    path.write_text(path.read_text()[:100])


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in DAMAGE], ids=[row[0] for row in DAMAGE])
def test_damage_is_named(
    root: Path, damage: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(root)
    with pytest.raises(DataError) as caught:
        check_imagenet32(root, 3, 3)
    assert main(["verify", "imagenet32", "--data", str(root)]) == 1
    for text in (str(caught.value), capsys.readouterr().err):
        assert message in text
        assert "format 9" in text or f"lop-data build imagenet32 SOURCE --data {root}" in text


def test_only_verify_sees_wrong_content(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_one_byte(class_path(root, 2))
    check_imagenet32(root, 3, 3)
    assert main(["verify", "imagenet32", "--data", str(root)]) == 1
    assert "2.npy has the wrong checksum" in capsys.readouterr().err


def test_too_few_classes_or_images_are_named(root: Path) -> None:
    with pytest.raises(DataError, match="lists 3 classes, and class 3 is not one of them; 1000 are needed"):
        check_imagenet32(root, 1000, 3)
    with pytest.raises(DataError, match=r"0\.npy has 3 images \(2 training, 1 test\); 700 are needed"):
        check_imagenet32(root, 3, 700)


def test_unfinished_build_is_named_with_the_command_that_goes_on(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads(manifest_path(root).read_text())
    del manifest["classes"][1]
    manifest_path(root).write_text(json.dumps(manifest))
    command = f"To finish it: lop-data build imagenet32 SOURCE --data {root} --train 2 --test 1"
    with pytest.raises(DataError, match=command):
        check_imagenet32(root, 2, 3)
    assert main(["verify", "imagenet32", "--data", str(root)]) == 1
    assert "lists 2 of 3 classes: the build was not finished" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_class_file_that_is_no_array_is_refused(root: Path, content: bytes | None) -> None:
    path = class_path(root, 0)
    if content is None:
        np.save(path, np.zeros((3, 32, 32, 3), np.uint8))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"0\.npy .*lop-data build"):
        class_images(root, 0)
