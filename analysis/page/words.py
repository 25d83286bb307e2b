"""Numbers, times and lists as a page says them."""

from collections.abc import Iterable
from datetime import UTC, datetime

# Names in a sentence.
NAMES = 12


def few(texts: Iterable[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    known = list(texts)
    more = [f"and {len(known) - NAMES:,} more"] if len(known) > NAMES else []
    return between.join([*known[:NAMES], *more])


def count(number: int, noun: str) -> str:
    """`1 run`, `1,000 runs`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float, of: str = "") -> str:
    """Three digits of the unit that fits: 12.3 seconds, 4.56 minutes, 789 hours; of: what stands before the unit."""
    size, unit = (3600, "hours") if seconds >= 3600 else (60, "minutes") if seconds >= 60 else (1, "seconds")
    value = seconds / size
    return f"{value:,.0f} {of}{unit}" if value >= 100 else f"{value:.3g} {of}{unit}"
