"""What a curve's line and band are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy.typing as npt

from .bootstrap import bootstrap
from .errors import AnalysisError
from .estimators import Estimator, FloatArray, mean, standard_error

Interval = Literal["bootstrap", "standard_error"]
NAMES: Mapping[Estimator, str] = {"mean": "mean", "median": "median", "iqm": "interquartile mean"}


@dataclass(frozen=True)
class Band:
    """estimator: the line, over runs. interval: 95 % bootstrap interval, or one standard error (as the paper draws it).

    A standard error is of the mean: with another estimator it raises AnalysisError, as an unknown name does.
    """

    estimator: Estimator = "mean"
    interval: Interval = "bootstrap"

    def __post_init__(self) -> None:
        for name, known in ((self.estimator, get_args(Estimator)), (self.interval, get_args(Interval))):
            if name not in known:
                raise AnalysisError(f"no {name!r} over runs; possible: {', '.join(known)}")
        if self.interval == "standard_error" and self.estimator != "mean":
            raise AnalysisError(f"a standard error is of the mean, not of the {NAMES[self.estimator]}")

    def of(self, values: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """values (runs, points) or (runs,) → centre, low, high, each (points,) or ().

        NaN: the run has no such point. Where one run is left, low and high are NaN.
        """
        if self.interval == "bootstrap":
            return bootstrap(values, self.estimator)
        centre, error = mean(values), standard_error(values)
        return centre, centre - error, centre + error

    def words(self) -> str:
        """For a caption: 'Mean over runs; band: 95% bootstrap interval over runs'."""
        shown = {"bootstrap": "95% bootstrap interval over runs", "standard_error": "one standard error of the mean"}
        return f"{NAMES[self.estimator].capitalize()} over runs; band: {shown[self.interval]}"


DEFAULT = Band()
