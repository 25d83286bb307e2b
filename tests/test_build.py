"""What a `_target_` may be, at each place of a configuration (cases 2.1)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lop_sweeps.build import _import, build, locate
from lop_sweeps.errors import ConfigError
from lop_sweeps.optimizers.sgd import SGD

# Kind of place, target.
REFUSED = [
    ("optimizer", "torch.utils.collect_env.run"),
    ("optimizer", "torch.optim.sgd.SGD"),
    ("optimizer", "os.system"),
    ("optimizer", "builtins.eval"),
    ("optimizer", "lop_sweeps.sweeps.status.main"),
    ("optimizer", "lop_sweeps.sweeps.run_directory.RunDirectory"),
    ("optimizer", "lop_sweeps.networks.mlp.MLP"),  # another kind
    ("optimizer", "lop_sweeps.optimizers.sgd"),  # a module
    ("optimizer", "lop_sweeps.optimizers.sgd.Sequence"),  # what a module imports
    ("optimizer", "lop_sweeps.optimizers.sgd.dataclass"),
    ("optimizer", "lop_sweeps.optimizers.sgd.torch"),
    ("optimizer", "lop_sweeps.optimizers.sgd.torch.utils.collect_env.run"),  # through what it imports
    ("optimizer", "lop_sweeps.optimizers.sgd.checks.number"),
    ("optimizer", "lop_sweeps.optimizers.sgd.SGD.pack"),  # a method
    ("optimizer", "lop_sweeps.optimizers.sgd.SGD.__class__"),
    ("optimizer", "lop_sweeps.optimizers.optimizer.per_run"),  # a function
    ("optimizer", "lop_sweeps.optimizers.optimizer.PackedOptimizer"),  # acts on a pack; it is not what YAML sets
    ("optimizer", "lop_sweeps.optimizers..sgd.SGD"),
    ("optimizer", ".sgd.SGD"),
    ("optimizer", "lop_sweeps.optimizers.sgd.SGD "),
    ("optimizer", "lop_sweeps.optimizers.sgd:SGD"),
    ("optimizer", "SGD"),
    ("optimizer", ""),
    ("optimizer", None),
    ("optimizer", ["lop_sweeps.optimizers.sgd.SGD"]),
    ("network", "lop_sweeps.networks.mlp.Affine"),
    ("network", "lop_sweeps.networks.unit_graph.UnitLayer"),
    ("network", "lop_sweeps.networks.linear.MLP"),  # another name of what is defined elsewhere
    ("benchmark", "lop_sweeps.benchmarks.environment.Environment"),
    ("algorithm.x", "lop_sweeps.algorithms.redo.PackedReDo"),
    ("algorithm.x", "lop_sweeps.optimizers.sgd.SGD"),
    ("agent", "lop_sweeps.networks.mlp.MLP"),
    ("tracking", "lop_sweeps.tracking.wandb.WandbRun"),
    ("tracking", "subprocess.Popen"),
]


@pytest.mark.parametrize(("path", "target"), REFUSED, ids=lambda value: str(value))
def test_what_is_no_class_of_its_kind_is_refused_by_name(path: str, target: object) -> None:
    with pytest.raises(ConfigError) as caught:
        locate({"_target_": target}, path)
    assert caught.value.key == f"{path}._target_"
    assert "\n" not in str(caught.value)


def test_classes_of_this_project_are_found() -> None:
    assert locate({"_target_": "lop_sweeps.optimizers.sgd.SGD"}, "optimizer") is SGD


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a file when it is imported; the file."""
    ran = tmp_path / "RAN"
    (tmp_path / "strange_idea.py").write_text(
        f"open({str(ran)!r}, 'w').close()\n"
        "import subprocess\nfrom dataclasses import dataclass\nfrom typing import Any, ClassVar\n"
        "from lop_sweeps.optimizers.sgd import SGD\nfrom subprocess import Popen\n"
        "@dataclass(frozen=True)\nclass Mine:\n"
        "    PER_RUN: ClassVar[frozenset] = frozenset()\n    inner: Any = None\n"
        "    def pack(self, *_): ...\n"
        "    class Nested:\n        PER_RUN = pack = None\n"
        "def function(): ...\nclass Bare: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange_idea", raising=False)
    _import.cache_clear()  # it remembers the class of the last test
    return ran


def test_a_module_is_not_imported_unless_the_caller_trusts_it(stranger: Path) -> None:
    node = {"_target_": "strange_idea.Mine"}
    for trusted in ([], ["strange"], ["strange_idea_2"], ["os"]):
        with pytest.raises(ConfigError, match="trusted"):
            locate(node, "optimizer", trusted)
        assert not stranger.exists()
    assert locate(node, "optimizer", ["strange_idea"]).__name__ == "Mine"
    assert stranger.exists()


@pytest.mark.parametrize("name", ["function", "Bare", "Popen", "subprocess", "Mine.Nested", "nothing"])
def test_of_a_trusted_module_too_only_classes_of_the_kind_are_taken(stranger: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\._target_"):
        locate({"_target_": f"strange_idea.{name}"}, "optimizer", ["strange_idea"])


def test_a_trusted_module_may_pass_on_a_class_of_this_project(stranger: Path) -> None:
    assert locate({"_target_": "strange_idea.SGD"}, "optimizer", ["strange_idea"]) is SGD


@pytest.mark.parametrize("trusted", [[""], ["."], ["lop_sweeps"], ["lop_sweeps.sweeps"], ["a b"], "os", [3], ["os."]])
def test_a_trusted_name_is_that_of_a_module_of_others(trusted: object) -> None:
    with pytest.raises(ConfigError, match="trusted"):
        locate({"_target_": "lop_sweeps.optimizers.sgd.SGD"}, "optimizer", trusted)  # type: ignore[arg-type]


def test_a_target_among_the_options_is_a_value(stranger: Path, tmp_path: Path) -> None:
    inner = {"_target_": "os.system", "command": f"touch {tmp_path / 'PWNED'}", "_args_": []}
    made = build({"_target_": "strange_idea.Mine", "inner": inner}, "optimizer", ["strange_idea"])
    assert made.inner == inner
    assert not (tmp_path / "PWNED").exists()


def test_a_module_that_cannot_be_loaded_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it raises, also by leaving (cases 4.10)."""
    monkeypatch.syspath_prepend(tmp_path)
    for i, line in enumerate(["1 / 0", "raise SystemExit(3)", "def (", "import no_such_module_at_all"]):
        (tmp_path / f"broken_{i}.py").write_text(f"{line}\n")
        with pytest.raises(ConfigError, match="cannot be imported") as caught:
            locate({"_target_": f"broken_{i}.Mine"}, "optimizer", [f"broken_{i}"])
        assert "\n" not in str(caught.value)
