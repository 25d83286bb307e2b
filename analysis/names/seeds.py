"""Of which seeds something is."""

from collections.abc import Iterable

import pandas as pd

# Methods whose own seeds a sentence tells.
NAMED = 3


def ranges(numbers: Iterable[int]) -> str:
    """{0, 1, 2, 5} → '0–2, 5'."""
    found: list[list[int]] = []
    for number in sorted({int(number) for number in numbers}):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in found)


def seeds_of(runs: pd.DataFrame) -> str:
    """A sentence without its full stop: 'Seeds 0–4', 'Seeds 0–4; l2: 0–2'. runs: those that have begun count."""
    begun = runs[(runs["tasks"] > 0) | (runs["state"] == "diverged")]
    every = ranges(begun["seed"])
    if not every:
        return ""
    text = f"Seed{'s' * (not every.isdigit())} {every}"
    of_labels = {str(label): ranges(group["seed"]) for label, group in begun.groupby("label", observed=True)}
    fewer = {label: seeds for label, seeds in of_labels.items() if seeds != every}
    if len(fewer) > NAMED:
        return f"{text}, of {len(fewer)} methods not all"
    return "; ".join([text, *(f"{label.replace('_', ' ')}: {seeds}" for label, seeds in fewer.items())])
