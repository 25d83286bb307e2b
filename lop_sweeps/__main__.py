"""The command `lop`: one Hydra application for a single run and for sweeps."""

from __future__ import annotations

import logging
import sys
from importlib import resources
from typing import Any

from lop_sweeps.errors import ConfigError, Interrupted, LopError

GROUPS = ("benchmark", "network", "optimizer", "algorithm", "experiment", "hydra/launcher")
INTERRUPTED, WRONG, FAILED = 130, 2, 1  # exit codes


def help_text() -> str:
    """What `lop --help` prints; read from the config tree, without composing it."""
    root = resources.files("lop_sweeps.conf")
    lines = ["lop: experiments and sweeps on loss of plasticity", "", "Choices (lop GROUP=CHOICE):"]
    for group in GROUPS:
        names = sorted(entry.name for entry in root.joinpath(group).iterdir() if entry.name.endswith(".yaml"))
        lines.append(f"  {group:<15} {', '.join(name.removesuffix('.yaml') for name in names)}")
    lines.append(f"  {'scale':<15} tiny, small, paper")
    lines += [
        "",
        "Examples:",
        "  lop benchmark=permuted_digits algorithm=continual_backprop seed=0",
        "  lop -m algorithm=backprop,l2,continual_backprop optimizer.step_size=0.01,0.003 'seed=range(5)'",
        "  lop -m benchmark=slowly_changing_regression algorithm=backprop,'[l2,continual_backprop]' scale=tiny",
        "",
        "lop --cfg job --resolve       the whole configuration (-p optimizer: one part of it)",
        "lop-status FOLDER             what is done, running, waiting, failed",
        "lop-figures FOLDER            figures and a table",
        "lop --hydra-help              Hydra's own flags",
    ]
    return "\n".join(lines)


def run(config: Any) -> None:
    """Hydra's task function: one run, here and now."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from lop_sweeps.sweep.sweeper import make_single, run_single

    choices = OmegaConf.to_container(HydraConfig.get().runtime.choices)
    assert isinstance(choices, dict)
    run_single(make_single(config, {str(group): choice for group, choice in choices.items()}))


def _explained(task: Any) -> Any:
    """Turn errors that the user can put right into one message and an exit code, without a traceback."""

    def wrapped(*arguments: Any, **named: Any) -> Any:
        try:
            return task(*arguments, **named)
        except Interrupted as error:
            sys.stderr.write(f"lop: {error}\n")
            raise SystemExit(INTERRUPTED) from None
        except LopError as error:
            sys.stderr.write(f"lop: {error}\n")
            raise SystemExit(WRONG if isinstance(error, ConfigError) else FAILED) from None

    return wrapped


def main() -> None:
    """Console entry point."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(help_text())
        return
    import hydra
    from hydra.conf import HydraConf  # noqa: F401  (Hydra's schemas must be registered before the plugins)
    from hydra_plugins.lop_sweeps import register

    register()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lop").setLevel(logging.INFO)
    sweeping = "-m" in arguments or "--multirun" in arguments
    application = hydra.main(version_base="1.3", config_path="pkg://lop_sweeps.conf", config_name="config")
    application(run if sweeping else _explained(run))()


if __name__ == "__main__":
    main()
