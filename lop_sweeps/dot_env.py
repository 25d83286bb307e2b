"""Settings of this machine from a file `.env` in the current folder; what the environment says wins."""

from __future__ import annotations

from pathlib import Path

from dotenv import load_dotenv


def load_dot_env() -> None:
    """Put what `./.env` holds into the environment, where it is not set there."""
    load_dotenv(Path.cwd() / ".env")
