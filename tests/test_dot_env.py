"""A `.env` in the current folder, which may be somebody else's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lop_sweeps import dot_env


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (*dot_env.NAMES, "PYTHONPATH", "WANDB__EXECUTABLE"):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)
    return tmp_path


def test_the_variables_are_those_of_the_example() -> None:
    """Case 2.3: one list, and the file that shows it."""
    example = (Path(__file__).parents[1] / ".env.example").read_text()
    assert set(re.findall(r"^# (\w+)=", example, re.MULTILINE)) == set(dot_env.NAMES)


def test_only_those_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Case 2.3: PYTHONPATH, LD_PRELOAD and the client's own settings would run code in child processes."""
    before = dict(os.environ)
    (folder / ".env").write_text("PYTHONPATH=.\nLD_PRELOAD=./x.so\nWANDB__EXECUTABLE=./x\nWANDB_PROJECT=mine\n")
    dot_env.load_dot_env()
    assert {name: value for name, value in os.environ.items() if before.get(name) != value} == {"WANDB_PROJECT": "mine"}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "WANDB__EXECUTABLE" in said
    assert "LD_PRELOAD" not in said  # another program's


def test_the_environment_wins_and_nothing_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 2.3: a secret of the environment does not get into a project's name."""
    monkeypatch.setenv("A_SECRET", "secret")
    monkeypatch.setenv("WANDB_ENTITY", "given")
    (folder / ".env").write_text("WANDB_PROJECT=x-${A_SECRET}\nWANDB_ENTITY=file\n")
    dot_env.load_dot_env()
    assert os.environ["WANDB_PROJECT"] == "x-${A_SECRET}"
    assert os.environ["WANDB_ENTITY"] == "given"


@pytest.mark.parametrize(
    ("key", "own", "taken"), [("", "", True), ("mine", "", False), ("mine", "theirs", False), ("mine", "mine", True)]
)
def test_a_server_is_not_given_a_key_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str, own: str, taken: bool
) -> None:
    """key: of the environment; own: in the file that names the server."""
    monkeypatch.setenv("WANDB_API_KEY", key)
    (folder / ".env").write_text(f"WANDB_API_KEY={own}\nWANDB_BASE_URL=https://elsewhere.example\n")
    dot_env.load_dot_env()
    assert ("WANDB_BASE_URL" in os.environ) == taken
    assert ("WANDB_BASE_URL" in capsys.readouterr().err) == (not taken)


@pytest.mark.parametrize("kind", ["pipe", "folder", "huge", "bytes"])
def test_a_file_that_is_none_stops_nothing(folder: Path, kind: str) -> None:
    """Case 2.3: nor does a command wait for a pipe."""
    path = folder / ".env"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    else:
        path.write_bytes(b"\xff\xfe\0WANDB_PROJECT=\0\n")
    dot_env.load_dot_env()
    assert "WANDB_PROJECT" not in os.environ
