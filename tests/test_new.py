"""`lop-new`: what it writes runs as it is, by the commands that it prints; and what it refuses."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from inspect import Parameter
from pathlib import Path

import pytest
import yaml

from lop_sweeps import new
from lop_sweeps.build import KINDS, locate, options, parameters
from lop_sweeps.own_modules import find_here
from lop_sweeps.sweeps import snapshot, status
from tests import extending
from tests.command import Command, lop

__all__ = ["lop"]

COMPONENTS = [(kind, False) for kind in new.KINDS if kind != "experiment"] + [("algorithm", True)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of a user's, which is the current one."""
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with extending.fresh_modules(folder):
        yield folder


def everything(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


# Of the other kinds, sections of docs/extending.md begin with `lop-new`, and tests/test_extending.py runs them.
@pytest.mark.parametrize(
    ("line", "tests"), [("algorithm in_packs --packed", 3), ("diagnostic my_measure", 2)], ids=["packed", "diagnostic"]
)
def test_what_is_written_runs_as_it_is(line: str, tests: int, lop: Command, mine: Path, tmp_path: Path) -> None:
    kind, name, *_ = line.split()
    assert new.main(line.split()) == 0
    assert extending.run_tests(mine, f"test_{name}", tmp_path / "tests") == tests
    assert lop(*shlex.split(new.next_lines(kind, name)[1])[1:]).code == 0


def test_packed_is_another_form_of_the_same(mine: Path) -> None:
    new.write("algorithm", "in_packs", packed=True)
    assert "class PackedInPacks(PackedIntervention[InPacks])" in (mine / "in_packs.py").read_text()


@pytest.mark.parametrize(("kind", "packed"), COMPONENTS)
def test_yaml_says_every_option_with_the_default_of_the_class(kind: str, packed: bool, mine: Path) -> None:
    """So that nobody wonders which of the two counts."""
    new.write(kind, "some_name", packed=packed)
    group = new.KINDS[kind].group
    place = group.replace("/", ".")
    node = yaml.safe_load((mine / "conf" / group / "some_name.yaml").read_text())
    node = node.get("some_name", node.get(group, node))
    keyed = kind in ("algorithm", "diagnostic")
    made = locate(node, f"{place}.some_name" if keyed else place, trusted=["some_name"])
    assert f"{made.__module__}.{made.__qualname__}" == "some_name.SomeName"
    known = {name: one.default for name, one in parameters(made).items() if name not in ("inputs", "outputs")}
    assert set(known) == {name for name in options(node) if name != "scales"}
    assert all(float(node[name]) == default for name, default in known.items() if default is not Parameter.empty)
    assert set(KINDS[place].needs) <= set(dir(made))


def test_nothing_of_the_template_is_left(mine: Path) -> None:
    for kind in new.KINDS:
        for text in (*new.rendered(kind, "short"), *new.rendered(kind, "short").values()):
            assert f"my_{kind}" not in text.lower()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("algoritm x", "did you mean algorithm? Allowed: algorithm, benchmark"),
        ("figure x", "Allowed: algorithm, benchmark"),
        ("algorithm 3d", "a name of small letters, digits and _, such as my_idea"),
        ("algorithm my-idea", "a name of small letters, digits and _, such as my_idea"),
        ("algorithm MyIdea", "a name of small letters, digits and _, such as my_idea"),
        ("algorithm ideas/one", "a name of small letters, digits and _, such as my_idea"),
        ("algorithm class", "means something else"),
        ("algorithm null", "means something else"),
        ("algorithm redo", "algorithm=redo is a choice already"),
        ("experiment demo_digits", "experiment=demo_digits is a choice already"),
        ("optimizer random", "Python has a module random already"),
        ("algorithm one_run", "its class would be OneRun"),
        ("network network", "its class would be Network"),
        ("data mnist", "benchmark/data=mnist is a choice already"),
        ("change view", "its class would be View"),
        ("network mine --packed", "--packed goes with an algorithm"),
    ],
)
def test_a_refusal_says_what_is_allowed_and_writes_nothing(
    line: str, said: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new.main(line.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not everything(mine)


@pytest.mark.parametrize("there", ["my_idea.py", "conf/algorithm/my_idea.yaml", "test_my_idea.py"])
def test_it_never_writes_over_a_file(there: str, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / there).parent.mkdir(parents=True, exist_ok=True)
    (mine / there).write_text("precious")
    assert new.main(["algorithm", "my_idea"]) == 2
    assert there in capsys.readouterr().err
    assert everything(mine) == {there: "precious"}


def test_two_kinds_of_one_name_do_not_meet(mine: Path) -> None:
    assert new.main(["algorithm", "my_idea"]) == 0
    before = everything(mine)
    assert new.main(["network", "my_idea"]) == 2
    assert everything(mine) == before


def test_the_checkout_is_no_place_for_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(extending.PAGE.parents[1])
    assert new.main(["algorithm", "my_idea"]) == 2
    assert "a folder of your own" in capsys.readouterr().err
    assert not Path("my_idea.py").exists()


def test_a_folder_that_cannot_be_written_to_is_named(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mine / "conf").write_text("no folder")
    assert new.main(["algorithm", "my_idea"]) == 2
    assert "conf" in capsys.readouterr().err
    assert everything(mine) == {"conf": "no folder"}


def test_a_trusted_module_of_the_current_folder_is_found_and_no_other(lop: Command, mine: Path) -> None:
    """A file that happens to have the name of what a library tries to import must not be run."""
    (mine / "helper_of_mine.py").write_text("open('RAN', 'a').close()\n")
    (mine / "an_idea.py").write_text("import helper_of_mine\n")
    line = ["scale=tiny", "+algorithm.x._target_=an_idea.Idea"]
    refused = lop(*line)
    assert (refused.code, "trusted=[an_idea]" in refused.err) == (2, True)
    refused = lop(*line, "trusted=[an_idea]")
    assert refused.code == 2
    assert "helper_of_mine is in this folder: name it in `trusted`, too" in refused.err
    assert not (mine / "RAN").exists()
    lop(*line, "trusted=[an_idea,helper_of_mine]")
    assert (mine / "RAN").exists()


def test_whoever_trusts_it_finds_it_here(lop: Command, mine: Path, tmp_path: Path) -> None:
    """Also who verifies runs, and who copies the code for jobs; what Python finds without that comes first."""
    new.write("algorithm", "an_idea_of_mine")
    choice = ["--config-dir", "conf", "algorithm=an_idea_of_mine", "trusted=[an_idea_of_mine]"]
    assert lop(*choice, "scale=tiny", "benchmark.num_tasks=1").code == 0
    assert status.main(["--verify", "--trusted", "an_idea_of_mine", "sweeps/permuted_digits-tiny"]) == 0
    code = snapshot.take(tmp_path / "code", ["an_idea_of_mine"])
    assert (code / "an_idea_of_mine.py").read_text() == (mine / "an_idea_of_mine.py").read_text()
    (mine / "yaml.py").write_text("raise RuntimeError")
    find_here(["yaml"])
    found = importlib.util.find_spec("yaml")
    assert found
    assert found.origin == yaml.__file__


@pytest.mark.parametrize(
    ("what", "becomes", "said"),
    [
        ("@dataclass(frozen=True)\n", "", "is @dataclass(frozen=True) missing above the class?"),
        ("(OneRun)", "", "derive it from lop_sweeps.algorithms.one_run.OneRun"),
        ("before_update", "before_updates", "does nothing: it has none of before_update, "),
        ("strength: float = 1e-2", "strengths: float = 1e-2", "did you mean strengths? Allowed: strengths"),
    ],
)
def test_what_one_forgets_is_said_when_it_is_planned(
    what: str, becomes: str, said: str, lop: Command, mine: Path
) -> None:
    new.write("algorithm", "my_idea")
    file = mine / "my_idea.py"
    file.write_text(file.read_text().replace(what, becomes))
    line = ["algorithm=my_idea", "scale=tiny"]
    assert "add --config-dir conf" in lop(*line).err
    ended = lop("--config-dir", "conf", *line)
    assert "add your module's name to `trusted`: trusted=[my_idea]" in ended.err
    ended = lop("--config-dir", "conf", *line, "trusted=[my_idea]")
    assert ended.code == 2
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", new.KINDS)
def test_the_printed_commands_work_as_printed(kind: str, mine: Path) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def shell(line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=mine, env={**os.environ, "PATH": programs}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    said = shell(f"lop-new {kind} my_own")
    lines = [line.strip() for line in said.partition("as they are:\n")[2].splitlines()]
    assert len(lines) == 3
    for line in lines:
        shell(line)
