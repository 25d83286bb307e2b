"""What the user wants methods to be called, in which order, and in which colours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import AnalysisError
from .label import ordered
from .resolve import resolve, split

# $\rho$ is a formula, \$5 is money.
FORMULA = re.compile(r"(?<!\\)\$(?:[^$\\]|\\.)+\$")


@dataclass(frozen=True)
class Naming:
    """order: labels, or names that stand for labels (`resolve`), which come first. texts: what a label is called.

    colours: label or name → colour, as matplotlib knows it; a name of several labels gives them shades of it. In texts,
    and only there, what stands between dollar signs is a formula.
    """

    order: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(
        cls, order: Sequence[str], texts: Sequence[str], colours: Sequence[str], labels: Iterable[str]
    ) -> "Naming":
        """texts, colours: 'LABEL=VALUE'. Raises AnalysisError for a name that is none of `labels`, or for no value."""
        known = ordered(labels)
        given = {
            option: dict(split(" ".join(text.split()), known, option) for text in each)
            for option, each in (("--label", texts), ("--colour", colours))
        }
        for option, each in given.items():
            for name, value in each.items():
                if not value.strip():
                    raise AnalysisError(f"{option} '{name}=': a value is missing")
        made = cls(tuple(order), given["--label"], given["--colour"])
        made.check(known)
        return made

    def check(self, labels: Iterable[str]) -> None:
        """Raises AnalysisError for a name that stands for none of `labels`."""
        known = ordered(labels)
        for name in (*self.order, *self.texts, *self.colours):
            if not resolve(name, known):
                raise AnalysisError(f"no label {name!r}; there are: {'; '.join(known)}")

    def ordered(self, labels: Iterable[str]) -> list[str]:
        """Each once: first those of `order`, then the others as `label.ordered` has them."""
        known = ordered(labels)
        first = (label for name in self.order for label in resolve(name, known))
        return list(dict.fromkeys([*first, *known]))

    def given(self, labels: Iterable[str]) -> dict[str, str]:
        """Label → what the user calls it, of the labels that the user calls something.

        A name that stands for several labels replaces the method only: 'CBP, step size=0.01'.
        """
        known = ordered(labels)
        found: dict[str, str] = {}
        for name, text in self.texts.items():
            several = resolve(name, known)
            for label in several:
                settings = [part.replace("_", " ") for part in label.split(", ")[1:] if part not in name.split(", ")]
                found[label] = ", ".join([text, *(settings if len(several) > 1 else [])])
        return found

    def text(self, label: str, labels: Iterable[str]) -> str:
        """What `label`, one of `labels`, is called in tables; as it is if the user does not call it anything."""
        return self.given(labels).get(label, label)
