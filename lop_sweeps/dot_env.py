"""Settings of this machine from a file `.env` in the current folder; what the environment says wins.

Only the variables of `.env.example` are taken. The folder may be somebody else's, and PYTHONPATH or LD_PRELOAD in its
`.env` would run code in every process that is started. Nor does it say which server gets a key that is not its own.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from lop_sweeps.regular_file import read_bytes

NAMES = (
    "LOP_DATA",
    "WANDB_API_KEY",
    "WANDB_ENTITY",
    "WANDB_PROJECT",
    "WANDB_MODE",
    "WANDB_BASE_URL",
    "WANDB_ERROR_REPORTING",
)
OURS = ("LOP_", "WANDB_")  # such a name was meant for us; any other is for another program that reads this file
MAX_BYTES = 1 << 16


def load_dot_env() -> None:
    """Put what `./.env` says of `NAMES` into the environment, where it is not set there. Never fails."""
    try:
        text = read_bytes(Path.cwd() / ".env", MAX_BYTES).decode("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        sys.stderr.write(f"lop: .env is left out: {error.strerror or error}\n")
        return
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)  # ${HOME} stays what it is: text
    if _sends_a_key_elsewhere(values):
        del values["WANDB_BASE_URL"]
        sys.stderr.write(
            "lop: .env: WANDB_BASE_URL is left out, for WANDB_API_KEY is the environment's: set both in one place\n"
        )
    for name in NAMES:
        value = values.get(name)
        if value is not None and "\0" not in value:
            os.environ.setdefault(name, value)
    unknown = [name for name in values if name.startswith(OURS) and name not in NAMES]
    if unknown:
        sys.stderr.write(f"lop: .env: {', '.join(unknown)} not taken; it may set {', '.join(NAMES)}\n")


def _sends_a_key_elsewhere(values: Mapping[str, str | None]) -> bool:
    """Whether a `.env` names a server for a key that it does not hold; `wandb login` keeps keys by server."""
    key = os.environ.get("WANDB_API_KEY")
    server = values.get("WANDB_BASE_URL")
    return bool(key and server) and os.environ.get("WANDB_BASE_URL") is None and values.get("WANDB_API_KEY") != key
