"""What was run, configuration by configuration, and what failed or is missing."""

from collections import Counter
from collections.abc import Iterable, Sequence

from ..names.seeds import ranges
from ..reading import inventory
from ..reading.inventory import Configuration, Failure
from ..reading.load import Sweep
from .markup import Html, element, join
from .table import scrolling

# Entries of a list.
ENTRIES = 50
# Top-level keys of config.yaml that belong to one run, or to the machine that it ran on.
OF_ONE_RUN = ("run", "seed", "paths")


def configurations(held: Sequence[Configuration]) -> Html:
    """One table per benchmark: a column for each hyper-parameter that all configurations have, one for the others."""
    tables = []
    for benchmark in dict.fromkeys(one.benchmark for one in held):
        part = [one for one in held if one.benchmark == benchmark]
        names = list(dict.fromkeys(name for one in part for name in one.settings))
        shared = [name for name in names if all(name in one.settings for one in part)]
        own = len(shared) < len(names)
        headings = ["configuration", *shared, *(["other settings"] if own else []), "seeds", "runs", "tasks"]
        head = element("tr", *(element("th", _breakable(heading), scope="col") for heading in headings))
        body = []
        for one in part:
            others = ", ".join(f"{name}={value}" for name, value in one.settings.items() if name not in shared)
            cells = [
                element("th", one.label, scope="row"),
                *(element("td", one.settings[name]) for name in shared),
                *([element("td", others or "–", class_="settings")] if own else []),
                element("td", ranges(one.seeds)),
                element("td", _states(one.states), class_="kept"),
                element("td", _progress(one.tasks, one.num_tasks), class_="kept"),
            ]
            resolved = element("details", element("summary", "resolved configuration"), element("pre", _resolved(one)))
            detail = element("td", resolved, colspan=str(len(headings)))
            body += [element("tr", *cells), element("tr", detail, class_="detail")]
        tables += [element("h3", benchmark), scrolling(head, body, f"What was run on {benchmark}")]
    return join(tables, "\n")


def missing(sweep: Sweep, held: Sequence[Configuration], failures: Sequence[Failure], skipped: Sequence[str]) -> Html:
    failed = [
        join(
            [
                element("strong", _named(one.benchmark, one.label, one.seeds, held)),
                f": {one.error}",
                *(
                    [element("details", element("summary", "traceback"), element("pre", one.traceback))]
                    * bool(one.traceback)
                ),
            ]
        )
        for one in failures
    ]
    left = [
        f"{_named(one.benchmark, one.label, one.seeds, held)}: {one.state}, {ranges(one.tasks)} tasks finished"
        for one in inventory.unfinished(sweep.runs)
    ]
    lacking = [f"{_named(one.benchmark, one.label, one.lacks, held)}" for one in held if one.lacks]
    diverged = [
        f"{_named(str(benchmark), str(label), group['seed'], held)}"
        for (benchmark, label), group in sweep.runs[sweep.runs["state"] == "diverged"].groupby(["benchmark", "label"])
    ]
    lists: dict[str, tuple[Sequence[str], str]] = {
        "Failed": (failed, "No run failed."),
        "Not finished": (left, "No run is unfinished."),
        "Missing seeds (other configurations of the benchmark have them)": (
            lacking,
            "All configurations of a benchmark have the same seeds.",
        ),
        "Diverged (a result: they count with the tasks before)": (diverged, "No run diverged."),
        "Figures that were not drawn": (skipped, "All figures that were asked for were drawn."),
        "Notes": (sweep.notes, ""),
    }
    fine = " ".join(sentence for entries, sentence in lists.values() if sentence and not entries)
    found = (_list(title, entries) for title, (entries, _) in lists.items() if entries)
    return join([*([element("p", fine)] if fine else []), *found], "\n")


def _resolved(one: Configuration) -> str:
    """config.yaml of its first run, as it stands there, but for what is that run's alone."""
    try:
        lines = (one.folder / "config.yaml").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"config.yaml cannot be read: {error.strerror or error}"
    kept, keep = [], True
    for line in lines:
        if line[:1].strip():  # a key of the top level; what belongs to it is indented
            keep = line.partition(":")[0] not in OF_ONE_RUN
        if keep:
            kept.append(line)
    return "\n".join(kept)


def _list(title: str, entries: Sequence[str]) -> Html:
    more = len(entries) - ENTRIES
    shown = [*entries[:ENTRIES], *([f"and {more:,} more"] if more > 0 else [])]
    return join([element("h3", title), element("ul", *(element("li", entry) for entry in shown))])


def _named(benchmark: str, label: str, seeds: Iterable[int], held: Sequence[Configuration]) -> str:
    seeds = list(seeds)
    several = any(one.benchmark != benchmark for one in held)
    return f"{label}{f' on {benchmark}' if several else ''}, {'seed' if len(seeds) == 1 else 'seeds'} {ranges(seeds)}"


def _states(states: Counter[str]) -> str:
    order = {state: i for i, state in enumerate(inventory.FINAL)}
    found = sorted(states.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return ", ".join(f"{count} {state}" for state, count in found)


def _progress(tasks: Sequence[int], num_tasks: Sequence[int]) -> str:
    """'20' where all runs have as many as they should, else '3–20 of 20'."""
    shortest, wanted = (
        f"{min(of)}–{max(of)}" if min(of) < max(of) else str(min(of)) for of in (tasks, num_tasks or [0])
    )
    return shortest if not num_tasks or shortest == wanted else f"{shortest} of {wanted}"


def _breakable(name: str) -> Html:
    """A long name may go on in the next line after a dot or an underscore."""
    return Html(join([name]).replace(".", ".<wbr>").replace("_", "_<wbr>"))
