"""Labels by the names that people use for them: a method's, without the settings that its label has."""

from collections.abc import Iterable, Sequence

from ..errors import AnalysisError
from .label import ordered


def resolve(name: str, labels: Iterable[str]) -> list[str]:
    """The labels that `name` stands for, in the order of `label.ordered`; none if there is none.

    The label itself; else those that begin with the same method and have all settings of `name`: 'l2' stands for
    'l2, weight_decay=0.001'. Case, and underscore or space, matter only where they tell labels apart.
    """
    known = ordered(labels)
    for same in (_as_it_is, _loosely):
        if exact := [label for label in known if same(label) == same(name)]:
            return exact
        method, *settings = same(name).split(", ")
        parts = {label: same(label).split(", ") for label in known}
        if found := [label for label in known if parts[label][0] == method and set(settings) <= set(parts[label])]:
            return found
    return []


def one_label(name: str, labels: Iterable[str], purpose: str) -> str:
    """The one label that `name` stands for; AnalysisError with what there is if it is none, or several."""
    known = ordered(labels)
    found = resolve(name, known)
    if not found:
        raise AnalysisError(f"no label {name!r} {purpose}; there are: {'; '.join(known)}")
    if len(found) > 1:
        raise AnalysisError(f"{name!r} {purpose} is one of {len(found)} labels; say which: {'; '.join(found)}")
    return found[0]


def split(text: str, labels: Sequence[str], option: str) -> tuple[str, str]:
    """'LABEL=VALUE' → label or name, value: at the first '=' before which something stands that is a label here."""
    at = -1
    while (at := text.find("=", at + 1)) >= 0:
        if resolve(text[:at], labels):
            return text[:at], text[at + 1 :]
    if "=" not in text:
        raise AnalysisError(f"{option} {text!r}: must be LABEL=VALUE")
    raise AnalysisError(f"{option} {text!r}: no label stands before '='; there are: {'; '.join(ordered(labels))}")


def _as_it_is(text: str) -> str:
    return text


def _loosely(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split()).replace(" ,", ",")
