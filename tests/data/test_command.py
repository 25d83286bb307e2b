"""`lop-data` says what it can do; what a wrong line should have been is in its message."""

from __future__ import annotations

from pathlib import Path

import pytest

from lop_sweeps.data import data_root, main


def test_data_root_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOP_DATA", raising=False)
    assert data_root(None) == Path("data")
    monkeypatch.setenv("LOP_DATA", "")
    assert data_root(None) == Path("data")
    monkeypatch.setenv("LOP_DATA", "~/sets")
    assert data_root(None) == Path.home() / "sets"
    assert data_root("here") == Path("here")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """Exit status and all that was printed; argparse leaves by SystemExit."""
    try:
        status: object = main(arguments)
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_help_says_where_to_get_imagenet(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, "build", "--help")
    assert status == 0
    for part in ("https://image-net.org/download-images", "train_data_batch_1", "--train 500 --test 50", "licence"):
        assert part in text
    status, text = said(capsys, "--help")
    assert all(command in text for command in ("fetch", "verify", "build"))


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_digits_need_nothing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, command, "digits")
    assert (status, "come with scikit-learn" in text) == (0, True)


def test_imagenet_cannot_be_fetched_and_what_to_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, "fetch", "imagenet32", "--data", "my sets")
    assert status == 1
    assert "lop-data build imagenet32 SOURCE --data 'my sets'" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fetch cifar", "invalid choice: 'cifar'"),
        ("build mnist SOURCE", "invalid choice: 'mnist'"),
        ("build imagenet32", "SOURCE"),
        ("build imagenet32 SOURCE --train 0", "--train must be at least 1"),
        ("build imagenet32 SOURCE --test=-1", "--test at least 0"),
    ],
)
def test_wrong_lines(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, *line.split())
    assert status == 2
    assert message in text


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, "build", "imagenet32", "nowhere")
    assert status == 1
    assert text.splitlines()[-1] == "lop-data: nowhere does not exist"
