"""Names that Weights & Biases would refuse after the training are refused before it (case 5.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.sweeps.load_run import components_of
from lop_sweeps.tracking import sync as sync_module
from lop_sweeps.tracking.wandb import IN_ADDRESSES, LONGEST, Wandb
from tests import runs

LONG = "x" * 140
REFUSED = [
    *(("project", f"a{character}b") for character in IN_ADDRESSES),
    ("project", "team/plasticity"),
    ("project", LONG),
    ("project", " "),
    ("project", "a\nb"),
    ("entity", "team/plasticity"),
    ("entity", LONG),
    ("group", LONG),
    ("group", " x"),
    ("name", LONG),
    ("job_type", "x" * 65),
    ("tags", ["x" * 65]),
    ("tags", [""]),
    ("tags", [3]),
    ("tags", "x"),
    ("tags", 3),
]


@pytest.mark.parametrize(("key", "value"), REFUSED)
def test_what_would_be_refused_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Wandb(**{key: value})
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


def test_the_client_refuses_the_same_projects() -> None:
    """Its own rules, where it has any."""
    wandb = pytest.importorskip("wandb")
    for key, value in REFUSED[: len(IN_ADDRESSES) + 2]:
        with pytest.raises(Exception, match=r"(?i)invalid project"):
            wandb.Settings(**{key: value})


@pytest.mark.parametrize(
    "line", ["tracking.project=team/plasticity", f"tracking.group={LONG}", f"sweep={LONG}", "tracking.tags=[a,'']"]
)
def test_a_sweep_is_refused_when_it_is_planned(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\."):
        runs.point(tmp_path, *runs.SMALL, "tracking=wandb", line)
    assert list(tmp_path.iterdir()) == []


def test_what_w_and_b_takes_is_taken(tmp_path: Path) -> None:
    Wandb(project="my plasticity (2)", entity="a team", group="x" * 128, name="µ, seed 0", tags=["x" * 64])
    runs.point(tmp_path, *runs.SMALL, "tracking=wandb", f"sweep={LONG}", "tracking.group=short")
    stored = {"run": f"{LONG}-seed0-0123456789ab", "sweep": "s"}
    other = {**stored, "run": f"{LONG}-seed1-ba9876543210"}
    assert len(Wandb().run_id(stored)) == LONGEST
    assert Wandb().run_id(stored) != Wandb().run_id(other)


def test_a_run_of_before_is_loaded_and_sent_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was trained while nobody looked at the name."""
    stored = dict(runs.point(tmp_path, *runs.SMALL, "tracking=wandb").config)
    stored["tracking"] = {**stored["tracking"], "project": "team/plasticity"}
    assert components_of(stored).units

    asked: list[Wandb] = []

    class Mirror:
        said: tuple[str, ...] = ()
        url = ""

        def __init__(self, free: Any, settings: Any, say: Any) -> None:
            asked.append(settings(stored))

        def hurry(self) -> None: ...

        def look(self, over: bool) -> int:
            return 0

    monkeypatch.setattr(sync_module, "Mirror", Mirror)
    monkeypatch.setattr(Wandb, "check_login", lambda self: None)
    sync_module.sync([], project="plasticity", entity="team")
    assert (asked[0].project, asked[0].entity, asked[0].mode) == ("plasticity", "team", "online")
    with pytest.raises(LopError, match="project"):
        sync_module.sync([])
