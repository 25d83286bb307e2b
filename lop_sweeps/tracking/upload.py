"""Figures of a sweep, uploaded to its group: `lop-figures --upload`."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.wandb import FIGURES, Unavailable, Wandb, quiet

SECONDS = 300.0  # that an upload may take


def upload(figures: Sequence[Path], run: RunDirectory, project: str | None = None) -> str:
    """Put PNG figures and Markdown tables into the group of the sweep that `run` is of; the URL.

    project: entity/project, where the runs were read from there; default what the run says, else the environment.
    A further upload replaces what is shown, and keeps the earlier one as history. Raises `LopError`.
    """
    config = run.config()
    stored = Wandb.of(config) or Wandb.of_environment()
    tracking = replace(stored, mode="online")
    if project:
        entity, _, name = project.rpartition("/")
        tracking = replace(tracking, project=name, entity=entity or None)
    group = tracking.group or str(config["sweep"])
    # The client says things that nobody asked, and leaves copies.
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as copies:
        try:
            tracking.check_login()
            return _upload(figures, tracking, group, copies)
        except Unavailable as error:
            raise LopError(f"Weights & Biases: {error}") from error


def _upload(figures: Sequence[Path], tracking: Wandb, group: str, copies: str) -> str:
    import wandb

    settings = quiet()
    settings.finish_timeout, settings.finish_timeout_raises = SECONDS, True
    try:
        run = wandb.init(
            entity=tracking.entity,
            project=tracking.project,
            id=f"figures-{hashlib.sha256(group.encode()).hexdigest()[:12]}",
            group=group,
            job_type=FIGURES,
            name=f"figures of {group}",
            dir=copies,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        shown = {f"figures/{path.stem}": wandb.Image(str(path)) for path in figures if path.suffix == ".png"}
        tables = {f"tables/{path.stem}": wandb.Html(_page(path)) for path in figures if path.suffix == ".md"}
        run.log({**shown, **tables})
        run.finish()
    except (wandb.errors.Error, OSError, TimeoutError) as error:
        raise LopError(f"Weights & Biases: {' '.join(str(error).split())}") from error
    return str(run.url or "")


def _page(table: Path) -> str:
    return f"<pre>{html.escape(table.read_text(encoding='utf-8'))}</pre>"
