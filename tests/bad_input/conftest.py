"""The commands, and a user's module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.command import Command, Ended, lop

__all__ = ["Command", "Ended", "idea", "lop", "users_idea"]


@pytest.fixture
def users_idea(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a module `users_idea` that this process and its children can import."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(Path(__file__).with_name("users_idea.py"), folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def idea(**options: object) -> list[str]:
    """The overrides that add the user's intervention."""
    node = "+algorithm.idea"
    target = [f"{node}._target_=users_idea.Idea", "trusted=[users_idea]"]
    return target + [f"{node}.{key}={value}" for key, value in options.items()]
