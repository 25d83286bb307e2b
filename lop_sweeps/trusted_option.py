"""`--trusted`, of each command that may build what the files of a run name."""

from __future__ import annotations

import argparse


def add_trusted(parser: argparse.ArgumentParser, option: str) -> None:
    """Add `--trusted MODULE[,MODULE...]`, which may be repeated: a list of names. option: with which it is used."""
    parser.add_argument(
        "--trusted",
        type=lambda text: text.split(","),
        action="extend",
        default=[],
        metavar="MODULE",
        help=f"with {option}: a module of yours that the runs' components may come from, or several, with commas",
    )
