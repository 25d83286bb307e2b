"""Whether what is asked to mirror a run can be built: asked when it is planned, for training does not know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lop_sweeps.build import build
from lop_sweeps.errors import ConfigError


def check_tracking(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless the configuration's `tracking` is nothing, or one that takes its sweep."""
    node = config.get("tracking")
    if not node:
        return
    if not isinstance(node, Mapping):
        raise ConfigError("tracking", node, "must be a choice of the group: tracking=none or tracking=wandb")
    build(node, "tracking").check_sweep(str(config.get("sweep") or ""))
