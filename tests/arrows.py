"""What the modules of this project import, read from their source; imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported(source: str, package: str = "") -> set[str]:
    """Modules that a source names in its imports; `from a import b` names `a`, and `a.b`, which may be one.

    package: where the module is, for relative imports.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def imports_of(path: Path) -> set[str]:
    """Of a file of the project; `analysis/` is the package `lop_sweeps.analysis`."""
    parts = path.relative_to(ROOT).parent.parts
    package = ".".join(("lop_sweeps", *parts) if parts[0] == "analysis" else parts)
    return imported(path.read_text(), package)


def is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def against(path: Path, forbidden: tuple[str, ...]) -> Iterator[str]:
    """A line for each import, by a file or by those of a folder, of a forbidden module or of what is in it."""
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for name in sorted(imports_of(file)):
            if any(is_in(name, module) for module in forbidden):
                yield f"{file.relative_to(ROOT)} imports {name}"
