"""What the name of a metric tells: its layer, and how it was measured."""

import re

# Of each weight matrix, averaged over weights.
WEIGHT_METRICS = ("weight_magnitude", "weight_magnitude_task")
# Shares of a hidden layer's units or activations, averaged over units: then they are shares of all units.
SHARES = re.compile(r"(dead|rarely_active|inactive|saturated)_fraction|dormant_fraction_tau.+")
# Lists of what happens while a task is learned; all other lists are measured before.
DURING = ("weight_change", "weight_magnitude_task", "replaced_units", "clipped_fraction")
# Before a metric, in control: its mean over the policy's hidden layers; its value in the last of them.
POLICY, POLICY_LAST = "policy_", "policy_last_"
RANK, RANK_FRACTION = "effective_rank", "effective_rank_fraction"
# What performance is called, the most telling first. A diverged run is cut where one of these stops being a number.
PERFORMANCE = ("accuracy", "squared_error", "test_accuracy", "cross_entropy", "train_cross_entropy", "value_loss")


def layer_of(metric: str) -> tuple[str, int]:
    """'dead_fraction/2' → its metric and layer; any other name and 0: a metric of the user's may have a '/' in it."""
    base, _, layer = metric.rpartition("/")
    return (base, int(layer)) if base and re.fullmatch(r"[1-9]\d{0,5}", layer, re.ASCII) else (metric, 0)
