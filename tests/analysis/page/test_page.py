"""The report page: what it says, and what it never holds."""

import base64
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lop_sweeps.analysis import page
from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.page.markup import VOID
from lop_sweeps.analysis.page.runs import ENTRIES
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.reading.provenance import collect
from lop_sweeps.analysis.tables import early_late
from tests.analysis.sweep_builder import SweepBuilder, task_rows

# 2001-09-09 01:46:40 UTC.
START = 1e9


class Reader(HTMLParser):
    """What a reader sees: sections by heading, cells row by row; and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {"": ""}
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "h2" in self.open:
            self.sections[data] = ""
        elif "style" not in self.open:
            self.sections[list(self.sections)[-1]] += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row[0] == first)

    @property
    def top(self) -> str:
        return self.sections[""]

    @property
    def missing(self) -> str:
        return self.sections["What failed or is missing"]


def text_of(sweep: SweepBuilder, **arguments: Any) -> str:
    given: dict[str, Any] = {"pictures": [], "tables": {}, "skipped": [], **arguments}
    return page.write(load(sweep.folder), path=sweep.folder / "report.html", **given).read_text(encoding="utf-8")


def read(sweep: SweepBuilder, **arguments: Any) -> Reader:
    return Reader(text_of(sweep, **arguments))


def note(run: Path, *sessions: dict[str, Any], **facts: Any) -> None:
    """Write a run's provenance."""
    machine = {"host": "a", "system": "Linux", "cpu": "Z80", "cores": 1}
    usual = {"commit": "c0ffee", "diff": "", "python": "3.11.7", "packages": {"torch": "2.0"}, "machine": machine}
    (run / "provenance.json").write_text(json.dumps({**usual, "sessions": list(sessions), **facts}))


def session(began: float = 0, ended: float | None = 60, pid: int = 1) -> dict[str, Any]:
    """Seconds after START."""
    times = {"began": START + began} | ({} if ended is None else {"ended": START + ended})
    return {**times, "pid": pid, "engine": "fused", "pack": 2, "state": "done"}


def fail(run: Path, message: str, traceback: str = "Traceback: deep") -> None:
    error = {"type": "ValueError", "message": message, "traceback": traceback}
    (run / "status.json").write_text(json.dumps({"state": "failed", "num_tasks": 20, "error": error}))


def test_sections_stand_in_order(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 2)).save(path)
    shown = read(
        sweep, pictures=[page.Picture("Accuracy", path)], tables={"Early": "text"}, command="lop-figures 'a b'"
    )
    expected = ["", "Tables", "Figures", "What was run", "What failed or is missing", "How this page was made"]
    assert list(shown.sections) == expected
    assert "lop-figures 'a b'" in shown.sections["How this page was made"]
    assert "Tables" not in read(sweep).sections


def test_top_says_what_was_run_and_how_it_ended(sweep: SweepBuilder) -> None:
    for seed in range(4):
        sweep.add(seed=seed)
    sweep.add(algorithm="l2", seed=0, state="diverged", rows=task_rows([0.9] * 3))
    sweep.add(algorithm="l2", seed=1, state="running", rows=task_rows([0.9] * 5))
    fail(sweep.add(algorithm="l2", seed=7), "no")
    top = read(sweep).top
    assert "On permuted_digits (20 tasks): 7 runs of 2 configurations (backprop, l2), seeds 0–3, 7." in top
    counts = {"runs": 7, "done": 4, "diverged": 1, "failed": 1, "not finished": 1, "missing seeds": 3}
    assert "".join(f"{name}{number}" for name, number in counts.items()) in top


def test_times_are_utc_wherever_the_page_is_made(sweep: SweepBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    note(sweep.add(seed=0), session(0, 60))
    note(sweep.add(seed=1), session(-3600, 0), session(100, 7200))
    text = text_of(sweep)
    assert "first start 2001-09-09 00:46 UTC, last end 2001-09-09 03:46 UTC" in text
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert text_of(sweep) == text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_time_of_runs_side_by_side_counts_once_for_their_process(sweep: SweepBuilder) -> None:
    for seed, (pid, times) in enumerate([(1, (0, 3600)), (1, (1800, 5400)), (2, (0, 3600))]):
        note(sweep.add(seed=seed), session(*times, pid))
    note(sweep.add(seed=3), session(0, None), session(9000, 8000))
    found = collect(load(sweep.folder).runs["folder"].map(Path))
    assert found.run_seconds == 3 * 3600
    assert found.process_seconds == 5400 + 3600
    assert (found.sessions, found.open) == (5, 2)
    top = read(sweep).top
    assert "2.5 hours of process time; 3 run-hours, where runs trained side by side in one process each count." in top
    assert "5 sessions (5 on the fused engine)" in top
    assert "2 sessions without an end" in top


def test_one_process_on_each_of_two_hosts_is_two(sweep: SweepBuilder) -> None:
    for seed, host in enumerate("ab"):
        note(sweep.add(seed=seed), session(), machine={"host": host, "cpu": "Z80", "cores": 1, "system": "Linux"})
    top = read(sweep).top
    assert "2 minutes of process time. 2 sessions" in top
    assert "Z80, 1 cores, Linux: a (1 run), b (1 run)" in top


def test_code_is_marked_where_it_was_not_committed_or_not_one(sweep: SweepBuilder) -> None:
    note(sweep.add(seed=0))
    shown = read(sweep)
    assert "commit c0ffee without uncommitted changes" in shown.top
    assert not marks(shown)
    note(sweep.add(seed=1), diff="+my secret", packages={"torch": "2.1"})
    note(sweep.add(seed=2), diff=None)
    (sweep.add(seed=3) / "provenance.json").write_text("{")
    shown = read(sweep)
    assert "3 versions of the code" in shown.top
    assert re.search(r"commit c0ffee with uncommitted changes \(diff [0-9a-f]{8}\), 1 run", shown.top)
    assert "commit c0ffee (uncommitted changes: not recorded), 1 run" in shown.top
    assert "1 run without a recorded commit" in shown.top
    assert "torch 2.0 (2 runs), 2.1 (1 run)" in shown.top
    assert marks(shown) == 3
    assert "provenance.json, which 3 of them have" in shown.sections["How this page was made"]


def marks(shown: Reader) -> int:
    return sum(attributes.get("class") == "warn" for _, attributes in shown.tags)


def test_uncommitted_lines_and_the_environment_stay_out(sweep: SweepBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "hunter2")
    note(sweep.add(), session(), diff="+password = 'swordfish'", environment={"A_TOKEN": "hunter2"})
    text = text_of(sweep)
    assert "with uncommitted changes" in text
    assert "swordfish" not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '"text"',
        '{"sessions": 3, "machine": [1], "packages": "torch", "commit": null, "diff": {}}',
        '{"sessions": [null, 1, {"began": "yesterday"}, {"began": 1e300, "ended": NaN}, {"began": true, "pid": {}}]}',
        '{"commit": ["a"], "diff": 5, "machine": {"cpu": null, "host": []}, "sessions": [{"engine": {}, "pid": 0}]}',
        "[" * 100_000,
    ],
)
def test_damaged_provenance_is_no_reason_to_fail(sweep: SweepBuilder, content: str) -> None:
    (sweep.add() / "provenance.json").write_text(content)
    assert "no session was recorded" in read(sweep).top


def test_runs_without_provenance(sweep: SweepBuilder) -> None:
    sweep.add()
    shown = read(sweep)
    assert shown.top.count("no session was recorded") == 2
    assert "1 run without a recorded commit" in shown.top
    assert "provenance.json, which 0 of them have" in shown.sections["How this page was made"]


def test_frame_becomes_a_table_with_intervals_in_one_cell(sweep: SweepBuilder) -> None:
    sweep.add()
    estimates = {"gain": [0.5, -12.25, np.nan], "gain_low": [0.25, -13, np.nan], "gain_high": [0.75, np.nan, np.nan]}
    frame = pd.DataFrame({"label": ["a", "b", "c"], "n_runs": [3, 1, 0], **estimates})
    shown = read(sweep, tables={"Gains": frame})
    assert shown.rows[:4] == [
        ["label", "n runs", "gain"],
        ["a", "3", "0.5000 [0.2500, 0.7500]"],
        ["b", "1", "−12.25"],
        ["c", "0", "–"],
    ]
    indexed = read(sweep, tables={"Gains": frame.set_index("label")})
    assert indexed.rows == shown.rows


def test_markdown_becomes_a_table(sweep: SweepBuilder) -> None:
    sweep.add(algorithm="a|b", rows=task_rows([0.9] * 10 + [0.7] * 10))
    sweep.add(benchmark={"name": "regression"}, rows=task_rows([1.0] * 20, metric="squared_error"))
    shown = read(sweep, tables={"Early and late": early_late.markdown(early_late.summary(load(sweep.folder)))})
    assert shown.rows[:2] == [
        ["method", "runs", "early", "late", "late − early"],
        ["a|b", "1", "90.00", "70.00", "-20.00"],
    ]
    assert shown.rows[2][0] == "method"
    assert "permuted_digits: accuracy (%)" in shown.sections["Tables"]
    assert "Student's t interval over runs" in shown.sections["Tables"]
    assert "**" not in shown.sections["Tables"]
    kinds = [attributes.get("class") for tag, attributes in shown.tags if tag == "td"]
    assert kinds[:4] == ["number"] * 4


def test_other_text_keeps_its_lines(sweep: SweepBuilder) -> None:
    sweep.add()
    assert "<pre>a  b\n1  2</pre>" in text_of(sweep, tables={"Plain": "a  b\n1  2"})


def test_figures_are_in_the_page(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20), "red").save(path)
    shown = read(sweep, pictures=[page.Picture("Accuracy", path, 'Mean over "runs".')])
    image = next(attributes for tag, attributes in shown.tags if tag == "img")
    kind, _, data = str(image["src"]).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == path.read_bytes()
    assert (image["width"], image["height"]) == ("40", "20")
    assert image["alt"] == 'Accuracy. Mean over "runs".'
    assert 'AccuracyMean over "runs".' in shown.sections["Figures"]


@pytest.mark.parametrize("content", [None, b"", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_by_name(sweep: SweepBuilder, tmp_path: Path, content: bytes | None) -> None:
    sweep.add()
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AnalysisError, match=r"a\.png"):
        read(sweep, pictures=[page.Picture("Accuracy", path)])


def test_page_that_cannot_be_written_is_refused_by_name(sweep: SweepBuilder, tmp_path: Path) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match="nowhere"):
        page.write(load(sweep.folder), [], {}, [], tmp_path / "nowhere" / "report.html")


def test_one_row_per_configuration_with_what_differs(sweep: SweepBuilder) -> None:
    cbp = {"continual_backprop": {"replacement_rate": 1e-4, "maturity_threshold": 100, "bias": True}}
    for seed in (0, 1, 2, 5):
        sweep.add(seed=seed, optimizer={"step_size": 0.01, "weight_decay": 0.0})
        sweep.add(
            seed=seed,
            algorithm="continual_backprop",
            options=cbp,
            optimizer={"step_size": 1e-5, "weight_decay": 0.0},
            state="running" if seed else "done",
            rows=task_rows([0.9] * (20 - seed)),
        )
    shown = read(sweep)
    assert shown.rows[0] == ["configuration", "step_size", "other settings", "seeds", "runs", "tasks"]
    assert shown.row("backprop") == ["backprop", "0.01", "–", "0–2, 5", "4 done", "20"]
    settings = "replacement_rate=0.0001, maturity_threshold=100, bias=true"
    expected = ["continual_backprop", "1e-05", settings, "0–2, 5", "1 done, 3 running", "15–20 of 20"]
    assert shown.row("continual_backprop") == expected


def test_choices_are_shown_where_the_label_does_not_tell_them(sweep: SweepBuilder) -> None:
    sweep.add(config={"variant": "ours"}, algorithm="continual_backprop")
    sweep.add(config={"variant": "theirs"}, choices={"network": "linear"})
    shown = read(sweep)
    assert shown.rows[0][:3] == ["configuration", "algorithm", "network"]
    assert shown.row("ours")[1:3] == ["continual_backprop", "mlp"]


def test_benchmarks_are_kept_apart(sweep: SweepBuilder) -> None:
    sweep.add(seed=0, optimizer={"step_size": 0.1})
    sweep.add(seed=1, benchmark={"name": "regression"}, rows=task_rows([1.0], metric="squared_error"))
    fail(sweep.add(seed=2, benchmark={"name": "regression"}), "no")
    shown = read(sweep)
    assert [row for row in shown.rows if row[0] == "configuration"] == [["configuration", "seeds", "runs", "tasks"]] * 2
    assert "All configurations of a benchmark have the same seeds." in shown.missing
    assert "backprop on regression, seed 2" in shown.missing


def test_resolved_configuration_is_that_of_no_run_in_particular(sweep: SweepBuilder) -> None:
    for seed in (12345, 54321):
        sweep.add(
            seed=seed,
            run=f"run-of-{seed}",
            config={"paths": {"sweeps": "/home/me", "data": ["there"]}, "engine": "auto"},
        )
    what = read(sweep).sections["What was run"]
    assert "benchmark:\n  _target_: lop.Digits\n  name: permuted_digits\n" in what
    assert "engine: auto" in what
    for own in ("seed:", "run-of", "paths", "/home/me", "there"):
        assert own not in what


def test_failures_of_one_kind_are_told_once(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    for seed in (1, 2, 3):
        fail(sweep.add(seed=seed), "out of memory\nsecond line", "Traceback: deep")
    fail(sweep.add(seed=4), "disk full")
    (sweep.add(seed=5, state="failed") / "status.json").write_text('{"state": "failed", "error": "odd"}')
    shown = read(sweep)
    for text in (
        "seeds 1–3: ValueError: out of memory",
        "seed 4: ValueError: disk full",
        "seed 5: no error was recorded",
    ):
        assert shown.missing.count(f"backprop, {text}") == 1
    assert "second line" not in shown.missing
    assert shown.missing.count("Traceback: deep") == 2
    assert text_of(sweep).count("<details><summary>traceback</summary><pre>Traceback: deep</pre></details>") == 2
    assert "status.json of 5 failed" in shown.sections["How this page was made"]


def test_long_lists_are_cut_and_say_so(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    for seed in range(1, ENTRIES + 8):
        fail(sweep.add(seed=seed, rows=[]), f"number {seed}")
    missing = read(sweep, skipped=[f"figure {i}" for i in range(ENTRIES)]).missing
    assert f"number {ENTRIES}Traceback" in missing.replace("traceback", "")
    assert f"number {ENTRIES + 1}" not in missing
    assert missing.count("more") == 1
    assert "and 7 more" in missing


def test_what_is_missing_is_listed(sweep: SweepBuilder) -> None:
    for seed in range(5):
        sweep.add(seed=seed)
    sweep.add(algorithm="l2", seed=1, state="running", rows=task_rows([0.9] * 3))
    sweep.add(algorithm="l2", seed=2, state="running", rows=task_rows([0.9] * 4))
    sweep.add(algorithm="l2", seed=3, state="waiting", rows=[])
    sweep.add(algorithm="l2", seed=4, state="diverged", rows=task_rows([0.9] * 6))
    missing = read(sweep, skipped=["dead_units: no values"]).missing
    assert "l2, seeds 1–2: running, 3–4 tasks finished" in missing
    assert "l2, seed 3: waiting, 0 tasks finished" in missing
    assert "have them)l2, seed 0" in missing
    assert "tasks before)l2, seed 4" in missing
    assert "Figures that were not drawndead_units: no values" in missing
    assert "Notes" in missing
    assert "runs on permuted_digits have 3 to 20 finished tasks" in missing
    assert "No run failed." in missing
    assert "unfinished" not in missing


def test_page_says_that_nothing_is_missing(sweep: SweepBuilder) -> None:
    sweep.add()
    words = (
        "No run failed. No run is unfinished. All configurations of a benchmark have the same seeds. No run diverged. "
        "All figures that were asked for were drawn."
    )
    assert read(sweep).missing.strip().startswith(words)


def test_text_from_files_never_becomes_markup(sweep: SweepBuilder, tmp_path: Path) -> None:
    attack = "<script>alert('1')</script>\"&"
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 2)).save(path)
    clean = text_of(
        sweep_of(tmp_path / "clean", "usual"), pictures=[page.Picture("usual", path, "usual")], **texts("usual")
    )
    bad = text_of(sweep_of(tmp_path / "bad", attack), pictures=[page.Picture(attack, path, attack)], **texts(attack))
    assert [tag for tag, _ in Reader(bad).tags] == [tag for tag, _ in Reader(clean).tags]
    assert "<script" not in bad
    assert bad.count("&lt;script&gt;") > 20
    assert attack in Reader(bad).missing
    names = {name for _, attributes in Reader(bad).tags for name in attributes}
    assert names == {name for _, attributes in Reader(clean).tags for name in attributes}


def texts(text: str) -> dict[str, Any]:
    frame = pd.DataFrame({"a": [text], text: [1.0]})
    tables = {text: frame, "plain": text, "markdown": f"**{text}**\n\n| {text} |\n| --- |\n| {text} |\n"}
    return {"skipped": [text], "tables": tables, "command": text}


def sweep_of(folder: Path, text: str) -> SweepBuilder:
    """A sweep with `text` wherever a file may hold any."""
    sweep = SweepBuilder(folder)
    for seed in (0, 1):
        run = sweep.add(
            seed=seed,
            config={"variant": text, "sweep": text, text: text},
            benchmark={"name": text},
            options={text: {text: text}},
            optimizer={"step_size": text},
        )
        machine = {"host": text, "cpu": text, "cores": text, "system": text}
        facts = {"commit": text, "python": text, "packages": {text: f"{text}{seed}"}, "machine": machine}
        note(run, {"began": 1.0, "ended": 2.0, "engine": text, "pid": text}, **facts)
    fail(run, text, text)
    sweep.add(seed=0, benchmark={"name": text}, options={text: {text: 0}}, optimizer={"step_size": 1}, state=text)
    return sweep


def test_characters_that_no_page_may_hold(sweep: SweepBuilder) -> None:
    sweep.add(seed=0)
    fail(sweep.add(seed=1), "\x1b[31mred\x1b[0m \ud800 \x00 ü")
    assert "\ufffd[31mred\ufffd[0m \ufffd \ufffd ü" in read(sweep).missing


def test_page_needs_nothing_else(sweep: SweepBuilder) -> None:
    fail(sweep.add(seed=1), "see http://example.com/a")
    sweep.add(seed=0)
    text = text_of(sweep)
    shown = Reader(text)
    targets = [str(a[name]) for _, a in shown.tags for name in ("src", "href", "srcset", "action") if name in a]
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert not re.search(r"url\(|@import|<script|\son\w+=", text)
    ids = {attributes["id"] for _, attributes in shown.tags if "id" in attributes}
    assert {target[1:] for target in targets if target.startswith("#")} == ids
    assert ("html", {"lang": "en"}) in shown.tags


def test_same_sweep_gives_the_same_bytes(sweep: SweepBuilder, tmp_path: Path) -> None:
    for seed in range(3):
        note(sweep.add(seed=seed, algorithm=["backprop", "l2", "redo"][seed]), session(), diff=f"+{seed}")
    first = text_of(sweep)
    for folder in sweep.folder.glob("run-*"):
        (folder / "provenance.json").touch()
    assert text_of(sweep) == first
