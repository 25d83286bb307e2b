"""The command `lop`: one Hydra application for a single run and for sweeps."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable

from lop_sweeps import __version__
from lop_sweeps.console import closing_quietly, errors_of_hydra, explained
from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.home import argument_at_home

GROUPS = (
    "benchmark",
    "network",
    "optimizer",
    "algorithm",
    "agent",
    "diagnostics",
    "tracking",
    "experiment",
    "hydra/launcher",
    "hydra/sweeper",
)


def _choices(group: Traversable) -> list[str]:
    """The choices of a config group, those in its folders as folder/choice."""
    entries = sorted(group.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    names = [entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")]
    return names + [f"{entry.name}/{name}" for entry in entries if entry.is_dir() for name in _choices(entry)]


def help_text() -> str:
    """What `lop --help` prints; read from the config tree, without composing it."""
    root = resources.files("lop_sweeps.conf")
    lines = ["lop: experiments and sweeps on loss of plasticity", "", "Choices (lop GROUP=CHOICE):"]
    for group in GROUPS:
        lines.append(f"  {group:<15} {', '.join(_choices(root.joinpath(group)))}")
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
        "lop-new KIND NAME             begin an algorithm, a network, ... of your own",
        "lop --hydra-help              Hydra's own flags",
    ]
    return "\n".join(lines)


def _in_order(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The overrides among the arguments, and the flags with their values; Hydra wants the former in one piece."""
    from hydra._internal.utils import get_args_parser

    overrides = list(get_args_parser().parse_intermixed_args(list(arguments)).overrides)
    flags, left = [], Counter(overrides)
    for argument in arguments:
        if left[argument]:
            left[argument] -= 1
        else:
            flags.append(argument)
    return overrides, flags


@closing_quietly
def main() -> None:
    """Console entry point."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(help_text())
        return
    if arguments == ["--version"]:
        print(f"lop-sweeps {__version__}")
        return
    load_dot_env()
    explained(_run)(arguments)


def _run(arguments: list[str]) -> None:
    """Hand over to Hydra."""
    import hydra
    from hydra.conf import HydraConf  # noqa: F401  (Hydra's schemas must be registered before the plugins)

    from hydra_plugins.lop_sweeps import register

    register()
    from lop_sweeps.sweeps.expansion import given_again, trusted_by
    from lop_sweeps.sweeps.task import Task

    if any(argument.startswith(("--info", "-i")) for argument in arguments):
        logging.raiseExceptions = False  # Hydra logs what it was asked for; its output may go to `head`
    else:
        logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lop").setLevel(logging.INFO)
    application = hydra.main(version_base="1.3", config_path="pkg://lop_sweeps.conf", config_name="config")
    overrides, flags = _in_order([argument_at_home(argument) for argument in arguments])
    sys.argv[1:] = [*overrides, *flags]
    trusted = trusted_by(overrides)
    sys.stderr.writelines(f"{line}\n" for line in given_again(overrides))
    with errors_of_hydra():
        application(Task(trusted))()


if __name__ == "__main__":
    main()
