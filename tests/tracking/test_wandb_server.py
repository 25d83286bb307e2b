"""The stand-in against the real wandb client, each client in a process of its own."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.wandb_server import HISTORY, OUTPUT, StoredRun, WandbServer

SECONDS = 300  # more than any client takes on a busy machine; only a broken one waits that long

# Without console, system metrics and metadata, which these tests do not look at.
BEGIN = """
import json, os, sys, time
import wandb

def begin(run_id, **arguments):
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    return wandb.init(project="plasticity", id=run_id, settings=quiet, **arguments)

def wait():
    print("ready", flush=True)
    sys.stdin.readline()
"""

ONE_OF_EACH = """
import sys
import wandb
from PIL import Image

Image.new("RGB", (2, 3), (255, 0, 0)).save("red.png")
settings = wandb.Settings(silent=True, x_file_stream_no_gzip=False)
with wandb.init(
    project="plasticity", id="full", group="digits", job_type="train", name="backprop, seed 0", notes="a note",
    tags=["one", "two"], config={"step_size": 0.1, "widths": [5, 5], "nested": {"depth": 2}, "name": None},
    settings=settings,
) as run:
    run.define_metric("task")
    run.define_metric("accuracy", step_metric="task")
    for step in range(50):
        run.log({"task": step, "accuracy": step / 3}, step=step)
    run.log({"picture": wandb.Image("red.png")}, step=50)
    print("seen on the console")
"""

VALUES = """
runs = {name: begin(name, group=group, reinit="create_new") for name, group in
        (("first", "digits"), ("second", "other"), ("third", "digits"))}
for name, run in runs.items():
    for step in range(7):
        run.log({"from": name, "step": step, "list": [1, 2.5], "nested": {"a": {"b": step}}, "slash/name": True,
                 "dot.name": None, "nan": float("nan"), "whole": 1.0, "digits": 0.1234567890123456789}, step=step)
runs["first"].finish()
runs["second"].finish(exit_code=1)
runs["third"].finish()
"""

READ = """
api = wandb.Api()
def read(run, **arguments):
    return list(run.scan_history(**arguments))
first = api.run("lab/plasticity/first")
print(json.dumps({
    "all": [run.id for run in api.runs("lab/plasticity", per_page=1)],
    "digits": [run.id for run in api.runs("lab/plasticity", filters={"group": "digits"}, per_page=1)],
    "reversed": [run.id for run in api.runs("lab/plasticity", order="-created_at", per_page=3)],
    "nobody": len(api.runs("lab/plasticity", filters={"group": "nobody"})),
    "states": {run.id: run.state for run in api.runs("lab/plasticity")},
    "columns": [[run.name, run.group, run.job_type, run.tags, run.notes, run.config, run.summary["accuracy"],
                 run.lastHistoryStep] for run in api.runs("lab/plasticity", filters={"config.step_size": 0.1})],
    "rows": read(first, page_size=3),
    "one page": read(first, page_size=1000),
    "of keys": read(first, keys=["step", "nan"], page_size=2),
    "full": [row["_step"] for row in read(api.run("lab/plasticity/full"), page_size=7)],
    "sampled": len(api.run("lab/plasticity/full").history(samples=10, pandas=False)),
}))
"""


class Clients:
    """Starts Python processes that use the server, in a folder and with a home of their own."""

    def __init__(self, server: WandbServer, folder: Path) -> None:
        self.server = server
        self.folder = folder / "work"
        self.home = folder / "home"
        self.folder.mkdir()
        self.home.mkdir()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        process = subprocess.Popen(
            [sys.executable, *command],
            env=own | self.server.environment() | {"HOME": str(self.home)},
            cwd=self.folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.started.append(process)
        return process

    def script(self, text: str) -> subprocess.Popen[str]:
        return self.start("-c", text)

    def run(self, text: str) -> str:
        """What a script printed, once it has ended well."""
        return ended(self.script(text))


def ended(process: subprocess.Popen[str], answer: str = "") -> str:
    output, errors = process.communicate(answer, timeout=SECONDS)
    assert process.returncode == 0, errors
    return output


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def steps(run: StoredRun) -> list[int]:
    return [row["_step"] for row in run.history]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    """A server that holds four runs of two groups, written by two processes; for looking only."""
    with WandbServer() as server:
        clients = Clients(server, tmp_path_factory.mktemp("lab"))
        both = clients.script(ONE_OF_EACH), clients.script(BEGIN + VALUES)
        for process in both:
            ended(process)
        yield clients


@pytest.fixture(scope="module")
def read(lab: Clients) -> Any:
    """What a third process reads of these runs through `wandb.Api`."""
    return json.loads(lab.run(BEGIN + READ))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def clients(server: WandbServer, tmp_path: Path) -> Iterator[Clients]:
    clients = Clients(server, tmp_path)
    yield clients
    for process in clients.started:
        process.kill()
        process.communicate()


def test_rows_arrive_once_and_in_order(lab: Clients) -> None:
    run = lab.server.runs["full"]
    assert steps(run) == list(range(51))
    assert [row["accuracy"] for row in run.history[:50]] == [step / 3 for step in range(50)]
    assert {"_step", "_runtime", "_timestamp", "task", "accuracy"} == set(run.history[0])
    assert run.state == "finished"
    assert lab.server.problems == []


def test_what_describes_a_run_arrives_as_given(lab: Clients) -> None:
    run = lab.server.runs["full"]
    assert (run.id, run.entity, run.project) == ("full", "lab", "plasticity")
    assert (run.name, run.group, run.job_type, run.notes) == ("backprop, seed 0", "digits", "train", "a note")
    assert run.tags == ["one", "two"]
    assert run.config == {"step_size": 0.1, "widths": [5, 5], "nested": {"depth": 2}, "name": None}
    assert (run.summary["accuracy"], run.summary["task"]) == (49 / 3, 49)
    named = {metric["1"]: metric for metric in run.metrics}  # in any order
    assert set(named) == {"task", "accuracy"}
    assert run.metrics[named["accuracy"]["5"] - 1] is named["task"]  # its horizontal axis
    assert run.details["host"]


def test_files_arrive_byte_for_byte(lab: Clients) -> None:
    files = lab.server.runs["full"].files
    picture = next(content for name, content in files.items() if name.startswith("media/images/picture"))
    assert picture == (lab.folder / "red.png").read_bytes()
    assert {"config.yaml", "wandb-metadata.json", "wandb-summary.json", "requirements.txt"} < set(files)
    assert any("seen on the console" in line for line in lab.server.runs["full"].lines(OUTPUT))


def test_several_runs_of_one_process_are_kept_apart(lab: Clients) -> None:
    for name in ("first", "second", "third"):
        run = lab.server.runs[name]
        assert [row["from"] for row in run.history] == [name] * 7
        assert steps(run) == list(range(7))
    assert [lab.server.runs[name].state for name in ("first", "second", "third")] == ["finished", "failed", "finished"]


def test_the_api_reads_everything_back(lab: Clients, read: dict[str, Any]) -> None:
    created = list(lab.server.runs)
    assert read["all"] == created
    assert read["digits"] == [name for name in created if name != "second"]
    assert read["reversed"] == created[::-1]
    assert read["nobody"] == 0
    assert read["states"] == {"full": "finished", "first": "finished", "second": "failed", "third": "finished"}
    assert read["columns"] == [
        ["backprop, seed 0", "digits", "train", ["one", "two"], "a note", lab.server.runs["full"].config, 49 / 3, 50]
    ]
    assert read["full"] == list(range(51))
    assert read["sampled"] == 10
    assert lab.server.problems == []


def test_values_come_back_as_the_client_and_the_real_server_change_them(read: dict[str, Any]) -> None:
    assert read["rows"] == read["one page"]
    assert [row["_step"] for row in read["rows"]] == list(range(7))
    row = {key: value for key, value in read["rows"][3].items() if not key.startswith("_")}
    assert row == {
        "from": "first",
        "step": 3,
        "list": [1, 2.5],
        "nested": {"a": {"b": 3}},
        "digits": 0.1234567890123456789,
        "slash/name": True,
        "dot.name": None,
        "nan": "NaN",
        "whole": 1,
    }
    assert read["of keys"] == [{"_step": step, "step": step, "nan": "NaN"} for step in range(7)]


def test_nothing_is_written_outside_the_folders_of_the_server(lab: Clients) -> None:
    assert sorted(path.name for path in lab.folder.iterdir()) == ["red.png"]
    assert list(lab.home.rglob("*")) == []


def test_a_killed_run_is_continued_without_gaps_or_doubles(server: WandbServer, clients: Clients) -> None:
    log = """
run = begin("one", resume="allow")
print(run.starting_step, run.resumed, run.step, flush=True)
for step in range(%d, %d):
    run.log({"process": os.getpid()}, step=step, commit=True)
"""
    first = clients.script(BEGIN + log % (0, 30) + "wait()")
    assert first.stdout is not None
    assert [first.stdout.readline(), first.stdout.readline()] == ["0 False 0\n", "ready\n"]
    until(lambda: len(server.runs["one"].history) == 30)
    first.kill()
    first.wait()
    assert server.runs["one"].state == "running"  # nobody told the server

    # `run.step` is right only after the first row of the process; `starting_step` always is.
    assert clients.run(BEGIN + log % (20, 50) + "run.finish()") == "30 True 0\n"
    run = server.runs["one"]
    assert steps(run) == list(range(50))
    assert {row["process"] for row in run.history[:30]} == {first.pid}
    assert first.pid not in {row["process"] for row in run.history[30:]}
    assert run.state == "finished"


def test_a_failing_or_absent_server_loses_no_row(server: WandbServer, clients: Clients) -> None:
    client = clients.script(
        BEGIN
        + """
run = begin("one")
for part in range(3):
    wait()
    for step in range(part * 10, part * 10 + 10):
        run.log({"value": step}, step=step, commit=True)
    print("logged", flush=True)
run.finish()
"""
    )
    assert client.stdin is not None
    assert client.stdout is not None
    outages: tuple[tuple[Callable[[], None], Callable[[], None]], ...] = (
        (lambda: server.fail(429), server.recover),
        (lambda: server.fail(500), server.recover),
        (server.vanish, server.come_back),
    )
    for part, (begin, end) in enumerate(outages):
        assert client.stdout.readline() == "ready\n"
        begin()
        asked = len(server.requests)
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "logged\n"
        assert len(server.runs["one"].history) == part * 10
        if begin != server.vanish:
            until(lambda asked=asked: len(server.requests) > asked + 1)  # type: ignore[misc]
        end()
        until(lambda rows=part * 10 + 10: len(server.runs["one"].history) == rows)  # type: ignore[misc]
    ended(client)
    assert steps(server.runs["one"]) == list(range(30))
    assert server.runs["one"].state == "finished"


@pytest.mark.slow
def test_offline_runs_are_synced_and_rows_logged_twice_get_new_steps(server: WandbServer, clients: Clients) -> None:
    log = """
os.environ["WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"] = "1"
run = begin("one", resume="allow", mode="offline")
for step in range(%d, %d):
    run.log({"value": step, "text": f"row {step}"}, step=step, commit=True)
"""
    records = Path(server.environment()["WANDB_DIR"]) / "wandb"
    killed = clients.script(BEGIN + log % (0, 6) + "wait()")
    until(lambda: any(b"row 5" in path.read_bytes() for path in records.glob("*/*.wandb")))
    killed.kill()
    killed.wait()
    clients.run(BEGIN + log % (4, 9) + "run.finish()")
    assert server.requests == []

    ended(clients.start("-m", "wandb", "sync", *map(str, sorted(records.glob("offline-run-*")))))
    # The client drops rows with an old step while it is online, but `wandb sync` gives them new ones.
    run = server.runs["one"]
    assert [row["value"] for row in run.history] == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert steps(run) == list(range(11))
    assert run.state == "finished"


@pytest.mark.slow
def test_a_preempted_run_says_so(server: WandbServer, clients: Clients) -> None:
    client = clients.script(BEGIN + "run = begin('one')\nrun.mark_preempting()\nwait()")
    until(lambda: "one" in server.runs and server.runs["one"].state == "preempting")
    client.kill()


@pytest.mark.slow
def test_a_wrong_key_and_a_request_to_another_host_are_refused(tmp_path: Path) -> None:
    with WandbServer() as server:
        clients = Clients(server, tmp_path)
        refused = clients.script(
            "import os; os.environ['WANDB_API_KEY'] = '1' * 40\n"
            + BEGIN
            + "import urllib.request\n"
            + "for address in ('http://wandb.example/a', 'https://wandb.example/b'):\n"
            + "    try: urllib.request.urlopen(address, timeout=10)\n"
            + "    except OSError as error: print(error)\n"
            + "begin('one')\n"
        )
        output, errors = refused.communicate(timeout=SECONDS)
        assert output.count("403") == 2
        assert "CommError: unknown API key" in errors
        assert server.runs == {}
        assert server.problems == [
            "a request to another host: GET http://wandb.example/a",
            "a request to another host: CONNECT wandb.example:443",
        ]


def send(server: WandbServer, path: str, content: dict[str, Any]) -> int:
    """The status of a request as the client would make it."""
    key = b64encode(f"api:{server.api_key}".encode()).decode()
    request = urllib.request.Request(
        server.url + path, json.dumps(content).encode(), {"Authorization": f"Basic {key}"}, method="POST"
    )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def stream(offset: int, *lines: str) -> dict[str, Any]:
    return {"files": {HISTORY: {"offset": offset, "content": list(lines)}}}


def test_failures_last_as_long_as_asked() -> None:
    with WandbServer() as server:
        viewer = {"query": "query Viewer { viewer { id } }"}
        server.fail(429, times=2)
        assert [send(server, "/graphql", viewer) for _ in range(3)] == [429, 429, 200]
        server.fail(503, seconds=60)
        assert send(server, "/graphql", viewer) == 503
        server.fail(503, seconds=0)
        assert send(server, "/graphql", viewer) == 200
        server.fail(500)
        assert send(server, "/graphql", viewer) == 500
        server.recover()
        assert send(server, "/graphql", viewer) == 200
        server.vanish()
        with pytest.raises(urllib.error.URLError, match="refused"):
            send(server, "/graphql", viewer)
        server.come_back()
        assert send(server, "/graphql", viewer) == 200
        assert server.requests == ["POST /graphql Viewer"] * 8


def test_lines_are_placed_by_their_offset_and_a_gap_is_refused() -> None:
    with WandbServer() as server:
        server.runs["one"] = StoredRun("one", "plasticity", "lab")
        path = "/files/lab/plasticity/one/file_stream"
        assert send(server, path, stream(0, '{"_step": 0}', '{"_step": 1}')) == 200
        assert send(server, path, stream(1, '{"_step": 10}', '{"_step": 11}')) == 200
        assert steps(server.runs["one"]) == [0, 10, 11]
        assert server.problems == []
        assert send(server, path, stream(4, '{"_step": 12}')) == 400
        assert steps(server.runs["one"]) == [0, 10, 11]
        assert server.problems == ["one/wandb-history.jsonl: 3 lines, but new ones begin at 4"]


@pytest.mark.parametrize(
    ("path", "content", "problem"),
    [
        ("/files/lab/plasticity/two/file_stream", {}, "unknown run: two"),
        ("/files/lab/plasticity/one/file_stream", stream(0, "not JSON"), "JSONDecodeError"),
        ("/graphql", {"query": "query Sweep { sweep }"}, "unknown operation: Sweep"),
        ("/graphql", {"query": "mutation UpsertBucket { x }", "variables": {"name": "two"}}, "without a project"),
        (
            "/graphql",
            {"query": "mutation UpsertBucket { x }", "variables": {"name": "one", "project": "other"}},
            "said to be of other",
        ),
        (
            "/graphql",
            {
                "query": "query Runs { x }",
                "variables": {"entity": "lab", "project": "plasticity", "filters": '{"$or": []}', "perPage": 1},
            },
            "no column '$or'",
        ),
        ("/sdk/otel/v1/logs", {}, "no such path"),
    ],
)
def test_what_no_client_should_send_is_a_problem(path: str, content: dict[str, Any], problem: str) -> None:
    with WandbServer() as server:
        server.runs["one"] = StoredRun("one", "plasticity", "lab")
        assert send(server, path, content) in (400, 404)
        assert len(server.problems) == 1
        assert problem in server.problems[0]
