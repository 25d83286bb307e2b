"""One table: every algorithm on every kind of network and benchmark. A new component joins with one row."""

from __future__ import annotations

import pytest

from tests.shared import SHARED, needs_mnist

DIGITS, REGRESSION = "benchmark=permuted_digits", "benchmark=slowly_changing_regression"
MNIST = ["benchmark=permuted_mnist", f"paths.data={SHARED / 'data'}", "benchmark.num_tasks=2"]
CBP = "algorithm.continual_backprop"
OFTEN = [f"{CBP}.replacement_rate=0.01", f"{CBP}.maturity_threshold=20"]

ROWS: dict[str, list[str]] = {
    "backprop": [DIGITS],
    "momentum": [DIGITS, "optimizer=momentum", "optimizer.step_size=0.001"],
    "adam": [DIGITS, "optimizer=adam"],
    "adamw": [DIGITS, "optimizer=adamw"],
    "l2": [DIGITS, "algorithm=l2"],
    "shrink_and_perturb": [DIGITS, "algorithm=shrink_and_perturb"],
    "dropout": [DIGITS, "algorithm=dropout"],
    "layer_norm": [DIGITS, "algorithm=layer_norm"],
    "online_norm": [DIGITS, "algorithm=online_norm", "network.norm_after=true"],
    "batch_norm": [DIGITS, "algorithm=batch_norm", "benchmark.batch_size=10"],
    "cbp": [DIGITS, "algorithm=continual_backprop", *OFTEN],
    "cbp_adam": [DIGITS, "algorithm=continual_backprop", "optimizer=adam", *OFTEN],
    "cbp_momentum": [DIGITS, "algorithm=continual_backprop", "optimizer=momentum", *OFTEN],
    "cbp_bernoulli_transfer": [
        DIGITS,
        "algorithm=continual_backprop",
        *OFTEN,
        f"{CBP}.fractional=bernoulli",
        f"{CBP}.bias_transfer=true",
        f"{CBP}.utility=contribution",
    ],
    "cbp_layerwise_random": [
        DIGITS,
        "algorithm=continual_backprop",
        f"{CBP}.replacement_rate=[0.02,0]",
        f"{CBP}.utility=random",
    ],
    "cbp_norm_dropout": [
        DIGITS,
        "algorithm=[continual_backprop,dropout,online_norm,shrink_and_perturb]",
        *OFTEN,
        f"{CBP}.utility=feature_by_input",
    ],
    "l2_and_cbp_batch": [
        DIGITS,
        "algorithm=[l2,continual_backprop]",
        "benchmark.batch_size=10",
        *OFTEN,
        f"{CBP}.utility=weight",
    ],
    "linear": [DIGITS, "network=linear"],
    "regression_backprop": [REGRESSION],
    "regression_cbp_tanh": [
        REGRESSION,
        "algorithm=continual_backprop",
        "network.activation=tanh",
        *OFTEN,
        f"{CBP}.utility=zero_contribution",
    ],
    "regression_adam_swish": [REGRESSION, "optimizer=adam", "network.activation=swish", "benchmark.change=flip_one"],
    "regression_noise": [REGRESSION, "algorithm=shrink_and_perturb", "network.activation=sigmoid"],
    "regression_linear": [REGRESSION, "network=linear"],
    "mnist_backprop": MNIST,
    "mnist_cbp": [*MNIST, "algorithm=continual_backprop", *OFTEN, f"{CBP}.utility=adaptation"],
}


def rows(*names: str) -> pytest.MarkDecorator:
    """Parametrise a test with rows of the table (all, if none are named)."""
    chosen = names or tuple(ROWS)
    marked = [pytest.param(ROWS[n], id=n, marks=needs_mnist if n.startswith("mnist") else ()) for n in chosen]
    return pytest.mark.parametrize("overrides", marked)


def small(overrides: list[str]) -> list[str]:
    """A row's overrides on a small network with a checkpoint at every boundary."""
    network = [] if "network=linear" in overrides else ["network=mlp", "network.hidden=[12,12]"]
    return ["scale=tiny", *network, *overrides, "checkpoint.first=0", "checkpoint.every=0"]
