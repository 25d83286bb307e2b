"""What the modules of this project import, read from their source; imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported(source: str) -> set[str]:
    """Modules that a source names in its imports; `from a import b` names `a`, and `a.b`, which may be one."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "imports here are absolute"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def against(folder: Path, forbidden: tuple[str, ...]) -> Iterator[str]:
    """A line for each import in a folder, or of one file, of a forbidden module or of what is in it."""
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        for name in sorted(imported(path.read_text())):
            if any(name == module or name.startswith(f"{module}.") for module in forbidden):
                yield f"{path.relative_to(ROOT)} imports {name}"
