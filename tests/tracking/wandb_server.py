"""A stand-in, on the loopback interface, for the Weights & Biases server, for tests with the real client.

It answers what wandb 0.31 asks while it records runs (`wandb.init`, `run.log`, `run.finish`, `wandb sync`) and while
`wandb.Api` reads them back, and keeps everything in memory. What a client should not have done (a gap between lines, a
query that it does not know, a request to another host) is refused and listed in `WandbServer.problems`, which a test
should find empty. Not imitated: sweeps, artifacts, downloads of files, Parquet exports of finished runs, and the change
to "crashed" after minutes of silence (set `StoredRun.state` by hand).
"""

import base64
import gzip
import json
import math
import re
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote

HISTORY = "wandb-history.jsonl"
SUMMARY = "wandb-summary.json"
EVENTS = "wandb-events.jsonl"
OUTPUT = "output.log"

Json = dict[str, Any]


@dataclass
class StoredRun:
    """One run as the server holds it. Tests may change fields, e.g. `state = "crashed"`."""

    id: str
    project: str
    entity: str
    group: str | None = None
    job_type: str | None = None
    name: str = ""
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    state: str = "running"
    details: Json = field(default_factory=dict)
    """What else describes the run or its machine, as sent when it began: host, program, commit, repo."""
    config_record: dict[str, Json] = field(default_factory=dict)
    """The configuration as sent: name → {"value": value}; "_wandb" holds metrics, versions and the machine."""
    streams: dict[str, list[str]] = field(default_factory=dict)
    """Lines of the streamed files (history, summary, system metrics, console) by file name."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents of uploaded files by name within the run."""

    @property
    def config(self) -> Json:
        """The configuration as plain values, without the client's own "_wandb"."""
        return {key: item["value"] for key, item in self.config_record.items() if key != "_wandb"}

    @property
    def metrics(self) -> list[Json]:
        """What `define_metric` sent, as {"1": name, "5": index of the step metric plus one, ...}."""
        metrics: list[Json] = self.config_record.get("_wandb", {}).get("value", {}).get("m", [])
        return metrics

    @property
    def summary(self) -> Json:
        """The last line of the summary stream: the real server, too, reads only that."""
        lines = self.lines(SUMMARY)
        return json.loads(lines[-1]) if lines else {}

    @property
    def history(self) -> list[Json]:
        """The rows in the order of their lines, with the client's `_step`, `_runtime` and `_timestamp`."""
        return [json.loads(line) for line in self.lines(HISTORY)]

    def lines(self, name: str) -> list[str]:
        """A copy of the lines of one streamed file."""
        return list(self.streams.get(name, []))

    def matches(self, filters: Json) -> bool:
        """Whether the run passes a filter of values, {"$in": [...]} and {"$ne": value}, on columns or `config.<name>`.

        Raises: ValueError on anything else, since a filter that is silently ignored returns every run.
        """
        columns = {
            "group": self.group,
            "jobType": self.job_type,
            "display_name": self.name,
            "name": self.id,
            "state": self.state,
            "tags": self.tags,
        }
        for key, wanted in filters.items():
            if not (key in columns or key.startswith("config.")):
                raise ValueError(f"the stand-in has no column {key!r} to filter by")
            value = columns.get(key, self.config.get(key.removeprefix("config.")))
            values = value if isinstance(value, list) else [value]
            if not isinstance(wanted, dict):
                fits = wanted in values
            elif list(wanted) == ["$in"]:
                fits = any(one in values for one in wanted["$in"])
            elif list(wanted) == ["$ne"]:
                fits = wanted["$ne"] not in values
            else:
                raise ValueError(f"the stand-in does not filter by {wanted!r}")
            if not fits:
                return False
        return True


class WandbServer:
    """The server, listening from `__enter__` to `__exit__`; clients may be in this process or in another."""

    api_key = "0123456789abcdef" * 2 + "01234567"

    def __init__(self, entity: str = "lab") -> None:
        self.entity = entity
        self.runs: dict[str, StoredRun] = {}
        self.requests: list[str] = []
        self.problems: list[str] = []
        self._lock = threading.RLock()
        self._port = 0
        self._listener: _Listener | None = None
        self._failure: tuple[int, float, float] | None = None  # status, requests left, end on the monotonic clock
        self._folder = tempfile.TemporaryDirectory(prefix="wandb-server-", ignore_cleanup_errors=True)

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """The base URL; it stays the same over `vanish` and `come_back`."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What a client needs besides its own environment: the address, a key, and folders of its own.

        Nothing is read from or written to the user's home or the working directory. Telemetry is off, and a request
        to any other host comes here, as to a proxy, and is a problem. Failed requests are tried again after a second,
        rows are sent every second: the client knows whole seconds only, and takes less for "not set".
        """
        root = Path(self._folder.name)
        folders = {
            f"WANDB_{name}": str(root / name.lower())
            for name in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR", "ARTIFACT_DIR", "DIR")
        }
        for folder in folders.values():
            Path(folder).mkdir(exist_ok=True)
        patience = {
            f"WANDB_X_{channel}_RETRY_WAIT_{bound}_SECONDS": "1"
            for channel in ("FILE_STREAM", "GRAPHQL", "FILE_TRANSFER")
            for bound in ("MIN", "MAX")
        }
        proxies = {name: self.url for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        return {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_ERROR_REPORTING": "false",
            "NETRC": str(root / "netrc"),
            "WANDB_CREDENTIALS_FILE": str(root / "credentials.json"),
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            **proxies,
            **folders,
            **patience,
        }

    def fail(self, status: int, times: int | None = None, seconds: float | None = None) -> None:
        """Answer every request with `status`: for a number of requests, for a time, or until `recover`."""
        with self._lock:
            left = math.inf if times is None else times
            end = math.inf if seconds is None else time.monotonic() + seconds
            self._failure = (status, left, end)

    def recover(self) -> None:
        """End what `fail` began."""
        with self._lock:
            self._failure = None

    def vanish(self) -> None:
        """Stop listening: new connections are refused (every request has its own connection)."""
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None

    def come_back(self) -> None:
        """Listen again, on the port of the first time and with everything that was stored."""
        if self._listener is None:
            self._listener = _Listener(self, self._port)
            self._port = self._listener.server_address[1]
            # The interval only bounds how long shutdown() waits.
            threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Json]:
        """The status and the JSON body for one request; `path` is decoded."""
        with self._lock:
            try:
                return self._answer(method, path, authorization, body)
            except Exception as error:  # else the client would see a broken connection, and try again for hours
                return self._problem(f"{method} {path}: {error!r}")

    def _answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, Json]:
        request = json.loads(body) if method == "POST" and path.startswith("/") else {}
        operation = _operation(request) if path == "/graphql" else ""
        self.requests.append(f"{method} {path} {operation}".rstrip())
        status = self._failing_status()
        if status is not None:
            return status, _errors("made to fail")
        if not path.startswith("/"):
            return self._problem(f"a request to another host: {method} {path}", 403)
        if method == "PUT" and path.startswith("/storage/"):
            return self._store_file(path.removeprefix("/storage/"), body)  # as with a signed URL, no key is needed
        if authorization != "Basic " + base64.b64encode(f"api:{self.api_key}".encode()).decode():
            return 401, _errors("unknown API key")
        if path == "/graphql":
            return self._graphql(operation, request.get("variables") or {})
        if path.startswith("/files/") and path.endswith("/file_stream"):
            return self._file_stream(path.split("/")[4], request)
        return self._problem(f"no such path: {method} {path}", 404)

    def _failing_status(self) -> int | None:
        if self._failure is None:
            return None
        status, left, end = self._failure
        if left <= 0 or time.monotonic() >= end:
            self._failure = None
            return None
        self._failure = (status, left - 1, end)
        return status

    def _problem(self, text: str, status: int = 400) -> tuple[int, Json]:
        self.problems.append(text)
        return status, _errors(text)

    def _store_file(self, path: str, body: bytes) -> tuple[int, Json]:
        _, _, run, name = path.split("/", 3)
        if run not in self.runs:
            return self._problem(f"a file for an unknown run: {path}", 404)
        self.runs[run].files[name] = body
        return 200, {}

    def _file_stream(self, run_id: str, request: Json) -> tuple[int, Json]:
        run = self.runs.get(run_id)
        if run is None:
            return self._problem(f"rows for an unknown run: {run_id}", 404)
        for name, chunk in request.get("files", {}).items():
            lines = run.streams.setdefault(name, [])
            offset, content = chunk["offset"], chunk["content"]
            if offset > len(lines):
                return self._problem(f"{run_id}/{name}: {len(lines)} lines, but new ones begin at {offset}")
            for line in content if name != OUTPUT else ():
                json.loads(line)
            lines[offset : offset + len(content)] = content
        if request.get("complete"):
            run.state = "failed" if request.get("exitcode") else "finished"
        elif request.get("preempting"):
            run.state = "preempting"
        elif run.state != "preempting":
            run.state = "running"  # any sign of life revives a run
        return 200, {"exitcode": None, "limits": {}}

    def _graphql(self, operation: str, variables: Json) -> tuple[int, Json]:
        answers: dict[str, Callable[[Json], Json]] = {
            "Viewer": self._viewer,
            "GetDefaultEntity": self._viewer,
            "ServerFeaturesQuery": lambda _: {
                "serverInfo": {"features": [{"name": "FILESTREAM_GZIP", "isEnabled": True}]}
            },
            "OrganizationCoreWeaveOrganizationID": lambda _: {"entity": None},
            "RunResumeStatus": self._resume_status,
            "UpsertBucket": self._upsert,
            "CreateRunFiles": self._upload_urls,
            "MarkRunFilesUploaded": lambda _: {"markRunFilesUploaded": {"success": True}},
            "RunStoppedStatus": lambda _: {"project": {"run": {"stopped": False}}},
            "Runs": self._list_runs,
            "Run": self._one_run,
            "RunHistoryKeys": self._one_run,
            "RunParquetHistory": self._one_run,
            "HistoryPage": self._one_run,
            "SampledHistoryPage": self._one_run,
            "RunFullHistory": self._one_run,
            "RunSampledHistory": self._one_run,
        }
        if operation not in answers:
            return self._problem(f"unknown operation: {operation} {variables}")
        return 200, {"data": answers[operation](variables)}

    def _viewer(self, variables: Json) -> Json:
        name = self.entity
        return {
            "viewer": {
                "id": "user",
                "entity": name,
                "username": name,
                "name": name,
                "email": f"{name}@localhost",
                "admin": False,
                "flags": "{}",
                "teams": {"edges": []},
                "apiKeys": {"edges": []},
                "deletedAt": None,
            }
        }

    def _resume_status(self, variables: Json) -> Json:
        run = self.runs.get(variables["name"])
        if run is None or run.project != variables["project"]:
            return {"model": None}
        return {
            "model": {
                "id": run.project,
                "name": run.project,
                "entity": {"id": run.entity, "name": run.entity},
                "bucket": {
                    "id": run.id,
                    "name": run.id,
                    "summaryMetrics": json.dumps(_as_read(run.summary)),
                    "displayName": run.name,
                    "logLineCount": len(run.lines(OUTPUT)),
                    "historyLineCount": len(run.lines(HISTORY)),
                    "eventsLineCount": len(run.lines(EVENTS)),
                    "historyTail": json.dumps([json.dumps(_as_read(row)) for row in run.history[-1:]]),
                    "eventsTail": json.dumps(run.lines(EVENTS)[-1:]),
                    "config": json.dumps(run.config_record),
                    "tags": run.tags,
                    "notes": run.notes,
                    "wandbConfig": json.dumps(run.config_record.get("_wandb", {}).get("value", {})),
                },
            }
        }

    def _upsert(self, variables: Json) -> Json:
        run_id = variables.get("name") or variables["id"]
        inserted = run_id not in self.runs
        if inserted:
            project, entity = variables.get("project"), variables.get("entity") or self.entity
            if not project:
                raise ValueError(f"a new run without a project: {variables}")
            self.runs[run_id] = StoredRun(run_id, project, entity, name=f"run-{len(self.runs) + 1}")
        run = self.runs[run_id]
        if variables.get("project", run.project) != run.project:
            raise ValueError(f"run {run_id} of {run.project} is now said to be of {variables['project']}")
        for name, variable in (
            ("group", "groupName"),
            ("job_type", "jobType"),
            ("name", "displayName"),
            ("notes", "notes"),
            ("tags", "tags"),
            ("state", "state"),
        ):
            if variables.get(variable) is not None:
                setattr(run, name, variables[variable])
        run.details |= {name: variables[name] for name in ("host", "program", "commit", "repo") if variables.get(name)}
        if variables.get("config") is not None:
            run.config_record = json.loads(variables["config"])
        if variables.get("summaryMetrics") is not None:
            run.streams[SUMMARY] = [variables["summaryMetrics"]]
        if variables.get("name"):
            run.state = "running"
        entity = {"id": run.entity, "name": run.entity}
        return {
            "upsertBucket": {
                "inserted": inserted,
                "bucket": {
                    "id": run.id,
                    "name": run.id,
                    "displayName": run.name,
                    "description": None,
                    "config": json.dumps(run.config_record),
                    "sweepName": None,
                    "project": {"id": run.project, "name": run.project, "entity": entity},
                    "historyLineCount": len(run.lines(HISTORY)),
                },
            }
        }

    def _upload_urls(self, variables: Json) -> Json:
        place = f"{self.url}/storage/" + "/".join(quote(variables[key]) for key in ("entity", "project", "run"))
        files = [{"name": name, "uploadUrl": f"{place}/{quote(name)}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _list_runs(self, variables: Json) -> Json:
        of_project = [
            run
            for run in self.runs.values()
            if (run.entity, run.project) == (variables["entity"], variables["project"])
        ]
        if not of_project:
            return {"project": None}
        order = variables.get("order") or "+created_at"
        if order.lstrip("+-") != "created_at":
            raise ValueError(f"the stand-in orders by created_at only, not by {order!r}")
        chosen = [run for run in of_project if run.matches(json.loads(variables.get("filters") or "{}"))]
        if order.startswith("-"):
            chosen.reverse()
        first = int(variables.get("cursor") or 0)
        end = min(first + variables["perPage"], len(chosen))
        edges = [
            {"node": _described(run), "cursor": str(index)}
            for index, run in enumerate(chosen[first:end], start=first + 1)
        ]
        return {
            "project": {
                "internalId": "1",
                "runCount": len(chosen),
                "readOnly": False,
                "runs": {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(chosen)}},
            }
        }

    def _one_run(self, variables: Json) -> Json:
        run = self.runs.get(variables.get("name") or variables.get("run") or variables["runName"])
        if run is None or (run.entity, run.project) != (variables["entity"], variables["project"]):
            return {"project": {"run": None}}
        answer = _described(run)
        low, high = variables.get("minStep", 0), variables.get("maxStep", math.inf)
        lines = [json.dumps(_as_read(row)) for row in run.history if low <= row["_step"] < high]
        answer["history"] = _sample(lines, variables.get("pageSize") or variables.get("samples") or 500)
        answer["events"] = run.lines(EVENTS)
        specs = variables.get("specs") or ([variables["spec"]] if "spec" in variables else [])
        answer["sampledHistory"] = [_with_keys(run, json.loads(spec)) for spec in specs]
        answer["parquetHistory"] = {"parquetUrls": [], "liveData": [{"_step": row["_step"]} for row in run.history[:1]]}
        return {"project": {"run": answer}}


def _described(run: StoredRun) -> Json:
    rows = run.history
    return {
        "id": run.id,
        "projectId": "1",
        "name": run.id,
        "displayName": run.name,
        "tags": run.tags,
        "sweepName": None,
        "state": run.state,
        "config": json.dumps(run.config_record),
        "group": run.group,
        "jobType": run.job_type,
        "commit": None,
        "readOnly": False,
        "createdAt": "2024-01-01T00:00:00Z",
        "heartbeatAt": "2024-01-01T00:00:00Z",
        "description": None,
        "notes": run.notes,
        "systemMetrics": "{}",
        "summaryMetrics": json.dumps(_as_read(run.summary)),
        "historyLineCount": len(rows),
        "user": {"name": run.entity, "username": run.entity},
        "historyKeys": {
            "lastStep": max((row["_step"] for row in rows), default=-1),
            "keys": {key: {} for row in rows for key in row},
            "sets": [],
        },
    }


def _sample(rows: list[Any], samples: int) -> list[Any]:
    """At most `samples` of the rows, evenly spread: who takes this for the data loses rows, as with the real server."""
    if len(rows) <= samples:
        return rows
    return [rows[index * len(rows) // samples] for index in range(samples)]


def _with_keys(run: StoredRun, spec: Json) -> list[Json]:
    keys, low, high = spec["keys"], spec.get("minStep", 0), spec.get("maxStep", math.inf)
    rows = [row for row in run.history if low <= row["_step"] <= high and all(key in row for key in keys)]
    return _sample([{key: _as_read(row[key]) for key in keys} for row in rows], spec["samples"])


def _as_read(value: Any) -> Any:
    """The value as users of the real server report it: JSON has no NaN and no infinity, so they have become strings."""
    if isinstance(value, dict):
        return {key: _as_read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _operation(request: Json) -> str:
    found = re.search(r"\b(?:query|mutation)\s+(\w+)", request.get("query", ""))
    return found.group(1) if found else "anonymous"


def _errors(message: str) -> Json:
    return {"errors": [{"message": message}], "error": message}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # 32 runs that start together open more connections than the default of 5 holds

    def __init__(self, wandb: WandbServer, port: int) -> None:
        self.wandb = wandb
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that was killed leaves a broken connection, and `answer` reports the rest."""


class _Handler(BaseHTTPRequestHandler):
    server: _Listener

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        path = unquote(self.path)
        status, answer = self.server.wandb.answer(self.command, path, self.headers.get("Authorization", ""), body)
        encoded = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_PUT = do_CONNECT = _respond

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read `WandbServer.requests`."""
