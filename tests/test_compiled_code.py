"""Where compiled code is kept if neither the installation nor the home folder can be written (case 5.1).

Root may write everywhere, so a file stands where a folder would have to be made.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import lop_sweeps
from lop_sweeps import compiled_code
from lop_sweeps.compiled_code import PREFIX, VARIABLE, prepare


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An installation: two packages with compiled functions."""
    (tmp_path / "package" / "fused").mkdir(parents=True)
    return tmp_path / "package"


@pytest.fixture
def homeless(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "file").touch()
    return {"XDG_CACHE_HOME": str(tmp_path / "file" / "cache")}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def close(package: Path) -> None:
    """One folder is enough: numba gives up at the first function that it finds no place for."""
    (package / "fused" / "__pycache__").touch()


def is_private(path: Path) -> bool:
    return stat.S_IMODE(path.lstat().st_mode) == 0o700 and path.lstat().st_uid == os.geteuid() and path.is_dir()


def test_what_can_be_written_stays_where_numba_puts_it(
    package: Path, homeless: dict[str, str], tmp_path: Path, temporary: Path
) -> None:
    prepare(homeless, package, shared=False)  # beside the source
    close(package)
    home, own = {"XDG_CACHE_HOME": str(tmp_path / "cache")}, {**homeless, VARIABLE: str(tmp_path / "theirs")}
    for environment in (home, own):
        before = dict(environment)
        prepare(environment, package, shared=False)
        assert environment == before
    assert VARIABLE not in homeless
    assert not list(temporary.iterdir())


def test_else_it_is_a_folder_of_the_users_own(package: Path, homeless: dict[str, str], temporary: Path) -> None:
    close(package)
    prepare(homeless, package, shared=False)
    folder = Path(homeless[VARIABLE])
    assert folder.parent == temporary
    assert is_private(folder)
    again = {name: value for name, value in homeless.items() if name != VARIABLE}
    prepare(again, package, shared=False)
    assert again[VARIABLE] == str(folder)


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_somebody_else_has_put_there_is_not_used(
    package: Path, homeless: dict[str, str], temporary: Path, tmp_path: Path, kind: str
) -> None:
    """What lies in it would be run."""
    planted = temporary / f"{PREFIX}{os.geteuid()}"
    if kind == "open":
        planted.mkdir()
        planted.chmod(0o777)
    elif kind == "link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        planted.symlink_to(tmp_path / "theirs")
    else:
        planted.touch()
    close(package)
    prepare(homeless, package, shared=False)
    assert homeless.get(VARIABLE) != str(planted)
    if VARIABLE in homeless:
        assert is_private(Path(homeless[VARIABLE]))


def test_with_nowhere_to_write_nothing_is_kept(
    package: Path, homeless: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_code, "_bases", lambda: iter([Path("/dev/null")]))
    for name in ("CACHE", "NOTICE"):
        monkeypatch.setattr(compiled_code, name, getattr(compiled_code, name))
    close(package)
    prepare(homeless, package)
    assert VARIABLE not in homeless
    assert compiled_code.CACHE is False
    assert compiled_code.NOTICE
    assert "\n" not in compiled_code.NOTICE


def test_each_process_decides_anew(package: Path, homeless: dict[str, str]) -> None:
    """A job inherits the variable from where it was submitted, where that folder is another user's perhaps."""
    environment = {**homeless, VARIABLE: f"/tmp/{PREFIX}1000"}
    prepare(environment, package, shared=False)
    assert environment == homeless


def test_every_function_that_is_kept_asks_here_and_the_package_decides_first() -> None:
    folder = Path(lop_sweeps.__file__).parent
    for path in folder.rglob("*.py"):
        assert not re.search(r"jit\([^)]*cache=True", path.read_text()), path
    program = "import sys, lop_sweeps; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
