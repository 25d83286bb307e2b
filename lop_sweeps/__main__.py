"""The command `lop`: one Hydra application for a single run and for sweeps."""

from __future__ import annotations

import logging
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

from lop_sweeps.console import explained, unknown_choice, unknown_key
from lop_sweeps.dot_env import load_dot_env

GROUPS = ("benchmark", "network", "optimizer", "algorithm", "agent", "tracking", "experiment", "hydra/launcher")


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


def _explain_unknown_keys(arguments: list[str]) -> None:
    """After Hydra has refused a command line: say which keys and choices there are where one is unknown."""
    import contextlib
    import re

    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    pairs = [match.groups() for match in map(re.compile(r"(\w[\w./@]*)=(.*)").fullmatch, arguments) if match]
    groups = [f"{key}={value}" for key, value in pairs if key in GROUPS and "," not in value]
    with contextlib.suppress(Exception), initialize_config_module("lop_sweeps.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for key, value in pairs:
            if key in GROUPS and (hint := unknown_choice(loader, key, value.strip("[]").split(","))):
                sys.stderr.write(f"lop: {hint}\n")
        config = compose("config", groups)
        for key, _ in pairs:
            if key not in GROUPS and not key.startswith("hydra") and (hint := unknown_key(config, key)):
                sys.stderr.write(f"lop: {hint}\n")


def main() -> None:
    """Console entry point."""
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(help_text())
        return
    if empty := [a for a in arguments if a in {f"{group}=null" for group in GROUPS[:4]}]:  # Hydra breaks on it
        sys.exit(f"lop: {empty[0]}: must be a choice of the group; lop --help lists them")
    load_dot_env()
    import hydra
    from hydra.conf import HydraConf  # noqa: F401  (Hydra's schemas must be registered before the plugins)

    from hydra_plugins.lop_sweeps import register

    register()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("lop").setLevel(logging.INFO)
    sweeping = "-m" in arguments or "--multirun" in arguments
    application = hydra.main(version_base="1.3", config_path="pkg://lop_sweeps.conf", config_name="config")
    try:
        application(run if sweeping else explained(run))()
    except SystemExit as error:
        if error.code == 1:
            _explain_unknown_keys(arguments)
        raise


if __name__ == "__main__":
    main()
