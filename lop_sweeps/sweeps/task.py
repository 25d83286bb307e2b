"""Hydra's task function: one run, here and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lop_sweeps.console import explained


@dataclass(frozen=True)
class Task:
    """What Hydra calls with a composed configuration, here or in a job of one of its launchers.

    A class that can be imported, not a function: Hydra's launchers send it to other processes by its name and this:

    trusted: module prefixes that the caller trusts.
    """

    trusted: Sequence[str]

    def __call__(self, config: Any) -> None:
        explained(self._run)(config)

    def _run(self, config: Any) -> None:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        from lop_sweeps.sweeps.sweeper import check_single, make_single, run_single

        hydra = HydraConfig.get()
        only_show = check_single(hydra)
        choices = OmegaConf.to_container(hydra.runtime.choices)
        assert isinstance(choices, dict)
        point = make_single(config, {str(group): choice for group, choice in choices.items()}, self.trusted)
        run_single(point, only_show=only_show)
