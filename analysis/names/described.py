"""What runs say of the values that they log: diagnostics that this package has never heard of.

Each run's `diagnostics.json` describes them; whoever reads runs notes it here, so that a name is enough to know how it
is called, and in which unit it is drawn. Of one name the run that was read last is believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Described:
    """per: layer, matrix or network. unit, scale: drawn = logged × scale. positive: it cannot be below 0.

    weighted: a mean over layers or matrices is one over their units or weights. shown: whether an overview shows it.
    """

    per: str
    title: str
    meaning: str = ""
    unit: str = ""
    scale: float = 1.0
    positive: bool = True
    weighted: bool = False
    shown: bool = False


_SAID: dict[str, Described] = {}
_TYPES: dict[str, type] = {"per": str, "title": str, "meaning": str, "unit": str, "positive": bool, "weighted": bool}
_TYPES |= {"shown": bool}


def learn(values: Iterable[Mapping[str, Described]]) -> None:
    """Note what runs say of their values."""
    for of_run in values:
        _SAID.update(of_run)


def described(name: str) -> Described | None:
    """What runs have said of a value of this name; None if none has."""
    return _SAID.get(name)


def parse(values: Any) -> dict[str, Described]:
    """The descriptions in a file, by name; what is none is left out."""
    known = {field.name for field in fields(Described)}
    found = {}
    for name, given in values.items() if isinstance(values, dict) else ():
        kept = {key: value for key, value in given.items() if key in known} if isinstance(given, dict) else {}
        right = all(isinstance(value, _TYPES[key]) for key, value in kept.items() if key != "scale")
        if right and {"per", "title"} <= set(kept) and isinstance(kept.get("scale", 1.0), int | float):
            found[str(name)] = Described(**kept)
    return found
