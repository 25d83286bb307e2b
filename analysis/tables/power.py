"""How many seeds would find a difference, from the spread of those that there are."""

import numpy as np
import pandas as pd

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.naming import Naming
from ..names.quantity import quantity
from ..names.resolve import one_label
from ..reading.load import Sweep
from ..reading.metric import performance_metric
from ..statistics.compared import comparable
from ..statistics.comparison import default_baseline
from ..statistics.curve_summary import per_run
from ..statistics.power import seeds_needed
from . import text_table

HEADINGS = ("method", "pairs", "spread", "seeds needed")
NOTE = (
    "Seeds with which a paired t-test (two-sided, 5 %) finds a true difference of {difference:g} from {baseline} with "
    "a power of 80 %, if the spread (standard deviation of the differences by seed, of the mean over all tasks) is "
    "that of these pairs. Of few pairs the spread is known roughly, and so is the answer"
)


def table(sweep: Sweep, difference: float, baseline: str | None = None) -> pd.DataFrame:
    """One row per benchmark and method: benchmark, metric, baseline, method, pairs, spread (in the drawn unit), seeds
    (0: more than 10,000; NaN: too few pairs), difference. Raises AnalysisError for an unknown baseline.
    """
    rows = []
    for name in sweep.benchmarks:
        part = sweep.of(name)
        metric = performance_metric(part.tasks)
        unit = quantity(metric)
        summaries = per_run(comparable(part.tasks, metric)[0], metric)
        labels = ordered(map(str, summaries["label"].unique()))
        base = baseline or default_baseline(summaries, part.runs, unit.larger_is_better)
        base = one_label(base, labels, "to compare with")
        values = {label: of.set_index("seed")["area"] for label, of in summaries.groupby("label", observed=True)}
        for label in labels:
            if label == base:
                continue
            pairs = unit.scale * (values[label] - values[base]).dropna().to_numpy(dtype=np.float64)
            try:
                seeds = float(seeds_needed(pairs, difference) or 0)
            except AnalysisError:
                if difference == 0:
                    raise
                seeds = np.nan
            rows.append(
                {
                    "benchmark": name,
                    "metric": f"{metric} ({unit.unit})" if unit.unit else metric,
                    "baseline": base,
                    "method": label,
                    "pairs": len(pairs),
                    "spread": float(pairs.std(ddof=1)) if len(pairs) > 1 else np.nan,
                    "seeds": seeds,
                    "difference": difference,
                }
            )
    return pd.DataFrame(rows)


def text(found: pd.DataFrame, naming: Naming | None = None) -> str:
    blocks = []
    for (benchmark, metric, base), rows in found.groupby(["benchmark", "metric", "baseline"], sort=False):
        given = (naming or Naming()).given([*map(str, rows["method"]), str(base)])
        cells = [list(HEADINGS)]
        for row in rows.to_dict("records"):
            known = not pd.isna(row["seeds"])
            needed = ("more than 10,000" if row["seeds"] == 0 else f"{row['seeds']:.0f}") if known else "–"
            spread = "–" if pd.isna(row["spread"]) else f"{row['spread']:.3g}"
            cells.append([given.get(row["method"], row["method"]), str(row["pairs"]), spread, needed])
        note = NOTE.format(difference=rows["difference"].iloc[0], baseline=given.get(str(base), str(base)))
        blocks.append(f"{benchmark}: {metric}\n{text_table.aligned(cells)}\n\n{note}.")
    return "\n\n".join(blocks)
