"""By which code, on which machines and when the runs were made."""

from ..reading.provenance import Provenance
from .markup import Html, element, join
from .words import NAMES, count, date, duration, few


def facts(origin: Provenance) -> Html:
    """A list of terms."""
    shown = {
        "When": _when(origin),
        "Compute": _compute(origin),
        "Machines": _machines(origin),
        "Code": _code(origin),
        "Versions": _versions(origin),
    }
    rows = (join([element("dt", name), element("dd", content)], "\n") for name, content in shown.items())
    return element("dl", join(rows, "\n"), class_="facts")


def _when(origin: Provenance) -> str:
    if origin.began is None:
        return "no session was recorded"
    ended = "no end was recorded" if origin.ended is None else f"last end {date(origin.ended)}"
    return f"first start {date(origin.began)}, {ended}"


def _compute(origin: Provenance) -> str:
    if not origin.sessions:
        return "no session was recorded"
    text = f"{duration(origin.process_seconds)} of process time"
    if round(origin.run_seconds, 3) > round(origin.process_seconds, 3):
        text += f"; {duration(origin.run_seconds, 'run-')}, where runs trained side by side in one process each count"
    engines = ", ".join(f"{number:,} on the {name} engine" for name, number in sorted(origin.engines.items()))
    text += f". {count(origin.sessions, 'session')}{f' ({engines})' if engines else ''}."
    text += " A process may have used several cores."
    if origin.open:
        text += f" {count(origin.open, 'session')} without an end (killed, or still running): not in these times."
    return text


def _machines(origin: Provenance) -> str:
    texts = []
    for (cpu, cores, system), hosts in sorted(origin.machines.items()):
        names = few([f"{host} ({count(runs, 'run')})" for host, runs in sorted(hosts.items())])
        texts.append(f"{cpu}, {cores} cores, {system}: {names}")
    return few(texts, "; ") or "not recorded"


def _code(origin: Provenance) -> Html:
    items: list[Html] = []
    commits = sorted(origin.commits.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or ""))
    if len(commits) > 1:
        items.append(element("span", f"{len(commits)} versions of the code", class_="warn"))
    for (commit, changes), runs in commits[:NAMES]:
        state: str = element("span", f"with uncommitted changes (diff {changes})", class_="warn")
        if not changes:
            state = "without uncommitted changes" if changes == "" else "(uncommitted changes: not recorded)"
        share = f", {count(runs, 'run')}" if len(commits) > 1 else ""
        items.append(join(["commit ", element("code", commit), " ", state, share]))
    if len(commits) > NAMES:
        items.append(join([f"and {len(commits) - NAMES:,} more"]))
    if unknown := origin.runs - sum(origin.commits.values()):
        items.append(join([f"{count(unknown, 'run')} without a recorded commit"]))
    return join(items, element("br"))


def _versions(origin: Provenance) -> Html:
    texts: list[str] = []
    for package, versions in origin.versions.items():
        if len(versions) == 1:
            texts.append(f"{package} {next(iter(versions))}")
        else:
            several = ", ".join(f"{version} ({count(runs, 'run')})" for version, runs in sorted(versions.items()))
            texts.append(element("span", f"{package} {several}", class_="warn"))
    return join(texts, ", ") if texts else join(["not recorded"])
