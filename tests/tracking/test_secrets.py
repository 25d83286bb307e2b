"""The key goes to the server in the header of that purpose, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.conftest import HELD, HELD_TASKS, LINE, SEEDS, TRACKED, Lab, names, tell, until
from tests.tracking.wandb_server import WandbServer

OTHER = "another-secret-of-the-same-file"
PLACE = "/a/folder/of/this/machine"


class Recorder(WandbServer):
    """Keeps what it is asked, but for headers."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[bytes] = []

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        self.received += [path.encode(), body]
        return super().answer(method, path, authorization, body)


def received(lab: Lab) -> bytes:
    assert isinstance(lab.server, Recorder)
    return b"\n".join(lab.server.received)


def assert_nowhere(lab: Lab, secret: str) -> None:
    """Neither in a file, nor on the screen, nor with the server."""
    holders = [path for path in lab.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert [path for path in holders if path.name != ".env"] == []
    assert secret.encode() not in received(lab)
    assert received(lab)


def what_dot_env_holds_stays_there(lab: Lab) -> None:
    """Files that the client has only while it is at work are looked at, too."""
    key = lab.server.api_key
    (lab.folder / ".env").write_text(f"WANDB_API_KEY={key}\nMY_TOKEN={OTHER}\nWANDB_PROJECT=of-the-file\n")
    lab.hold.touch()
    command = lab.lop(*TRACKED, *HELD, *SEEDS, f"paths.data={PLACE}", WANDB_API_KEY=None)
    until(lambda: lab.arrived(HELD_TASKS))
    assert [path for path in lab.sweep.rglob("*.wandb") if path.is_file()]
    for secret in (key, OTHER):
        assert_nowhere(lab, secret)
    lab.hold.unlink()
    command.end()
    lab.sync(WANDB_API_KEY=None).end()
    for secret in (key, OTHER):
        assert_nowhere(lab, secret)
        assert secret not in command.err + command.out
    assert PLACE.encode() not in received(lab)
    assert b"hydra.launcher" not in received(lab)  # the command line
    assert str(lab.folder).encode() not in received(lab)
    lab.assert_complete()
    assert {stored.project for stored in lab.server.runs.values()} == {"of-the-file"}


def the_environment_wins(lab: Lab) -> None:
    (lab.folder / ".env").write_text(f"WANDB_API_KEY={'f' * 40}\nWANDB_PROJECT=of-the-file\n")
    lab.lop(*TRACKED, *SEEDS, WANDB_PROJECT="of-the-environment").end()
    lab.assert_complete()
    assert {stored.project for stored in lab.server.runs.values()} == {"of-the-environment"}


def uncommitted_changes_stay_here(lab: Lab) -> None:
    """provenance.json has them, and may hold anything."""
    lab.lop(*LINE, *SEEDS).end()
    for run in lab.runs:
        origin = json.loads((run / "provenance.json").read_text())
        (run / "provenance.json").write_text(json.dumps({**origin, "diff": OTHER}))
    lab.sync().end()
    lab.assert_complete()
    assert OTHER.encode() not in received(lab)
    for stored in lab.server.runs.values():
        assert {"commit", "packages", "python"} <= set(stored.config["provenance"])
        assert set(stored.config_record["_wandb"]["value"]) <= {"cli_version", "python_version", "m", "t"}
        assert set(stored.files) <= {"config.yaml", "wandb-summary.json"}


STORIES = (what_dot_env_holds_stays_there, the_environment_wins, uncommitted_changes_stay_here)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request, Recorder)


@pytest.mark.parametrize("story", names(STORIES))
def test_secrets(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()


def test_no_configuration_file_has_a_place_for_a_key() -> None:
    for path in (Path(__file__).parents[2] / "conf").rglob("*.yaml"):
        assert "API_KEY" not in path.read_text()
