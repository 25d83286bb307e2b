"""The sweeper and the launcher of this project, where Hydra accepts plugins from.

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
        self.used_launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from lop_sweeps.console import explained
        from lop_sweeps.sweep.sweeper import sweep

        return explained(sweep)(self.loader, self.master, self.used_launcher, self.params, arguments)


class LocalLauncher(Launcher):
    """All cores of this machine. `workers`, `pack`, `threads`: see conf/hydra/launcher/local.yaml."""

    def __init__(self, workers: int | None = None, pack: int | None = None, threads: int = 1) -> None:
        self.workers, self.pack, self.threads = workers, pack, threads

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing to keep: points arrive checked and resolved."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise SystemExit("lop: hydra/launcher=local works with hydra/sweeper=grid only; with others use basic")


def register() -> None:
    """Make Hydra know the plugins, however this package is installed."""
    for plugin in (GridSweeper, LocalLauncher):
        Plugins.instance().register(plugin)
