"""A sweep on one page: `report.html`, which needs no other file, no network and no script.

It is to be sent to somebody, so it says what was run, by which code, where and when, and what is missing. What it does
not hold: the uncommitted diff of provenance.json, which may be anything.
"""

import base64
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..errors import AnalysisError
from ..names.seeds import ranges
from ..reading import inventory, provenance
from ..reading.inventory import Configuration, Failure
from ..reading.load import Sweep
from ..reading.provenance import Provenance
from .markup import Html, element, join
from .origin import facts
from .runs import configurations, missing
from .style import STYLE
from .table import of_frame, of_text
from .words import count, few

# Nothing is loaded, and no script runs, even if one got into the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A PNG file. text: one sentence that stands under it."""

    title: str
    path: Path
    text: str = ""


def write(
    sweep: Sweep,
    pictures: Sequence[Picture],
    tables: Mapping[str, str | pd.DataFrame],
    skipped: Sequence[str],
    path: Path,
    command: str = "",
) -> Path:
    """Write the page to `path` and return it; the same input gives the same bytes.

    tables: title → frame (see `table.of_frame`), Markdown or plain text. skipped: figures that could not be drawn, with
    the reason. command: what made the page. Of the run directories it reads provenance.json of all runs, status.json of
    those that failed and config.yaml of one per configuration; the page says what is absent or damaged there.

    Raises AnalysisError if a picture cannot be read or the page cannot be written.
    """
    names = few(sweep.runs["sweep"].astype(str).unique())
    held = inventory.configurations(sweep.runs)
    failures = inventory.failures(sweep.runs)
    origin = provenance.collect(map(Path, sweep.runs["folder"]))
    sections = {
        "Tables": _tables(tables),
        "Figures": join(map(_figure, pictures), "\n"),
        "What was run": configurations(held),
        "What failed or is missing": missing(sweep, held, failures, skipped),
        "How this page was made": _making(held, failures, origin, command),
    }
    sections = {title: content for title, content in sections.items() if content}
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    links = (element("li", element("a", title, href=f"#{anchors[title]}")) for title in sections)
    navigation = element("nav", element("ul", *links))
    parts = [
        element("header", element("h1", names), _summary(sweep, held), facts(origin), navigation),
        *(element("section", element("h2", title), content, id=anchors[title]) for title, content in sections.items()),
    ]
    page = element("html", _head(names), "\n", element("body", join(parts, "\n")), lang="en")
    try:
        path.write_bytes(f"<!doctype html>\n{page}\n".encode())
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _head(title: str) -> Html:
    content = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Html(STYLE)),
    ]
    return element("head", join(content, "\n"))


def _summary(sweep: Sweep, held: Sequence[Configuration]) -> Html:
    sentences = []
    for benchmark in dict.fromkeys(one.benchmark for one in held):
        part = [one for one in held if one.benchmark == benchmark]
        methods = few([one.label for one in part])
        runs = sum(len(one.seeds) for one in part)
        seeds, lengths = ranges(s for one in part for s in one.seeds), ranges(n for one in part for n in one.num_tasks)
        sentences.append(
            f"On {benchmark}{f' ({lengths} tasks)' if lengths else ''}: {count(runs, 'run')} of "
            f"{count(len(part), 'configuration')} ({methods}), seeds {seeds}."
        )
    states = sum((one.states for one in held), Counter[str]())
    final = {state: states[state] for state in inventory.FINAL}
    counts = {
        "runs": ("", len(sweep.runs)),
        "done": ("good", final["done"]),
        "diverged": ("", final["diverged"]),
        "failed": ("bad", final["failed"]),
        "not finished": ("bad", len(sweep.runs) - sum(final.values())),
        "missing seeds": ("bad", sum(len(one.lacks) for one in held)),
    }
    shown = (
        element("div", element("dt", name), element("dd", f"{number:,}"), class_=kind if number else "zero")
        for name, (kind, number) in counts.items()
    )
    return join([element("p", " ".join(sentences)), element("dl", *shown, class_="counts")], "\n")


def _tables(tables: Mapping[str, str | pd.DataFrame]) -> Html:
    parts: list[Html] = []
    for title, content in tables.items():
        shown = of_text(content, title) if isinstance(content, str) else of_frame(content, title)
        parts += [element("h3", title), shown]
    return join(parts, "\n")


def _figure(picture: Picture) -> Html:
    try:
        data = picture.path.read_bytes()
    except OSError as error:
        raise AnalysisError(f"{picture.path}: cannot be read: {error.strerror or error}") from error
    if not data.startswith(PNG) or len(data) < 24:
        raise AnalysisError(f"{picture.path}: not a PNG")
    width, height = struct.unpack(">II", data[16:24])
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    alt = f"{picture.title}. {picture.text}".strip() if picture.text else picture.title
    image = element("img", src=source, alt=alt, width=str(width), height=str(height), style=f"--width: {width}")
    enlarge = element("input", type="checkbox", aria_label=f"{picture.title} at full size")
    caption = [element("figcaption", picture.text)] if picture.text else []
    shown = element("div", element("label", enlarge, image), class_="picture")
    return element("figure", element("h3", picture.title), shown, *caption)


def _making(held: Sequence[Configuration], failures: Sequence[Failure], origin: Provenance, command: str) -> Html:
    failed = sum(len(one.seeds) for one in failures)
    texts = [
        f"Read: the logs of {count(origin.runs, 'run')}; provenance.json, which {origin.recorded:,} of them have, and "
        "which tells the code, versions and machine of a run's latest session; config.yaml of the first run of "
        f"{count(len(held), 'configuration')}{f'; status.json of {failed:,} failed' if failed else ''}.",
        "Uncommitted changes are not on this page; they are in provenance.json, up to a length and without files that "
        "git does not know. Times are UTC.",
    ]
    made = [element("p", "Made with ", element("code", command))] if command else []
    return join([*made, *(element("p", text, class_="note") for text in texts)])
