"""Sweep folders → frames."""

import glob
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from lop_sweeps.home import at_home
from lop_sweeps.sweeps.notes import Notes
from lop_sweeps.sweeps.run_files import CONFIG, holds_a_run, run_folders

from ..errors import AnalysisError
from ..names.described import learn
from ..names.label import configuration
from .frame import layer_sizes, runs_frame, tasks_frame
from .remote import SCHEME, fetch
from .run_folder import Configurations, Run, read
from .where import chosen

FINAL = ("done", "diverged")
# Runs that cannot be read and are named, one line each.
TOLD = 5
LEFT_OUT = "left out:"  # how notes of runs that cannot be taken begin


@dataclass(frozen=True)
class Sweep:
    """One or several sweeps.

    runs: one row per run, see `frame.runs_frame`.
    tasks: one row per run and finished task, see `frame.tasks_frame`.
    notes: what a reader of the figures has to know about the data, one sentence each.
    """

    runs: pd.DataFrame
    tasks: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def benchmarks(self) -> list[str]:
        """Benchmarks with at least one finished task."""
        return sorted(map(str, self.tasks["benchmark"].unique()))

    def of(self, benchmark: str) -> "Sweep":
        """The part on one benchmark."""
        if self.runs["benchmark"].eq(benchmark).all():
            return self
        runs, tasks = (f[f["benchmark"] == benchmark] for f in (self.runs, self.tasks))
        return Sweep(runs.reset_index(drop=True), tasks.reset_index(drop=True), self.notes)

    def of_seeds(self, seeds: Collection[int]) -> "Sweep":
        """The part of these seeds; raises AnalysisError if there is none."""
        runs = self.runs[self.runs["seed"].isin(list(seeds))].reset_index(drop=True)
        tasks = self.tasks[self.tasks["run"].isin(runs["run"])].reset_index(drop=True)
        if tasks.empty:
            raise AnalysisError("no run with one of these seeds has finished a task")
        return Sweep(runs, tasks, self.notes)

    def progress(self) -> str:
        """E.g. '30 runs: 24 finished, 1 diverged, 5 partial (3 running, 2 failed)'."""
        runs = self.runs
        final = runs["state"].isin(FINAL)
        groups = {
            "finished": runs[runs["state"] == "done"],
            "diverged": runs[runs["state"] == "diverged"],
            "partial": runs[~final & (runs["tasks"] > 0)],
            "without a finished task": runs[~final & (runs["tasks"] == 0)],
        }
        parts = []
        for name, group in groups.items():
            states = Counter(group["state"])
            why = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
            if len(group) or name == "finished":
                parts.append(f"{len(group)} {name}" + (f" ({why})" if name[0] in "pw" else ""))
        return f"{len(runs)} run{'s' * (len(runs) != 1)}: {', '.join(parts)}"


def load(paths: str | Path | Sequence[str | Path], where: Sequence[str] = ()) -> Sweep:
    """Read a sweep folder, several, a glob ('sweeps/permuted_*'), or W&B ('wandb://entity/project?group=NAME').

    where: conditions that all runs fulfil, as 'optimizer.step_size==0.01' (`reading.where`); labels are then made of
    what the runs that are left differ in. A run that cannot be read is left out, with a note.

    Runs in W&B are downloaded, whole, and kept in a cache (`remote`). A run that lies in several sweeps (same id: same
    configuration and seed) counts once. Raises AnalysisError if a folder does not exist or holds no run, if no run has
    a finished task, or if W&B has no such runs. A run that is damaged or not what it recorded is left out, and named in
    the notes; AnalysisError if no other is left.
    """
    here, there = _local(paths), _remote(paths)
    sweeps = sweep_folders(here) if here or not there else []
    here_found = [folder for sweep in sweeps for folder in _run_folders(sweep)]
    downloaded = [fetch(url) for url in there]
    configurations = Configurations()
    folders = here_found + [folder for runs, _ in downloaded for folder in runs]
    with ThreadPoolExecutor() as pool, ExitStack() as stack:  # threads: most of the time is Arrow's and the disk's
        checked = {sweep: stack.enter_context(Notes(sweep)) for sweep in {folder.parent for folder in here_found}}
        found = list(pool.map(lambda folder: _try(folder, configurations, checked.get(folder.parent)), folders))
    left_out = [error for error in found if isinstance(error, AnalysisError)]
    usable = [run for run in found if isinstance(run, Run)]
    if not usable:
        raise left_out[0]
    runs, notes = _unique(usable)
    learn(run.described for run in runs)
    notes += [f"{LEFT_OUT} {error}" for error in left_out[:TOLD]]
    notes += [f"{LEFT_OUT} {len(left_out) - TOLD} more runs"] if len(left_out) > TOLD else []
    notes += [note for _, of_url in downloaded for note in of_url]
    frame = runs_frame(runs)
    if where:
        runs = [run for run, holds in zip(runs, chosen(frame, where), strict=True) if holds]
        frame = runs_frame(runs)
        notes.append(f"only runs with {' and '.join([where] if isinstance(where, str) else where)}")
    if not any(run.tasks for run in runs):
        states = ", ".join(f"{n} {s}" for s, n in sorted(Counter(run.state for run in runs).items()))
        raise AnalysisError(f"no run has finished a task ({states}); there is nothing to draw")
    _check_seeds(frame)
    sizes = [layer_sizes(run.config) for run in runs if run.tasks]
    unweighted = sum(bool(hidden) and not weights for hidden, weights in sizes)
    if unweighted:
        notes.append(
            "weight_magnitude is the plain mean over weight matrices, not over weights, for runs whose "
            f"configuration does not tell the network's inputs and outputs ({unweighted} of {len(sizes)})"
        )
    started = frame[(frame["tasks"] > 0) & (frame["state"] != "diverged")]
    for benchmark, of in started.groupby("benchmark"):
        ends = of["first_task"] + of["tasks"]
        if ends.nunique() > 1:
            notes.append(
                f"runs on {benchmark} have {ends.min()} to {ends.max()} finished tasks; tables are over the "
                "tasks that every method has, without runs that lack some of them"
            )
        if of["first_task"].nunique() > 1:
            notes.append(
                f"runs on {benchmark} begin at tasks {', '.join(map(str, sorted(of['first_task'].unique())))}: some go "
                "on from another run's network"
            )
    return Sweep(frame, tasks_frame(runs, frame), notes + _unrecorded(runs))


def _try(folder: Path, configurations: Configurations, notes: Notes | None) -> Run | AnalysisError:
    """A run, or why it cannot be shown, which keeps no other from being shown."""
    try:
        return read(folder, configurations, notes)
    except AnalysisError as error:
        return error
    except OSError as error:
        return AnalysisError(f"{folder}: {error}")


def _unrecorded(runs: Sequence[Run]) -> list[str]:
    """Which of the runs could not be checked, a sentence for each sweep."""
    notes = []
    for sweep in dict.fromkeys(run.folder.parent for run in runs):
        of_sweep = [run for run in runs if run.folder.parent == sweep]
        if lacking := [run for run in of_sweep if run.unrecorded]:
            what = ", ".join(sorted({text for run in lacking for text in run.unrecorded}))
            notes.append(
                f"not recorded in {sweep}, and so not checked, for {len(lacking)} of {len(of_sweep)} runs: {what} "
                "(lop-status --verify --record writes it)"
            )
    return notes


def output_folder(paths: str | Path | Sequence[str | Path], out: str | Path | None) -> Path:
    """`out`, else `figures` in the sweep's folder; AnalysisError where the sweeps have no folder in common."""
    if out is not None:
        return Path(at_home("out", str(out)))
    if _remote(paths):
        raise AnalysisError("runs in Weights & Biases have no folder here: say where the figures go (--out DIR)")
    folders = sweep_folders(paths)
    if len(folders) > 1:
        raise AnalysisError("several sweeps are drawn together: say where the figures go (--out DIR)")
    return folders[0] / "figures"


def sweep_folders(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Existing folders, each once, in the order given; of a pattern's matches those with runs, sorted."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        matches = [Path(at_home("sweep", str(path)))]
        if not matches[0].exists() and glob.has_magic(str(path)):
            matches = [
                Path(match) for match in sorted(glob.glob(str(matches[0]))) if any(Path(match).glob(f"*/{CONFIG}"))
            ]
            if not matches:
                raise AnalysisError(f"{path}: no sweep matches")
        for folder in matches:
            if not folder.is_dir():
                raise AnalysisError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
        found += matches
    if not found:
        raise AnalysisError("no sweep folder given")
    return list(dict.fromkeys(found))


def _remote(paths: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths) if str(path).startswith(SCHEME)]


def local_folders(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """As `sweep_folders`, without what is in W&B."""
    here = _local(paths)
    return sweep_folders(here) if here else []


def _local(paths: str | Path | Sequence[str | Path]) -> list[str | Path]:
    return [path for path in ([paths] if isinstance(paths, str | Path) else paths) if not str(path).startswith(SCHEME)]


def _run_folders(sweep: Path) -> list[Path]:
    if holds_a_run(sweep):
        return [sweep]
    try:
        folders = list(run_folders(sweep))
    except OSError as error:
        raise AnalysisError(f"{sweep}: cannot be read: {error.strerror or error}") from error
    if not folders:
        inner = sorted({str(folder.parent.parent) for folder in sweep.glob(f"*/*/{CONFIG}")})
        hint = f"; it holds sweeps: {', '.join(inner[:5])}{', …' * (len(inner) > 5)}" if inner else ""
        raise AnalysisError(f"{sweep}: contains no runs{hint}")
    return folders


def _unique(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of several copies of a run a final one, or the one that got furthest: twice, it would narrow the error bars."""
    copies: dict[tuple[str, str, int], list[Run]] = defaultdict(list)
    for run in runs:
        copies[run.id, configuration(run.config), int(run.config["seed"])].append(run)
    double = sum(len(group) > 1 for group in copies.values())
    notes = [f"runs that lie in several of the folders count once ({double})"] if double else []
    return [max(group, key=lambda run: (run.state in FINAL, run.tasks)) for group in copies.values()], notes


def _check_seeds(runs: pd.DataFrame) -> None:
    """Two results of one configuration and seed are not two independent runs."""
    twice = runs[runs.duplicated(["benchmark", "configuration", "seed"], keep=False)]
    if len(twice):
        label, seed = twice["label"].iloc[0], twice["seed"].iloc[0]
        folders = ", ".join(twice.loc[(twice["label"] == label) & (twice["seed"] == seed), "folder"])
        raise AnalysisError(
            f"{label!r}, seed {seed}: several runs of one configuration and seed (from different versions of the "
            f"code, or from parents of different seeds?); move away all but one of: {folders}"
        )
