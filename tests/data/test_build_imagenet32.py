"""Building ImageNet at 32×32: every kind of source gives the right images, and a killed build goes on."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lop_sweeps.data import check_imagenet32, class_images, image_source, main
from lop_sweeps.data.batch_source import read_batch
from lop_sweeps.data.imagenet32 import class_path, imagenet32_folder, manifest_path, problems, read_manifest
from lop_sweeps.errors import DataError
from tests.data.imagenet_sources import (
    BATCH_CLASSES,
    batch,
    batch_folder,
    build,
    class_rows,
    contents,
    picture,
    pixels,
    tiny_imagenet,
    write_folder,
    write_tar,
    write_zip,
)
from tests.shared import SHARED

TINY = SHARED / "data" / "imagenet" / "tiny-imagenet-200-32px-jpeg.tar.gz"


def files_of(root: Path) -> dict[str, bytes]:
    """What a build leaves, but for the lock."""
    return {name: content for name, content in contents(imagenet32_folder(root)).items() if name != ".lock"}


# The official batches.


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    assert build(tmp_path, batch_folder(tmp_path / "source", monkeypatch, protocol=protocol))
    for id in range(BATCH_CLASSES):
        np.testing.assert_array_equal(class_images(tmp_path, id), class_rows(id, 3))
    assert not (imagenet32_folder(tmp_path) / ".build").exists()


@pytest.mark.parametrize("variant", ["npz", "zip", "zip of npz", "tar"])
def test_other_variants_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    folder = batch_folder(tmp_path / "source", monkeypatch, npz="npz" in variant)
    if variant.startswith("zip"):
        folder = write_zip(tmp_path / "source.zip", {f"box/{name}": c for name, c in contents(folder).items()})
    elif variant == "tar":
        folder = write_tar(tmp_path / "source.tar", dict(sorted(contents(folder).items(), reverse=True)))
    build(tmp_path, folder)
    for id in range(BATCH_CLASSES):
        np.testing.assert_array_equal(class_images(tmp_path, id), class_rows(id, 3))
    assert read_manifest(tmp_path).kind == "downsampled"


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    malicious = pickle.dumps({**batch(1), "mean": Malicious(tmp_path / "ran")})
    (source / "train_data_batch_1").write_bytes(malicious)
    with pytest.raises(DataError, match=r"train_data_batch_1 cannot be read \(it asks for posix\.mkdir"):
        build(tmp_path, source)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("function", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "os.system"])
def test_pickle_may_name_nothing_but_arrays(function: str) -> None:
    module, _, name = function.rpartition(".")
    content = f"c{module}\n{name}\n(S'1'\ntR.".encode()
    with pytest.raises(DataError, match=f"it asks for {function}"):
        read_batch("batch", content)


WRONG_BATCHES: list[tuple[object, str]] = [
    ({**batch(1), "data": np.zeros((6, 12288), np.uint8)}, r"data is uint8 \(6, 12288\), should be uint8 \(n, 3072\)"),
    ({**batch(1), "data": np.zeros((6, 3072))}, "data is float64"),
    ({**batch(1), "labels": [1, 2]}, r"labels are int64 \(2,\), should be integers \(6,\)"),
    ({**batch(1), "labels": [1, 2, 3, 4, 5, 0]}, "labels are 0 … 5, should be 1 … 1000"),
    ({**batch(1), "labels": [1, 2, 3, 4, 5, 1001]}, "labels are 1 … 1001"),
    ({"data": 1}, "no arrays data and labels"),
    ([1], "no arrays data and labels"),
]


@pytest.mark.parametrize(("value", "message"), WRONG_BATCHES)
def test_wrong_batch_is_named(value: object, message: str) -> None:
    with pytest.raises(DataError, match=f"batch_7.*{message}"):
        read_batch("train_data_batch_7", pickle.dumps(value))


@pytest.mark.parametrize("npz", [False, True])
def test_truncated_batch_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npz: bool) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch, npz=npz)
    (path,) = source.glob("*_2*")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train_data_batch_2.* cannot be read"):
        build(tmp_path, source, train=4)
    path.write_bytes(whole)
    assert build(tmp_path, source, train=4)
    np.testing.assert_array_equal(class_images(tmp_path, 2), class_rows(2, 5))


def test_missing_batch_and_too_few_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    with pytest.raises(DataError, match=r"class 0 \(label 1\) has 6 images; 11 are needed \(--train 10 and --test 1\)"):
        build(tmp_path, source, train=10)
    (source / "train_data_batch_2").unlink()
    with pytest.raises(DataError, match=r"has no train_data_batch_2 \(2 of 3 batches"):
        build(tmp_path, source)


# Image files.


def write(kind: str, path: Path, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        return write_folder(path / "source", files)
    return (write_zip if kind == "zip" else write_tar)(path / f"source.{kind}", files)


@pytest.mark.parametrize("top", ["", "tiny-imagenet-200/", "./"])
@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "zip"])
def test_tiny_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, top: str) -> None:
    """Whatever the order of the archive; chunks smaller than a class."""
    monkeypatch.setattr(image_source, "CHUNK", 4)
    files = tiny_imagenet(top=top)
    shuffled = list(files.items())
    random.Random(0).shuffle(shuffled)
    build(tmp_path, write(kind, tmp_path, dict(shuffled)), train=2, test=2)
    for id in range(3):
        wnid = f"n{id:08}"
        names = [f"train/{wnid}/images/{wnid}_{i}.JPEG" for i in (0, 1)]
        names += [f"val/images/val_{i}.JPEG" for i in (id, id + 3)]
        expected = np.stack([pixels(files[top + name]) for name in names])
        np.testing.assert_array_equal(class_images(tmp_path, id), expected)
        assert read_manifest(tmp_path).files[id].name == wnid
    assert read_manifest(tmp_path).kind == "images"
    assert problems(tmp_path) == {}


@pytest.mark.parametrize("val", ["classes", "flat", "none"])
def test_where_test_images_come_from(tmp_path: Path, val: str) -> None:
    train = {f"train/n{id}/x_{i}.JPEG": picture(10 * id + i) for id in (1, 2) for i in range(3)}
    valid = {f"val/n{id}/v.png" if val == "classes" else f"val/v{id}.png": picture(99 + id) for id in (1, 2)}
    build(tmp_path, write_folder(tmp_path / "source", {**train, **(valid if val != "none" else {})}))
    last = pixels(valid["val/n2/v.png"] if val == "classes" else train["train/n2/x_2.JPEG"])
    np.testing.assert_array_equal(class_images(tmp_path, 1)[2], last)


@pytest.mark.parametrize(("format", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P")])
def test_images_are_resized_with_the_box_filter(tmp_path: Path, format: str, mode: str) -> None:
    content = picture(5, (96, 64), format, mode)
    build(tmp_path, write_folder(tmp_path / "source", {"train/n1/a.JPEG": content}), train=1, test=0)
    (tmp_path / "image").write_bytes(content)
    with Image.open(tmp_path / "image") as image:
        large = np.asarray(image.convert("RGB"), float)
    boxes = large.reshape(32, 2, 32, 3, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(class_images(tmp_path, 0)[0] - boxes).max() <= 1  # Pillow rounds after each of the two directions


def test_too_few_images_are_named_before_anything_is_written(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", tiny_imagenet(train=3, test=2))
    for train, test, message in (
        (4, 1, r"class 0 \(n00000000\) has 3 images in train/; 4 are needed \(--train 4\)"),
        (1, 3, r"class 0 \(n00000000\) has 2 images in val/; 3 are needed \(--test 3\)"),
    ):
        with pytest.raises(DataError, match=message):
            build(tmp_path, source, train, test)
    assert not imagenet32_folder(tmp_path).exists()


def test_damaged_image_is_named(tmp_path: Path) -> None:
    files = tiny_imagenet()
    name = "train/n00000001/images/n00000001_0.JPEG"
    files[name] = files[name][:500]
    with pytest.raises(DataError, match=f"{name} cannot be decoded"):
        build(tmp_path, write_folder(tmp_path / "source", files))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_truncated_archive_is_named(tmp_path: Path, kind: str) -> None:
    path = write(kind, tmp_path, tiny_imagenet())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"source\.{kind} .*truncated"):
        build(tmp_path, path)


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "empty").mkdir()
    several = write_folder(tmp_path / "several", {f"{top}/train/n1/a.png": picture(0) for top in "ab"})
    for path, message in (
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "text", "is neither a folder nor a .zip"),
        (tmp_path / "empty", "has neither train/<WordNet id>"),
        (several, "several folders with classes: a/train, b/train"),
    ):
        with pytest.raises(DataError, match=message):
            build(tmp_path, path)


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    """Names that lead outside, and links, are only names."""
    files = {**tiny_imagenet(), "../../outside/train.txt": b"x", "/absolute": b"x"}
    path = write_tar(tmp_path / "source.tar", files)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/n00000000/images/a.JPEG")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    build(tmp_path / "root", path)
    assert {each.name for each in tmp_path.iterdir()} == {"source.tar", "root"}


# Interruption and damage.


class Stop(Exception):
    """Stands for whatever ends a build."""


def stop_after(chunks: int) -> Callable[[str], None]:
    lines = []

    def report(line: str) -> None:
        lines.append(line)
        if len(lines) > chunks:  # the first line comes before the first chunk
            raise Stop

    return report


@pytest.mark.parametrize("kind", ["folder", "tar.gz", "batches"])
def test_interrupted_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Whenever it is stopped, the rest is done, not all again, and the files are those of one go."""
    monkeypatch.setattr(image_source, "CHUNK", 4)
    if kind == "batches":
        source = batch_folder(tmp_path / "source", monkeypatch)
    else:
        source = write(kind, tmp_path, tiny_imagenet())
    train = 4 if kind == "batches" else 3
    lines: list[str] = []
    build(tmp_path / "whole", source, train=train, report=lines.append)
    assert len(lines) == 4  # the start, then three chunks
    for chunks in range(3):
        root = tmp_path / f"after {chunks}"
        with pytest.raises(Stop):
            build(root, source, train=train, report=stop_after(chunks))
        rest: list[str] = []
        assert build(root, source, train=train, report=rest.append)
        assert len(rest) == 4 - chunks
        assert files_of(root) == files_of(tmp_path / "whole")
        assert not build(root, source, train=train)


def test_sigkill_in_the_middle_of_each_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th rename or sync of a child is its last, for every n. Syncing takes time and matters to power failures
    only, so here it does nothing.
    """
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    source = write_folder(tmp_path / "source", tiny_imagenet(classes=2, train=2, test=1))
    build(tmp_path / "whole", source)
    script = """
import os, signal, sys
from pathlib import Path
from lop_sweeps.data import image_source
from lop_sweeps.data.build_imagenet32 import build_imagenet32
image_source.CHUNK = 4
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
for n in range(100):
    if not os.fork():
        left = n
        def deadly(function):
            def call(*arguments):
                global left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*arguments)
            return call
        os.fsync, Path.replace = deadly(lambda descriptor: None), deadly(Path.replace)
        build_imagenet32(folder / str(n), source, 2, 1, report=lambda line: None)
        os._exit(0)
    status = os.wait()[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(n)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "killed"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    for n in range(int(done.stdout)):
        build(tmp_path / "killed" / str(n), source)
        assert files_of(tmp_path / "killed" / str(n)) == files_of(tmp_path / "whole"), n


def test_ctrl_c_says_that_the_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(image_source, "small_image", interrupt)
    source = write_folder(tmp_path / "source", tiny_imagenet())
    command = ["build", "imagenet32", str(source), "--data", str(tmp_path), "--train", "2", "--test", "1"]
    monkeypatch.setattr(image_source.ImageSource, "chunks", interrupt)
    assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command) == 0
    assert main(command) == 0
    assert "already complete" in capsys.readouterr().out


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(bytes(9344))])
def test_damaged_class_is_built_again_and_the_others_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    build(tmp_path, source)
    before, untouched = files_of(tmp_path), class_path(tmp_path, 0).stat()
    damage(class_path(tmp_path, 1))
    assert build(tmp_path, source)
    assert files_of(tmp_path) == before
    assert class_path(tmp_path, 0).stat().st_mtime_ns == untouched.st_mtime_ns


def test_class_damaged_while_the_build_was_stopped_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_source, "CHUNK", 4)
    source = write_folder(tmp_path / "source", tiny_imagenet())
    build(tmp_path / "whole", source)
    root = tmp_path / "stopped"
    with pytest.raises(Stop):
        build(root, source, report=stop_after(1))
    class_path(root, 0).write_bytes(b"")
    build(root, source)
    assert files_of(root) == files_of(tmp_path / "whole")


def test_source_that_changed_meanwhile_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_source, "CHUNK", 4)
    files = tiny_imagenet()
    path = write_tar(tmp_path / "source.tar", files)
    with pytest.raises(Stop):
        build(tmp_path / "root", path, report=stop_after(1))
    write_tar(path, dict(reversed(files.items())))
    build(tmp_path / "root", path)
    build(tmp_path / "whole", path)
    assert files_of(tmp_path / "root") == files_of(tmp_path / "whole")


def test_damaged_manifest_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    build(tmp_path, source)
    before = files_of(tmp_path)
    manifest_path(tmp_path).write_text("{")
    assert build(tmp_path, source)
    assert files_of(tmp_path) == before


def test_another_build_in_the_same_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    build(tmp_path, source)
    before = files_of(tmp_path)
    tiny = write_folder(tmp_path / "tiny", tiny_imagenet())
    for other, train in ((source, 3), (tiny, 2)):
        with pytest.raises(DataError, match=r"was built from source .* --train 2 --test 1, not as asked for here"):
            build(tmp_path, other, train=train)
    assert files_of(tmp_path) == before


def test_complete_classes_may_be_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = batch_folder(tmp_path / "source", monkeypatch)
    build(tmp_path, source)
    (imagenet32_folder(tmp_path) / ".lock").unlink(missing_ok=True)
    assert not build(tmp_path, source)
    assert not (imagenet32_folder(tmp_path) / ".lock").exists()


def test_unwritable_folder_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    source = batch_folder(tmp_path / "source", monkeypatch)
    options = ["--train", "2", "--test", "1", "--data", str(tmp_path / "file")]
    assert main(["build", "imagenet32", str(source), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lop-data: cannot write ImageNet 32x32")
    assert error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not TINY.exists(), reason="Tiny ImageNet (../shared/data) is not here")
def test_real_tiny_imagenet(tmp_path: Path) -> None:
    """Reading the archive takes most of the time, so a few images a class are enough."""
    build(tmp_path, TINY, train=3, test=2)
    check_imagenet32(tmp_path, 200, 5)
    assert problems(tmp_path) == {}
    manifest = read_manifest(tmp_path)
    assert (manifest.files[0].name, manifest.files[199].name) == ("n01443537", "n12267677")
    means = [class_images(tmp_path, id).mean() for id in range(200)]
    assert 100 < np.mean(means) < 130  # natural images, not noise or a lost channel
