"""Hydra inside somebody else's program, which may use Hydra itself: nothing global of Hydra's is other than before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from hydra import version
from hydra._internal.utils import create_config_search_path
from hydra.conf import HydraConf  # noqa: F401  (Hydra's schemas must be registered before anything is composed)
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf.basecontainer import BaseContainer

from lop_sweeps.config_loader import Loader
from lop_sweeps.errors import ConfigError
from lop_sweeps.home import at_home

_LOCK = threading.RLock()
RESOLVERS = ("now", "hydra", "python_version")  # which `setup_globals` registers, whoever has any of that name


@contextlib.contextmanager
def borrowed() -> Iterator[None]:
    """Meanwhile Hydra is set up for this package; afterwards it is as it was. One thread at a time."""
    with _LOCK:
        base, config = version.VersionBase.instance(), HydraConfig.instance()
        kept, shown, known = base.version_base, config.cfg, BaseContainer._resolvers.copy()
        try:
            version.setbase("1.3")
            setup_globals()
            yield
        finally:
            base.version_base, config.cfg = kept, shown
            for name in RESOLVERS:
                BaseContainer._resolvers.pop(name, None)
                if name in known:
                    BaseContainer._resolvers[name] = known[name]


def make_loader(config_dir: str | Path | None = None) -> Loader:
    """What composes the configurations of this package, and of a folder of the user's (`lop --config-dir`)."""
    search = create_config_search_path("pkg://lop_sweeps.conf")
    if config_dir is not None:
        folder = Path(at_home("config_dir", str(config_dir))).absolute()
        if not folder.is_dir():
            raise ConfigError("config_dir", str(config_dir), "there is no such folder")
        search.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    return Loader(search)
