"""The sweeper and the launchers of this project, where Hydra accepts plugins from.

Hydra imports this module at every start, so it imports nothing heavy. Its scan does not find it in an editable
install; `lop_sweeps.__main__` registers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Variants x command line, every point checked before the first runs, nothing run twice."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader, self.master = hydra_context.config_loader, config
        self.trusted: Sequence[str] = getattr(task_function, "trusted", ())
        self.used_launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from lop_sweeps.console import explained
        from lop_sweeps.sweeps.sweeper import sweep

        if self.master.get("tuning") is not None:  # an experiment that says how settings are chosen
            return SelectSweeper.sweep(self, arguments)
        return explained(sweep)(self.loader, self.master, self.used_launcher, self.params, arguments, self.trusted)


class SelectSweeper(GridSweeper):
    """Chooses each method's hyper-parameters on seeds that the result does not use, then runs the result."""

    def sweep(self: GridSweeper, arguments: list[str]) -> Any:
        from lop_sweeps.console import explained
        from lop_sweeps.selection.select import select

        return explained(select)(self.loader, self.master, self.used_launcher, self.params, arguments, self.trusted)


class LocalLauncher(Launcher):
    """All cores of this machine. The options are those of conf/hydra/launcher/local.yaml."""

    def __init__(
        self,
        workers: int | None = None,
        pack: int | None = None,
        threads: int = 1,
        only: str = "all",
        plan: bool = False,
    ) -> None:
        self.workers, self.pack, self.threads, self.only, self.plan = workers, pack, threads, only, plan

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to keep: points arrive checked and resolved."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise SystemExit(
            "lop: hydra/launcher=local works with hydra/sweeper=grid and select only; with others use basic"
        )


class SlurmLauncher(Launcher):
    """A SLURM cluster. The options are those of conf/hydra/launcher/slurm.yaml."""

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        time: int = 240,
        cpus: int = 1,
        mem: str | None = None,
        gpus: int = 0,
        gres: str | None = None,
        constraint: str | None = None,
        exclude: str | None = None,
        sbatch: Mapping[str, Any] | None = None,
        setup: Sequence[str] | None = None,
        python: str | None = None,
        array_parallelism: int = 256,
        max_array: int | None = None,
        signal_delay: int = 90,
        pack: int | None = None,
        packs_per_job: int = 1,
        workers: int = 1,
        threads: int | None = None,
        wait: bool = True,
        plan: bool = False,
        only: str = "all",
    ) -> None:
        self.partition, self.account, self.qos, self.time = partition, account, qos, time
        self.cpus, self.mem, self.gpus, self.gres = cpus, mem, gpus, gres
        self.constraint, self.exclude = constraint, exclude
        self.sbatch, self.setup_lines, self.python = dict(sbatch or {}), list(setup or []), python
        self.array_parallelism, self.max_array, self.signal_delay = array_parallelism, max_array, signal_delay
        self.pack, self.packs_per_job, self.workers, self.threads = pack, packs_per_job, workers, threads
        self.wait, self.plan, self.only = wait, plan, only

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to keep: points arrive checked and resolved."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise SystemExit(
            "lop: hydra/launcher=slurm works with hydra/sweeper=grid and select only; with others use submitit_slurm"
        )


def register() -> None:
    """Make Hydra know the plugins, however this package is installed, and compose by this package's loader."""
    from hydra._internal import hydra

    from lop_sweeps.config_loader import Loader

    hydra.ConfigLoaderImpl = Loader  # type: ignore[attr-defined]  # Hydra makes its loader by this name
    for plugin in (GridSweeper, SelectSweeper, LocalLauncher, SlurmLauncher):
        Plugins.instance().register(plugin)
