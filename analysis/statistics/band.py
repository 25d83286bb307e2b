"""What a curve's line and band are."""

from dataclasses import dataclass

import numpy.typing as npt

from ..names.quantity import Bounds
from .estimators import Estimator, FloatArray
from .interval import NAMES, UNBOUNDED, USUAL, WORDS, Interval, check, interval_of, ranges, too_narrow


@dataclass(frozen=True)
class Band:
    """estimator: the line, over runs. interval: the band; default Student's t of the mean, else the bootstrap.

    Raises AnalysisError for an unknown name, and for a pair that makes no sense (a standard error is of the mean).
    """

    estimator: Estimator = "mean"
    interval: Interval = None  # type: ignore[assignment]  # what is usual for the estimator, once the band is made

    def __post_init__(self) -> None:
        if self.interval is None:
            object.__setattr__(self, "interval", USUAL.get(self.estimator, "bootstrap"))
        check(self.estimator, self.interval)

    def of(self, values: npt.ArrayLike, bounds: Bounds = UNBOUNDED) -> tuple[FloatArray, FloatArray, FloatArray]:
        """values (runs, points) or (runs,) → centre, low, high, each (points,) or (); see `interval_of`."""
        return interval_of(values, self.estimator, self.interval, bounds)

    def words(self, shown: str = "band") -> str:
        """For a caption: "Mean over runs; band: 95% Student's t interval over runs"."""
        return f"{NAMES[self.estimator].capitalize()} over runs; {shown}: {WORDS[self.interval]}"

    def cautions(self, runs: npt.ArrayLike) -> list[str]:
        """Sentences about intervals of so many runs, each of which is drawn: ranges of two, and what is too narrow."""
        found = ["Where n=2: the range of both"] if ranges(runs) else []
        return found + too_narrow(self.estimator, self.interval, runs)


DEFAULT = Band()
