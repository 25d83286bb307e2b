"""docs/extending.md as its tests use it: the files that it shows, and the commands of each section."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from lop_sweeps import build

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`([\w/]+\.(?:py|yaml))`:\n\n\Z")  # how the text before a file ends


def sections() -> dict[str, str]:
    """Heading (of the second or third order) -> text."""
    parts = re.split(r"^##+ (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def files(text: str) -> dict[str, str]:
    """Name -> content of the files that a text shows."""
    found = {}
    for fence in FENCE.finditer(text):
        if name := NAMED.search(text[: fence.start()]):
            found[name[1]] = fence[2]
    return found


def commands(text: str) -> list[str]:
    """The lines of its blocks that are of no language."""
    return [line for fence in FENCE.finditer(text) if not fence[1] for line in fence[2].splitlines()]


def write(folder: Path, shown: dict[str, str]) -> None:
    for name, content in shown.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@contextmanager
def fresh_modules(folder: Path) -> Iterator[None]:
    """Modules of this folder are found, as a process started in it finds them, and forgotten afterwards."""
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]
        build._import.cache_clear()


def load(folder: Path, name: str) -> ModuleType:
    """A module that lies in the folder."""
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def run_tests(folder: Path, name: str, tmp_path: Path) -> int:
    """Call the tests of a module, as pytest would if it did not take seconds to start; how many there were."""
    tests = {key: test for key, test in vars(load(folder, name)).items() if key.startswith("test_")}
    for key, test in tests.items():
        (tmp_path / key).mkdir(parents=True)
        test(**({"tmp_path": tmp_path / key} if "tmp_path" in test.__annotations__ else {}))
    return len(tests)
