"""docs/extending.md: its files run as they are shown, its commands as they are typed."""

from __future__ import annotations

import ast
import importlib
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lop_sweeps import build, new
from lop_sweeps.analysis import __main__ as figures
from tests import extending, runs
from tests.command import Command, lop

__all__ = ["lop"]

SECTIONS = {title: text for title, text in extending.sections().items() if extending.commands(text)}


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder of a user's."""
    folder = tmp_path / "mine"
    folder.mkdir()
    with extending.fresh_modules(folder):
        yield folder


# Of which others show the same, more cheaply.
LONG = ("A study", "A diagnostic", "A data set or a change", "Units that are read in several columns")


@pytest.mark.parametrize("title", [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in SECTIONS])
def test_a_section_runs_as_it_is_typed(
    title: str, lop: Command, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    commands, shown = extending.commands(SECTIONS[title]), extending.files(SECTIONS[title])
    written = {name for line in commands for name in written_by(line)}
    extending.write(mine, {name: text for name, text in shown.items() if name not in written})
    for number, line in enumerate(commands):
        words = shlex.split(line)
        if words[0] == "lop":
            ended = lop(*words[1:])
            assert ended.code == 0, f"{line}\n{ended.err}"
        elif words[0] == "lop-new":
            assert new.main(words[1:]) == 0
            for name in set(shown) & set(written_by(line)):
                assert (mine / name).read_text() == shown[name], f"the page shows another {name} than lop-new writes"
        elif words[0] == "lop-figures":
            assert figures.main(words[1:]) == 0
        elif words[:3] == ["python", "-m", "pytest"]:
            assert extending.run_tests(mine, words[3].removesuffix(".py"), tmp_path / str(number))
        elif words[0] == "python":
            monkeypatch.setattr(sys, "argv", words[1:])
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert line == "mkdir mine && cd mine"
    if title == "A diagnostic":
        assert list(mine.glob("sweeps/*/figures/activation_size.png"))
    if title == "At every step, compiled":
        logs = [next(mine.glob(f"sweeps/{name}/*/metrics.jsonl")).read_bytes() for name in ("on_fused", "on_torch")]
        assert logs[0] != logs[1]
        runs.assert_close(*logs, 1e-9)


def written_by(line: str) -> list[str]:
    """The files that a line of `lop-new` writes."""
    words = shlex.split(line)
    return list(new.rendered(words[1], words[2])) if words[0] == "lop-new" else []


CONTRIBUTION = extending.sections()["As a contribution"]


@pytest.mark.parametrize(
    ("module", "group", "asked"),
    [
        ("my_l2_init", "algorithm", "algorithm=my_l2_init"),
        ("crelu", "network", "network=crelu"),
        ("my_benchmark", "benchmark", "benchmark=my_benchmark"),
        ("activation_size", "diagnostics", "diagnostics=activation_size"),
        ("my_optimizer", "optimizer", "optimizer=my_optimizer"),
    ],
)
def test_as_a_contribution_it_lies_elsewhere_and_is_the_same(
    module: str, group: str, asked: str, lop: Command, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that is added to the package's; and nothing is trusted."""
    shown = {name: text for section in extending.sections().values() for name, text in extending.files(section).items()}
    shown |= {name: text for name, text in new.rendered("optimizer", "my_optimizer").items() if name not in shown}
    package = importlib.import_module(build.KINDS[group].package)
    assert f"`{package.__name__.replace('.', '/')}/" in CONTRIBUTION
    assert f"`conf/{group}/" in CONTRIBUTION
    inside, outside = mine / "package", mine / "conf"
    extending.write(inside, {f"{module}.py": shown[f"{module}.py"]})
    choice = shown[f"conf/{group}/{module}.yaml"].replace(
        f"_target_: {module}.", f"_target_: {package.__name__}.{module}."
    )
    extending.write(mine, {f"conf/{group}/{module}.yaml": choice})
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(inside)])
    importlib.invalidate_caches()
    ended = lop("--config-dir", str(outside), asked, "scale=tiny", "benchmark.num_tasks=1")
    assert ended.code == 0, ended.err


def test_the_template_of_an_algorithm_is_the_example_of_the_page_with_more_comments() -> None:
    shown = extending.files(extending.sections()["An algorithm"])["my_l2_init.py"]
    written = new.rendered("algorithm", "my_l2_init")["my_l2_init.py"]
    assert _code(written) == _code(shown)
    assert len([line for line in shown.splitlines() if line]) <= 20


def _code(source: str) -> str:
    """Without comments, docstrings and imports of the future."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [one for one in node.body if not isinstance(one, ast.Expr)]
    tree.body = [one for one in tree.body if not (isinstance(one, ast.ImportFrom) and one.module == "__future__")]
    return ast.unparse(tree)
