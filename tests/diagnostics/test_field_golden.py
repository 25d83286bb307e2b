"""Parity with public code of the field, in float64: kernel, churn, activation statistics, gradient dormancy."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.diagnostics import neural_tangent_kernel as ntk
from lop_sweeps.diagnostics import rank, units
from lop_sweeps.diagnostics.churn import divergence, squared_churn
from lop_sweeps.diagnostics.example_gradients import example_gradients
from lop_sweeps.diagnostics.gradient_coverage import coverage
from lop_sweeps.diagnostics.gradient_dormancy import gradient_scores
from lop_sweeps.networks.mlp import MLP
from tests.shared import SHARED, needs_golden

pytestmark = needs_golden
FIELD = SHARED / "golden" / "field"
STATISTICS = ("feature_srank", "effective_feature_rank", "dead_neurons_fraction")


def golden(name: str) -> tuple[Any, dict[str, Any]]:
    file = np.load(FIELD / f"{name}.npz", allow_pickle=False)
    return file, json.loads(str(file["meta"]))


def network(file: Any, prefix: str = "") -> MLP:
    made = MLP(20, 4, [16, 16]).double()
    with torch.no_grad():
        for i, layer in enumerate(made.layers):
            for name, theirs in (("weight", "w"), ("bias", "b")):
                layer.get_parameter(name).copy_(torch.from_numpy(file[f"{prefix}{theirs}{i}"]))
    return made.eval()


def view(file: Any, made: MLP) -> Any:
    """As much of a run as these diagnostics ask for."""
    return SimpleNamespace(
        inputs=torch.from_numpy(file["x"]), network=lambda: made, answers=lambda one, x: one(x)[0], batch_size=1
    )


@pytest.mark.parametrize("outputs", [None, 1, 3])
@pytest.mark.parametrize("at_once", [2**26, 2_000], ids=["one block", "blocks of two rows"])
def test_kernel_of_summed_outputs(outputs: int | None, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ntk, "AT_ONCE", at_once)
    file, _ = golden("diagnostics")
    ending = "" if outputs is None else f"_first{outputs}"
    k = ntk.kernel(view(file, network(file)), examples=32, outputs=outputs)
    values = ntk.eigenvalues(k)
    np.testing.assert_allclose(values, file[f"ntk_eigenvalues{ending}"], rtol=1e-9, atol=1e-9)
    assert ntk.condition(values) == pytest.approx(float(file[f"ntk_condition{ending}"]), rel=1e-9)
    found = float(rank.effective_rank(values.sqrt()))
    assert found == pytest.approx(float(file[f"ntk_effective_rank{ending}"]), rel=1e-9)


def test_churn() -> None:
    file, _ = golden("diagnostics")
    x = torch.from_numpy(file["x"])
    with torch.no_grad():
        before, after = (network(file, prefix)(x)[0] for prefix in ("", "new_"))
    np.testing.assert_allclose(before, file["outputs_before"], rtol=0, atol=1e-12)
    assert squared_churn(before, after) == pytest.approx(float(file["churn_mse"]), rel=1e-9)
    assert divergence(before, after) == pytest.approx(float(file["churn_kl"]), rel=1e-9)


def test_statistics_of_activations() -> None:
    """Their srank counts shares below 0.99, one less than the usual definition."""
    file, _ = golden("diagnostics")
    for layer in range(2):
        h = torch.from_numpy(file[f"hidden{layer}"])
        sigma = rank.singular_values(h)
        theirs = {name: float(file[f"stat_model_{name}_layer{layer}"]) for name in STATISTICS}
        assert float(rank.srank99(sigma)) - 1 == theirs["feature_srank"]
        assert float(rank.effective_rank(sigma)) == pytest.approx(theirs["effective_feature_rank"], rel=1e-9)
        assert float(units.dead_fraction(units.statistics(h))) == theirs["dead_neurons_fraction"]


def test_gradient_scores_say_which_units_are_dormant() -> None:
    file, meta = golden("grama")
    dormant = 0
    for module in meta["modules"]:
        scores = gradient_scores(torch.from_numpy(file[f"grad_{module}.weight"]))
        for tau in meta["taus"]:
            np.testing.assert_array_equal(scores <= tau, file[f"mask_threshold{tau}_{module}"])
            dormant += int((scores <= tau).sum())
    assert dormant > 0


def test_gradients_of_single_examples() -> None:
    file, _ = golden("grama_analyzer")
    made = network(file)
    rows = [torch.cat([g.flatten() for g in each]) for each in example_gradients(view(file, made), made, 32)]
    j = torch.stack(rows)
    np.testing.assert_allclose(j.sum(0), file["param_grad_after"], rtol=0, atol=1e-10)
    zero, null = coverage(j[:, torch.from_numpy(file["sampled_indices"])])
    assert zero == pytest.approx(float(file["zero_columns"]), abs=1e-6)
    assert null == float(file["nullspace_ratio"])
