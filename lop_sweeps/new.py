"""`lop-new KIND NAME`: begin a component of one's own, as a Python file, a YAML file and a test that run as they are.

What is written are the files of `lop_sweeps/templates`, under the name that was asked for. docs/extending.md explains
them.
"""

from __future__ import annotations

import argparse
import importlib.util
import keyword
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lop_sweeps import __version__
from lop_sweeps.build import suggest
from lop_sweeps.console import WRONG, closing_quietly
from lop_sweeps.errors import LopError

CONF = "conf"  # the folder of choices, below the current one
WORDS = ("null", "true", "false", "nan", "inf", "none")  # no texts on the command line of `lop`, or choices of a group


@dataclass(frozen=True)
class Kind:
    """group: of the configuration. choice: what chooses it, of one's own `{name}`. sweep: the name of such a sweep."""

    group: str
    choice: str
    sweep: str = "permuted_digits-tiny"


KINDS = {
    "algorithm": Kind("algorithm", "algorithm={name}"),
    "network": Kind("network", "network={name}"),
    "benchmark": Kind("benchmark", "benchmark={name}", "{name}-tiny"),
    "data": Kind("benchmark/data", "benchmark=stream benchmark/data={name}", "{name}_inputs_permuted_online-tiny"),
    "change": Kind(
        "benchmark/change",
        "benchmark=stream benchmark/data=digits benchmark/change={name}",
        "digits_{name}_online-tiny",
    ),
    "diagnostic": Kind("diagnostics", "'diagnostics=[standard,{name}]'"),
    "optimizer": Kind("optimizer", "optimizer={name}"),
    "experiment": Kind("experiment", "experiment={name}", "{name}"),
}


def rendered(kind: str, name: str, *, packed: bool = False) -> dict[str, str]:
    """The files to write: path below the current folder -> text."""
    templates = resources.files("lop_sweeps.templates")
    places = {
        f"{'packed_' if packed else ''}{kind}.py": f"{name}.py",
        f"{kind}.yaml": f"{CONF}/{KINDS[kind].group}/{name}.yaml",
        f"test_{kind}.py": f"test_{name}.py",
    }
    files = {}
    for template, place in places.items():
        if (source := templates / template).is_file():  # an experiment has no Python file
            text = source.read_text()
            files[place] = text.replace(f"my_{kind}", name).replace(f"My{kind.title()}", class_name(name))
    return files


def class_name(name: str) -> str:
    """`l2_init` -> `L2Init`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def check(kind: str, name: str, *, packed: bool = False) -> None:
    """Raise `LopError` unless something of this kind may have this name."""
    if kind not in KINDS:
        raise LopError(f"{kind!r} is no kind{suggest(kind, KINDS)}")
    if packed and kind != "algorithm":
        raise LopError(f"--packed goes with an algorithm, not with {kind}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise LopError(f"{name!r} must be a name of small letters, digits and _, such as my_idea")
    if keyword.iskeyword(name) or name in WORDS:
        raise LopError(f"{name!r} means something else, in Python or to lop: take another name")
    group = KINDS[kind].group
    if (resources.files("lop_sweeps.conf") / group / f"{name}.yaml").is_file():
        raise LopError(f"{group}={name} is a choice already: yours would never be found under this name")
    files = rendered(kind, name, packed=packed)
    if f"{name}.py" in files and not Path(f"{name}.py").exists() and importlib.util.find_spec(name):
        raise LopError(f"Python has a module {name} already: yours would never be found under this name")
    made = class_name(name)
    for template in rendered(kind, f"my_{kind}", packed=packed).values():
        if re.search(rf"\b(Packed)?{made}\b", template) and made != class_name(f"my_{kind}"):
            raise LopError(f"{name}: its class would be {made}, a name that its file has for something else")


def write(kind: str, name: str, *, packed: bool = False) -> list[Path]:
    """Write the files into the current folder, and say which. Raises `LopError`; then nothing is written."""
    check(kind, name, packed=packed)
    if Path(CONF).resolve() == Path(str(resources.files("lop_sweeps.conf"))).resolve():
        raise LopError(
            "this is the checkout of lop-sweeps itself: go to a folder of your own (mkdir mine && cd mine); "
            "docs/extending.md says where the files of a contribution belong"
        )
    files = {Path(place): text for place, text in rendered(kind, name, packed=packed).items()}
    if there := [str(path) for path in files if path.exists() or path.is_symlink()]:
        raise LopError(f"{', '.join(there)} {'is' if len(there) == 1 else 'are'} there already; nothing was written")
    try:
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x") as file:
                file.write(text)
    except OSError as error:
        raise LopError(f"cannot write: {error}") from error
    return list(files)


def next_lines(kind: str, name: str) -> list[str]:
    """The commands that try what has been written, in the current folder."""
    choice, sweep = (text.format(name=name) for text in (KINDS[kind].choice, KINDS[kind].sweep))
    trust = "" if kind == "experiment" else f" 'trusted=[{name}]'"
    many = "-m " if kind == "experiment" else ""
    return [
        f"python -m pytest test_{name}.py",
        f"lop {many}--config-dir {CONF} {choice}{trust} scale=tiny",
        f"lop-figures sweeps/{sweep}",
    ]


@closing_quietly
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="lop-new",
        description="Begin a component of your own: writes a Python file, a YAML file and a test into this folder, "
        "which run as they are.",
    )
    parser.add_argument("--version", action="version", version=f"lop-sweeps {__version__}")
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="such as my_idea: of the module, and of the choice")
    parser.add_argument(
        "--packed",
        action="store_true",
        help="an algorithm that acts on all runs of a pack at once, instead of one run after the other",
    )
    options = parser.parse_args(argv)
    try:
        paths = write(options.kind, options.name, packed=options.packed)
    except LopError as error:
        print(f"lop-new: {error}", file=sys.stderr)
        return WRONG
    print("Written:")
    print("\n".join(f"  {path}" for path in paths))
    print("They run as they are:")
    print("\n".join(f"  {line}" for line in next_lines(options.kind, options.name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
