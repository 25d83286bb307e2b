"""Reading YAML that somebody else may have written: the one place that parses the `config.yaml` of a run.

What is too large, too deep or repeats itself too often is refused before it is built. libyaml's builder recurses in C
and has no limit, so that 100,000 `[` end the process; and an alias of an alias of an alias (ten times ten times ...)
is small in a file and endless for whoever walks through the result. Imports nothing heavy.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import read_bytes

MAX_BYTES = 1 << 20  # a run's configuration has two or three thousand
MAX_DEPTH = 100
MAX_NODES = 1_000_000  # after every alias is replaced by what it stands for
# Text in which nothing can be nested deeper than some ten levels, and nothing repeated, needs no closer look, which
# takes as long as the reading: few brackets, no far indentation, no chain of dashes, no alias.
PLAIN_BRACKETS, PLAIN_INDENTATION = 40, 40
INDENTATION = re.compile(r"(?:^|[\r\n\x85\u2028\u2029])[ \t?:-]*")  # all that libyaml takes for the end of a line
MAX_DIGITS = 1_000  # of an integer: Python prints none of more than 4,300


class YamlError(LopError, yaml.YAMLError):
    """A file that is no YAML, or that is refused; one line."""


# PyYAML takes `1e-5` for a string; Hydra, which composed the configuration, for a number. Twelve digits with an `e`
# among them are none: so looks one in 300 of the hashes that stand under `configuration`, such as 83103051e493.
FLOAT = re.compile(r"^(?![\de]{12}$)[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
FLOAT_STARTS = list("-+.0123456789")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # C: 8 times faster
    """Takes for a number what Hydra takes for one, and refuses endless ones."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise YamlError(f"line {node.start_mark.line + 1}: a number of more than {MAX_DIGITS:,} digits")
        return int(super().construct_yaml_int(node))


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, FLOAT_STARTS)


def load(path: Path) -> Any:
    """What a YAML file holds. Raises `YamlError`, whose one line names the file."""
    try:
        return parse(read_text(path))
    except YamlError as error:
        text = str(error)
        raise YamlError(text if str(path) in text else f"{path}: {text}") from error


def read_text(path: Path) -> str:
    """The text of a YAML file. Raises `YamlError`, whose one line names the file."""
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: cannot be read: is not UTF-8 ({error.reason} at byte {error.start})") from error


def parse(text: str) -> Any:
    """What a YAML text holds: null, booleans, numbers, text, dates, lists and dictionaries. Raises `YamlError`."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"has {len(text):,} characters; at most {MAX_BYTES:,} are read")
    try:
        if not _is_plain(text):
            _check(text)
        return yaml.load(text, Loader=Loader)
    except YamlError:
        raise
    except Exception as error:  # also of the constructors: a number of 5,000 digits, a 13th month, !!bool 2
        raise YamlError(f"is no YAML that can be read: {' '.join(str(error).split())}") from error


def _is_plain(text: str) -> bool:
    if text.count("[") + text.count("{") > PLAIN_BRACKETS or ("&" in text and "*" in text):
        return False
    return max(map(len, INDENTATION.findall(text)), default=0) <= PLAIN_INDENTATION


def _check(text: str) -> None:
    """Raise `YamlError` for a text that is nested too deeply, or too large once its aliases are replaced."""
    sizes: dict[str, int] = {}  # nodes of what each anchor stands for
    open_nodes: list[tuple[str | None, int]] = []  # its anchor, and the nodes before it
    nodes = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise YamlError(f"*{event.anchor} stands for something that holds it, or for nothing")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_nodes) > MAX_DEPTH:
            raise YamlError(f"is nested more than {MAX_DEPTH} levels deep")
        if nodes > MAX_NODES:
            raise YamlError(f"holds more than {MAX_NODES:,} values, once its aliases are replaced")
