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
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba as nb
import pytest

import lop_sweeps
from lop_sweeps import compiled_code
from lop_sweeps.compiled_code import PREFIX, VARIABLE, prepare
from lop_sweeps.compiling import FORMS, NamedForContent, njit, one_at_a_time


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


def test_two_processes_that_compile_at_once_do_not_take_each_others_code(tmp_path: Path) -> None:
    """One of them looks into the index before the other has written it; numba's own would number both files 1."""

    def files() -> NamedForContent:
        return NamedForContent(str(tmp_path), "function", (1.0, 2))

    first, second = files(), files()
    load_index = first._load_index

    def and_meanwhile_the_other_saves() -> Any:
        index = load_index()
        second.save("float64", "code for float64")
        return index

    first._load_index = and_meanwhile_the_other_saves
    first.save("float32", "code for float32")
    assert files().load("float32") == "code for float32"
    assert files().load("float64") in ("code for float64", None)  # None: it is compiled again
    files().save("float64", "code for float64")
    assert [files().load(key) for key in ("float32", "float64")] == ["code for float32", "code for float64"]
    assert NamedForContent(str(tmp_path), "function", (3.0, 4)).load("float32") is None  # another source


def test_what_an_earlier_text_left_is_removed(tmp_path: Path) -> None:
    """Not so what another process has just written and will name in the index next."""
    before = NamedForContent(str(tmp_path), "file.function-12.py311", (1.0, 2))
    now = NamedForContent(str(tmp_path), "file.function-14.py311", (3.0, 4))
    other = NamedForContent(str(tmp_path), "file.functions-3.py311", (1.0, 2))
    for one in (before, other):
        one.save(("float32", "machine", "text"), "code")
    for path in tmp_path.glob("*.nbc"):
        os.utime(path, (0, 0))
    before.save(("float64", "machine", "text"), "code")
    now.save(("float32", "machine", "another text"), "new code")
    assert now.load(("float32", "machine", "another text")) == "new code"
    assert other.load(("float32", "machine", "text")) == "code"
    assert len(list(tmp_path.glob("file.function-*.nbc"))) == 2
    for number in range(FORMS + 2):
        for path in tmp_path.glob("file.function-*.nbc"):
            os.utime(path, (0, 0))
        now.save(("float32", "machine", f"closure {number}"), number)
    kept = [now.load(("float32", "machine", f"closure {number}")) for number in range(FORMS + 2)]
    assert kept == [None, *range(1, FORMS + 2)]
    assert len(list(tmp_path.glob("file.function-*.nbc"))) == FORMS + 1


PROGRAM = """
from lop_sweeps.compiling import njit

@njit()
def double(x):
    return 2 * x

def make(number):
    @njit()
    def one(x):
        return x + number

    @njit()
    def other(x):
        return one(double(x))

    return other

first, second = make(1), make(2)
print(double(1.5), first(1), second(1), *(sum(f.stats.cache_hits.values()) for f in (double, first, second)))
"""


def test_what_is_compiled_is_found_again_in_another_process(tmp_path: Path) -> None:
    """Closures that hold compiled functions, too, such as the training loop; each with what is its own."""
    (tmp_path / "doubled.py").write_text(PROGRAM)
    environment = {**os.environ, VARIABLE: str(tmp_path / "kept")}
    command = [sys.executable, "-c", "import doubled"]
    printed = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert printed == ["3.0 3 4 0 0 0\n", "3.0 3 4 1 1 1\n"]


HOLD = """\
import sys, time
from pathlib import Path
from types import SimpleNamespace
from lop_sweeps.compiling import one_at_a_time

with one_at_a_time(SimpleNamespace(_cache=SimpleNamespace(cache_path=sys.argv[1]))):
    Path(sys.argv[1], "held").touch()
    while not Path(sys.argv[1], "enough").exists():
        time.sleep(0.01)
    Path(sys.argv[1], "made").touch()
"""


def test_who_comes_second_waits_until_what_it_needs_is_compiled(tmp_path: Path) -> None:
    function = SimpleNamespace(_cache=SimpleNamespace(cache_path=str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)]) as other:
        while not (tmp_path / "held").exists():
            time.sleep(0.01)
        with one_at_a_time(function, patience=0.3):  # somebody hangs there: go on
            assert not (tmp_path / "made").exists()
        (tmp_path / "enough").touch()
        with one_at_a_time(function):
            assert (tmp_path / "made").exists()
    assert other.returncode == 0


def test_where_nothing_is_kept_nobody_waits(tmp_path: Path) -> None:
    for function in (SimpleNamespace(), SimpleNamespace(_cache=SimpleNamespace(cache_path="/proc/nowhere"))):
        with one_at_a_time(function):
            pass


def test_what_a_function_computes_does_not_depend_on_who_called_it_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that allows a product and a sum to be rounded together allows it for itself."""
    monkeypatch.setattr(compiled_code, "CACHE", False)

    @njit()
    def product_and_sum(a: float, b: float, c: float) -> float:
        return a * b + c

    @nb.njit(fastmath={"contract"})
    def caller(a: float, b: float, c: float) -> float:
        return product_and_sum(a, b, c)

    a, b, c = 1.0 + 2.0**-30, 1.0 - 2.0**-30, -1.0  # rounded together it is -2^-60
    assert (caller(a, b, c), product_and_sum(a, b, c)) == (0.0, 0.0)
