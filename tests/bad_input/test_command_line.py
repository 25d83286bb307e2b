"""`lop` and `lop -m` mean the same, no override is lost without a word, and refusals are true (cases 3.5 and 4)."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.types import RunMode

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps.expansion import asked_variants, choose_variants, expand
from lop_sweeps.sweeps.forecast import MANY, warning
from lop_sweeps.sweeps.planning import Point, make_plan
from lop_sweeps.sweeps.run_directory import RunDirectory, runs_in
from lop_sweeps.sweeps.sweeper import compose_points, make_single, points_of
from tests import runs
from tests.bad_input.conftest import Command, Ended

TINY = ["scale=tiny", "benchmark.num_tasks=1", "benchmark.examples_per_task=20", "network.hidden=[4]"]
CBP, RATE = "algorithm.continual_backprop", "algorithm.continual_backprop.replacement_rate"
PLAN = "hydra.launcher.plan=true"

STUDY = """\
# @package _global_
variants:
  plain: [algorithm=backprop]
  L2: [algorithm=l2, optimizer.weight_decay=0.5]
  "1e-3 (it's small), 5%": [optimizer.step_size=0.001]
  grid: ["optimizer.step_size=0.1,0.2"]
"""


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """The arguments that name an experiment with variants, in a config folder of its own."""
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(STUDY)
    return ["--config-dir", str(tmp_path / "conf"), "experiment=mine", *TINY]


def stored(sweep: Path) -> list[dict[str, Any]]:
    return [run.config() for run in runs_in(sweep)] if sweep.exists() else []


def swept(*line: str) -> list[Point]:
    """The points of `lop -m`."""
    return compose_points(runs.composer(), list(points_of(runs.composer(), {}, [*TINY, *line])))[0]


def is_refused(ended: Ended, *words: str) -> None:
    """In one line, without a traceback, before anything is written."""
    assert ended.code == 2, ended.err
    assert ended.err.startswith("lop: ")
    assert ended.err.count("\n") == 1, ended.err
    for word in words:
        assert word in ended.err


# --- 3.5 variants ---


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["single", "sweep"])
def test_a_variant_is_run_as_it_is_written(lop: Command, tmp_path: Path, study: list[str], flags: list[str]) -> None:
    """Cases 3.5; the command line wins over the variant."""
    ended = lop(*flags, *study, "variant=L2", "seed=1", "optimizer.step_size=0.02")
    assert ended.code == 0, ended.err
    (config,) = stored(tmp_path / "sweeps" / "mine")
    assert (config["variant"], config["choices"]["algorithm"], config["seed"]) == ("L2", ["l2"], 1)
    assert (config["optimizer"]["weight_decay"], config["optimizer"]["step_size"]) == (0.5, 0.02)


def test_several_variants_are_a_list_or_a_sweep(lop: Command, tmp_path: Path, study: list[str]) -> None:
    """Cases 3.5; names may hold anything, and Hydra's own launcher takes them, too."""
    assert "2 runs" in lop("-m", *study, "variant=plain,L2", PLAN).err
    assert "2 runs" in lop("-m", *study, "variant=[plain,L2]", PLAN).err
    assert "2 runs" in lop("-m", *study, "variant=glob(gr*)", PLAN).err
    assert "1 run," in lop("-m", *study, "variant=grid", "optimizer.step_size=0.3", PLAN).err
    ended = lop("-m", *study, "variant='1e-3 (it\\'s small), 5%'", "hydra/launcher=basic")
    assert ended.code == 0, ended.err
    assert [config["variant"] for config in stored(tmp_path / "sweeps" / "mine")] == ["1e-3 (it's small), 5%"]


def test_an_unknown_variant_is_refused_with_the_names(lop: Command, tmp_path: Path, study: list[str]) -> None:
    """Cases 3.5; so is one where there are none, and one that is itself a sweep without -m."""
    for flags in ([], ["-m"]):
        is_refused(lop(*flags, *study, "variant=l2"), "'l2'", "plain, L2")
        is_refused(lop(*flags, *TINY, "variant=L2"), "'L2'", "no variants")
    is_refused(lop("-m", *study, "variant=plain,nothing"), "'nothing'")
    is_refused(lop(*study, "variant=grid"), "grid", "-m")
    is_refused(lop(*study), "-m", "variant=")
    assert not (tmp_path / "sweeps").exists()


def test_variants_are_chosen_by_name_in_the_order_of_the_experiment() -> None:
    variants: dict[str | None, list[str]] = {"b": [], "a": [], "2": []}
    asked, rest = asked_variants(["seed=1", "variant=a,b", "optimizer.step_size=1"])
    assert rest == ["seed=1", "optimizer.step_size=1"]
    assert list(choose_variants(variants, asked)) == ["b", "a"]
    assert list(choose_variants(variants, asked_variants(["variant=2"])[0])) == ["2"]
    assert choose_variants(variants, asked_variants(["variant=null"])[0]) == variants


def test_the_study_of_the_readme_is_what_it_says(lop: Command, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "variants:" in block)
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "experiment" / "my_study.yaml").write_text(example)
    line = ["--config-dir", "my_conf", "experiment=my_study", *TINY, PLAN]
    assert "20 runs" in lop("-m", *line, "seed=range(5)").err
    assert "6 runs" in lop("-m", *line, "variant=L2,backprop", "seed=0,1").err
    assert "1 run," in lop(*line, "variant=L2", "seed=7").err


# --- 4.1 what only some of the choices have ---


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["algorithm=continual_backprop,[l2,continual_backprop]", f"{CBP}.maturity_threshold=7"], None),
        (["algorithm=backprop,continual_backprop", f"{RATE}=1e-3"], "1 of 2"),
        (["algorithm=backprop,continual_backprop", f"{RATE}=1e-3,1e-4"], "1 of 2"),
        (["algorithm=backprop,l2,continual_backprop", f"++{RATE}=1e-3"], "1 of 3"),
        (["algorithm=backprop,continual_backprop", f"{CBP}={{replacement_rate: 0.5}}"], "1 of 2"),
        (["algorithm=backprop,continual_backprop", f"~{CBP}.decay_rate"], "1 of 2"),
        (["optimizer=sgd,adam", "optimizer.beta1=0.8"], "1 of 2"),
        (["optimizer=sgd,adam", "++optimizer.beta1=0.8"], "1 of 2"),
        (["optimizer=sgd,adam", "~optimizer.beta1"], "1 of 2"),
        (["tracking=none,wandb", "tracking.mode=offline"], "1 of 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_is_set_where_it_is_and_the_plan_says_where(
    capsys: pytest.CaptureFixture[str], line: list[str], said: str | None
) -> None:
    """Cases 4.1."""
    swept(*line)
    told = capsys.readouterr().err
    assert ("set in" in told) == (said is not None)
    assert said is None or f"set in {said} points" in told


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["algorithm=backprop,l2", f"{RATE}=1e-3"], ["continual_backprop"]),
        (["algorithm=backprop,l2", f"++{RATE}=1e-3"], ["continual_backprop"]),
        (["algorithm=backprop", f"{RATE}=1e-3"], ["continual_backprop"]),
        (["algorithm=backprop,continual_backprop", f"{CBP}.replacment_rate=1"], ["did you mean replacement_rate?"]),
        (["algorithm=backprop,continual_backprop", f"+{CBP}.replacment_rate=1"], ["did you mean replacement_rate?"]),
        (["algorithm=backprop,continual_backprop", f"{RATE}=2"], [RATE, "<= 1"]),
        (["optimizer=sgd,adam", "~optimizer.beta3"], ["optimizer.beta3", "delete"]),
        (["optimizer=sgd,adam", "optimizer={beta3: 1}"], ["beta3"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_no_choice_has_is_refused(line: list[str], words: list[str]) -> None:
    """Cases 4.1."""
    with pytest.raises(ConfigError) as caught:
        swept(*line)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_hydras_own_launcher_is_not_told_what_a_point_has_not(lop: Command) -> None:
    """Cases 4.1."""
    ended = lop("-m", *TINY, "algorithm=backprop,continual_backprop", f"{RATE}=1e-3", "hydra/launcher=basic")
    assert (ended.code, ended.err.count("1 done")) == (0, 2)


@pytest.mark.parametrize(
    "line",
    [
        ["optimizer.step_size=0.1", "optimizer={momentum: 0.5}", "optimizer={step_size: 0.2}"],
        ["optimizer={step_size: 0.2}", "optimizer.step_size=0.1"],
        ["optimizer={step_size: 0.2, beta1: 0.5}", "optimizer=adam", "optimizer={step_size: 0.3}", "~optimizer.beta2"],
        ["optimizer.step_size=0.1", "++optimizer.step_size=0.3", "optimizer.step_size=0.4"],
        ["++optimizer.step_size=0.3", "optimizer.step_size=0.4", "++optimizer.step_size=0.5"],
        ["optimizer=adam", "optimizer=sgd"],
        ["+optimizer={reset_momentum: true}"],
        ["algorithm=continual_backprop", f"{CBP}={{decay_rate: 0.5}}", f"++{CBP}={{maturity_threshold: 3}}"],
        ["network={hidden: [3]}", "network={hidden: [4,5]}"],
    ],
    ids=" ".join,
)
def test_what_is_given_twice_means_the_same_in_a_sweep(line: list[str]) -> None:
    """Dictionaries are merged, later values win, whether with -m or not."""
    loader = runs.composer().loader
    single = loader.load_configuration("config", [*TINY, *line], RunMode.RUN)
    choices = {str(group): choice for group, choice in single.hydra.runtime.choices.items()}
    del single.__dict__["_content"]["hydra"]
    (point,) = swept(*line)
    assert point.config == make_single(single, choices).config


def test_later_dictionaries_and_sweeps_replace_only_what_they_set() -> None:
    def expanded(*line: str, variant: list[str] | None = None) -> list[list[str]]:
        return [lines for _, lines in expand(runs.composer().loader, {"v": variant or []}, {}, line)]

    assert expanded("a={x:1}", "a={y:2}") == [["a={x:1}", "a={y:2}"]]
    assert expanded("a={x:1},{x:2}", "a={y:2}") == [["a={x:1}", "a={y:2}"], ["a={x:2}", "a={y:2}"]]
    assert expanded("a={x:1}", "a=3") == [["a={x:1}", "a=3"]]
    assert expanded("a=3", "b=1", "a=4,5") == [["b=1", "a=4"], ["b=1", "a=5"]]
    assert expanded("a=3", variant=["a=1,2"]) == [["a=3"]]
    assert expanded("++a=3", variant=["++a=1,2"]) == [["++a=3"]]
    assert expanded("a={x:3}", variant=["a={y:1}", "a.x=2"]) == [["a={y:1}", "a.x=2", "a={x:3}"]]


@pytest.mark.parametrize("tasks", ["${seed}", "${oc.select:seed,9}"])
def test_what_hangs_on_the_seed_is_that_of_each_point(tasks: str) -> None:
    """Points that differ in their seed alone share what was composed."""
    points = swept(f"benchmark.num_tasks={tasks}", "seed=2,3")
    assert [point.num_tasks for point in points] == [2, 3]


def test_an_item_of_a_list_can_be_set_in_a_sweep(lop: Command) -> None:
    assert [point.config["network"]["hidden"] for point in swept("network.hidden.0=3,5")] == [[3], [5]]
    assert lop("-m", *TINY, "benchmark=permuted_digits", "network.hidden.0=3", PLAN).code == 0
    is_refused(lop("-m", *TINY, "benchmark=permuted_digits", "network.hidden.7=3", PLAN), "network.hidden")


def test_a_sweep_may_be_called_0_and_a_seed_is_an_integer() -> None:
    points = swept("sweep=${seed}", "seed=0,1.0")
    assert [point.directory.path.parent.name for point in points] == ["0", "1.0"]
    assert [repr(point.config["seed"]) for point in points] == ["0", "1"]


def test_what_is_written_for_readers_is_not_given(lop: Command) -> None:
    is_refused(lop("-m", *TINY, "benchmark=permuted_digits", "+choices={benchmark: other}"), "choices")
    is_refused(lop(*TINY, "benchmark=permuted_digits", "+choices={benchmark: other}"), "choices")


def test_what_a_later_override_replaces_is_said(lop: Command) -> None:
    for flags in ([], ["-m"]):
        ended = lop(*flags, *TINY, "seed=1", "optimizer={momentum: 0.5}", "seed=3", "optimizer={momentum: 0.4}", PLAN)
        assert ended.code == 0
        assert "seed=1 has no effect: seed=3" in ended.err
        assert ended.err.count("no effect") == 1
    assert "seed=1,2 has no effect" in lop("-m", *TINY, "seed=1,2", "seed=3", PLAN).err


# --- 4.2 to 4.6 ---


@pytest.mark.parametrize("where", ["--config-dir={}", "hydra.searchpath=[file://{}]"])
def test_hints_see_the_search_path_and_come_once(lop: Command, tmp_path: Path, where: str) -> None:
    """Cases 4.2."""
    (tmp_path / "conf" / "algorithm").mkdir(parents=True)
    mine = "l2_mine:\n  _target_: lop_sweeps.algorithms.redo.ReDo\n  nothing: 1\n"
    (tmp_path / "conf" / "algorithm" / "mine.yaml").write_text(mine)
    folder = where.format(tmp_path / "conf")
    is_refused(lop("-m", folder, "algorithm=mine,[l2,mine]", *TINY), "algorithm.l2_mine.nothing")
    is_refused(lop(folder, "algorithm=mine", "optimizer.stepsize=1"), "did you mean step_size?")
    is_refused(lop(folder, "algorithm=[l2,mien]"), "algorithm = 'mien'", "mine")
    is_refused(lop("-m", folder, "algorithm=[l2],[mien,mine]"), "algorithm = 'mien'", "mine")
    assert "1 run," in lop("-m", folder, "algorithm=glob(mi*)", *TINY, "~algorithm.l2_mine.nothing", PLAN).err


def test_a_failure_of_another_kind_has_no_second_line(lop: Command, tmp_path: Path) -> None:
    """Cases 4.2."""
    (tmp_path / "conf" / "benchmark").mkdir(parents=True)
    (tmp_path / "conf" / "benchmark" / "mine.yaml").write_text("{{{")
    is_refused(lop("--config-dir", str(tmp_path / "conf"), "benchmark=mine"))
    is_refused(lop("hydra.searchpath=[file://nowhere]"), "hydra.searchpath", "nowhere")
    is_refused(lop("--config-dir", "nowhere"), "nowhere")
    is_refused(lop("seed=1,2"), "--multirun")


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"])
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["single", "sweep"])
def test_folders_of_hydra_are_not_ignored(lop: Command, key: str, flags: list[str]) -> None:
    """Cases 4.3."""
    is_refused(lop(*flags, *TINY, f"{key}=elsewhere"), key, "paths.sweeps")


def test_flags_may_stand_anywhere(lop: Command, tmp_path: Path) -> None:
    ended = lop("seed=0", "-m", "scale=tiny", "--config-dir", str(tmp_path), "network.hidden=[4]", PLAN)
    assert (ended.code, "would train 1" in ended.err) == (0, True)
    is_refused(lop("seed=0", "-m", "trusted=[os]", "--config-dir", str(tmp_path), "optimizer._target_=os.system"), "os")


def test_a_launcher_without_m_is_not_ignored(lop: Command, tmp_path: Path) -> None:
    is_refused(lop(*TINY, "hydra/launcher=slurm"), "hydra/launcher", "-m")
    assert "would train" in lop(*TINY, PLAN).err
    assert not (tmp_path / "sweeps").exists()


def test_home_is_home_in_every_path(lop: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases 4.4."""
    from lop_sweeps import load_run
    from lop_sweeps.analysis.reading.load import load, output_folder
    from lop_sweeps.benchmarks.incremental_cifar100 import IncrementalCIFAR100
    from lop_sweeps.data import data_root
    from lop_sweeps.sweeps.slurm import SlurmLauncher, interpreter
    from lop_sweeps.sweeps.status import main as lop_status

    home = tmp_path / "home"
    (home / "conf" / "experiment").mkdir(parents=True)
    (home / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    monkeypatch.setenv("HOME", str(home))
    line = [*TINY, 'paths.sweeps="~/s"', "paths.data=~/d", "experiment=mine"]
    assert lop(*line, "hydra.searchpath=[file://~/conf]").code == 0
    assert lop(*line, "--config-dir=~/conf", "-m", "seed=4", "hydra/launcher=basic").code == 0
    (first, _) = [run.path for run in runs_in(home / "s" / "mine")]
    assert RunDirectory(first).config()["paths"] == {"sweeps": str(home / "s"), "data": str(home / "d")}
    assert not (tmp_path / "~").exists()
    assert lop_status(["~/s/mine"]) == 0
    assert len(load("~/s/mine").runs) == len(load("~/s/m*").runs) == 2
    assert output_folder("~/s/mine", "~/out") == home / "out"
    assert load_run(f"~/s/mine/{first.name}")[1]["seed"] == 3
    assert data_root("~/d") == home / "d"
    assert IncrementalCIFAR100(2, file="~/mine.npz")._path(tmp_path) == home / "mine.npz"
    assert str(home / "bin" / "python") in interpreter(SlurmLauncher(python="~/bin/python"))
    is_refused(lop(*TINY, "paths.sweeps=~nobody_of_that_name/s"), "paths.sweeps", "home")


@pytest.mark.parametrize("given", ["+experiment=demo_digits", "++experiment=demo_digits", "+optimizer=adam"])
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["single", "sweep"])
def test_a_plus_too_many_is_named(lop: Command, given: str, flags: list[str]) -> None:
    """Cases 4.5."""
    is_refused(lop(*flags, given), f"without the +: {given.lstrip('+')}")


def test_hydras_values_can_be_used_in_a_sweep(lop: Command, tmp_path: Path) -> None:
    """Cases 4.6: as without -m, each point its own."""
    name = "sweep=${hydra:runtime.choices.optimizer}-${hydra:job.override_dirname}"
    line = [*TINY, "seed=0", "hydra.job.config.override_dirname.exclude_keys=[sweep]"]
    assert lop(*line, name, "optimizer=sgd").code == 0
    alone = [path.name for path in (tmp_path / "sweeps").iterdir()]
    ended = lop("-m", *line, name, "optimizer=sgd,adam")
    assert ended.code == 0, ended.err
    assert "1 finished already" in ended.err
    both = sorted(path.name for path in (tmp_path / "sweeps").iterdir() if not path.name.startswith("."))
    assert (len(alone), len(both)) == (1, 2)
    assert both[1] == alone[0]
    assert both[0].startswith("adam-")


# --- 4.7 to 4.10 ---


def test_a_large_sweep_says_so_and_how_to_see_its_plan(tmp_path: Path) -> None:
    """Cases 4.7: very many runs, or hours of them."""
    points = [runs.point(tmp_path, *TINY, f"seed={seed}") for seed in range(MANY + 1)]
    few = make_plan(points[:-1], 2, None, 1, create=False)
    assert warning(few, 2) == ""
    many = make_plan(points, 2, None, 1, create=False)
    assert f"{MANY + 1} runs" in warning(many, 2)
    assert PLAN in warning(many, 2)
    long = make_plan([runs.point(tmp_path, "benchmark.num_tasks=10000000")], 2, None, 1, create=False)
    assert "at least" in warning(long, 2)
    assert PLAN in warning(long, 2)


def test_an_experiment_that_sweeps_by_itself_can_be_looked_at_first(lop: Command, tmp_path: Path) -> None:
    """Cases 4.7."""
    ended = lop("experiment=demo_digits", *TINY, PLAN)
    assert ended.code == 0, ended.err
    assert "25 runs" in ended.err
    assert "shrink and perturb" in ended.err
    assert not (tmp_path / "sweeps").exists()


def test_every_command_has_a_version_and_help_without_doubled_signs(
    lop: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases 4.8."""
    from lop_sweeps import __version__
    from lop_sweeps.analysis.__main__ import main as lop_figures
    from lop_sweeps.data import main as lop_data
    from lop_sweeps.sweeps.status import main as lop_status

    assert lop("--version").out == f"lop-sweeps {__version__}\n"
    for command in (lop_figures, lop_data, lop_status):
        for flag in ("--version", "--help"):
            with pytest.raises(SystemExit) as caught:
                command([flag])
            assert caught.value.code == 0
            said = capsys.readouterr().out
            assert (__version__ in said) == (flag == "--version")
            assert "%%" not in said


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """Cases 4.8: `lop --help | head -2`, buffered or not."""
    for buffering in ("", "1"):
        command = f"{shlex.quote(sys.executable)} -m lop_sweeps --help"
        program = f"PYTHONUNBUFFERED={buffering} {command} | true; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("0\n", "")


def test_info_is_said_once(lop: Command) -> None:
    """Cases 4.8."""
    program = [sys.executable, "-m", "lop_sweeps", "--info", "searchpath"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.stdout + done.stderr).count("pkg://lop_sweeps.conf") == 1


BROKEN = """\
from dataclasses import dataclass
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.networks.mlp import MLP

@dataclass(frozen=True)
class Idea(ReDo):
    fail: str = "init"
    def __post_init__(self):
        if self.fail == "init":
            {}["missing"]
    def check(self, network):
        raise RuntimeError("first line\\nsecond line")

class Net(MLP):
    def unit_graph(self):
        from dataclasses import replace
        first, *others = super().unit_graph()
        return (replace(first, next_weight="layers.7.weight"), *others)
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "broken_idea.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return [*TINY, "trusted=[broken_idea]"]


@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["single", "sweep"])
def test_an_own_component_that_raises_is_one_line(
    lop: Command, broken: list[str], flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cases 4.9 and 4.10; the traceback is there for who asks."""
    line = [*flags, *broken, "+algorithm.idea._target_=broken_idea.Idea"]
    is_refused(lop(*line), "algorithm.idea", "KeyError", "HYDRA_FULL_ERROR=1")
    is_refused(lop(*line, "+algorithm.idea.fail=check"), "algorithm.idea", "first line")
    wrong = lop(*flags, *broken, "network._target_=broken_idea.Net")
    is_refused(wrong, "network.unit_graph()[0].next_weight", "layers.7.weight")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    ended = lop(*line)
    assert "Traceback" in ended.err
    assert '{}["missing"]' in ended.err


def test_stored_configurations_are_yaml(lop: Command, tmp_path: Path) -> None:
    """What a sweep stores of Hydra's values is plain."""
    assert lop("-m", *TINY, "sweep=${hydra:runtime.choices.optimizer}").code == 0
    (run,) = runs_in(tmp_path / "sweeps" / "sgd")
    assert "hydra:" not in yaml.safe_dump(run.config())


def test_a_benchmark_without_lengths_says_that_a_scale_does_nothing(
    lop: Command, caplog: pytest.LogCaptureFixture
) -> None:
    line = ["~benchmark.scales", "benchmark.num_tasks=2", "benchmark.examples_per_task=20", "network.hidden=[4]"]
    assert lop("-m", *line, "scale=paper", "optimizer.step_size=0.01,0.02").code == 0
    assert caplog.text.count("the benchmark has no table of lengths (scales): scale=paper does nothing") == 1
    caplog.clear()
    assert lop(*line).code == 0
    assert "does nothing" not in caplog.text
