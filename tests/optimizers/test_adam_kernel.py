"""Adam's compiled update against its version in tensor operations, which GPUs take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.optimizers.adam import Adam, AdamW, PackedAdam

STEPS, SIZE = 100, 37
EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
PACKS: dict[str, list[Adam]] = {
    "plain": [Adam(0.001), Adam(0.01, 0.99, 0.99), Adam(0.1, 0.0, 0.5), Adam(0.003, 0.9, 0.9999, eps=1e-3)],
    "l2": [Adam(0.001, weight_decay=0.1), Adam(0.01), Adam(0.01, 0.99, 0.99, weight_decay=1e-3)],
    "adamw": [AdamW(0.001), AdamW(0.01, weight_decay=0.5), AdamW(0.1, 0.99, 0.99, weight_decay=0.0)],
    "authors": [Adam(0.01, correction="authors"), Adam(0.1, 0.5, 0.99, 1e-6, 0.1, correction="authors")],
    "adamw_authors": [AdamW(0.01, weight_decay=0.3, correction="authors"), AdamW(0.1, correction="authors")],
    "alone": [Adam(0.01, weight_decay=0.01)],
    "alone_adamw": [AdamW(0.01, weight_decay=0.1)],
}


def start(runs: int, dtype: torch.dtype = torch.float64, size: int = SIZE) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(runs, size))).to(dtype)


def gradients(step: int, runs: int, dtype: torch.dtype = torch.float64, size: int = SIZE) -> Tensor:
    """Of very different size from weight to weight, some of them zero at times."""
    generator = np.random.default_rng([7, step])
    scale = 10.0 ** np.linspace(-6, 3, size)
    drawn = generator.normal(size=(runs, size)) * scale * (generator.random((runs, size)) > 0.2)
    return torch.from_numpy(drawn).to(dtype)


def packed(options: Sequence[Adam], parameters: Tensor, per_parameter: bool) -> PackedAdam:
    return options[0].pack(options, parameters, resets_units=per_parameter)


def both(
    options: Sequence[Adam], per_parameter: bool, dtype: torch.dtype = torch.float64, size: int = SIZE
) -> tuple[Tensor, PackedAdam, Tensor, PackedAdam]:
    ours, theirs = start(len(options), dtype, size), start(len(options), dtype, size)
    return ours, packed(options, ours, per_parameter), theirs, packed(options, theirs, per_parameter)


def assert_same(ours: Tensor, kernel: PackedAdam, theirs: Tensor, tensors: PackedAdam, **close: Any) -> None:
    torch.testing.assert_close(ours, theirs, **close)
    for name, value in kernel.state().items():
        torch.testing.assert_close(value, tensors.state()[name], **close)


@pytest.mark.parametrize("per_parameter", [False, True])
@pytest.mark.parametrize("name", PACKS)
def test_equals_the_tensor_version(name: str, per_parameter: bool) -> None:
    """Parameters, moments and step counts; while step sizes decay, and after the housekeeping between intervals."""
    options = PACKS[name]
    ours, kernel, theirs, tensors = both(options, per_parameter)
    for step in range(STEPS):
        for each in (kernel, tensors):
            if step % 30 == 0:
                each.progress(step / STEPS)
            if step % 50 == 0:
                each.tidy()
        gradient = gradients(step, len(options))
        kernel.update(ours, gradient.clone())
        tensors._update_on_gpu(theirs, gradient.clone())
        assert_same(ours, kernel, theirs, tensors, **EXACT)
    assert kernel.power1.shape == ((len(options), SIZE) if per_parameter else (len(options), 1))


@pytest.mark.parametrize("correction", ["standard", "authors"])
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_equals_the_tensor_version_after_resets(kind: type[Adam], correction: str) -> None:
    """Every weight has its own step count then: new ones take large first steps, old ones do not notice."""
    options = [kind(0.01, weight_decay=0.1, correction=correction), kind(0.02, 0.99, 0.99, correction=correction)]
    ours, kernel, theirs, tensors = both(options, True)
    for step in range(STEPS):
        if step in (40, 41, 70):
            for each, parameters in ((kernel, ours), (tensors, theirs)):
                parameters[step % 2, step % 7 :: 7] = 0.0
                for name, value in each.fresh().items():
                    each.state()[name][step % 2, step % 7 :: 7] = value
        if step == 60:
            kernel.restart(1)
            tensors.restart(1)
        kernel.update(ours, gradients(step, 2))
        tensors._update_on_gpu(theirs, gradients(step, 2))
        assert_same(ours, kernel, theirs, tensors, **EXACT)
    assert len(kernel.power1[0].unique()) > 2


@pytest.mark.parametrize("name", ["plain", "l2"])
def test_step_sizes_that_decay(name: str) -> None:
    """`progress` makes a new step size; the kernel must not go on with the old one."""
    base = PACKS[name]
    options = [Adam(o.step_size, o.beta1, o.beta2, o.eps, o.weight_decay, "standard", [0.5], 0.1) for o in base]
    ours, kernel, theirs, tensors = both(options, False)
    for step in range(40):
        for each in (kernel, tensors):
            each.progress(step / 40)
        before = ours.clone()
        kernel.update(ours, torch.full_like(ours, 1.0))
        tensors._update_on_gpu(theirs, torch.full_like(ours, 1.0))
        assert_same(ours, kernel, theirs, tensors, **EXACT)
        if step in (19, 20) and name == "plain":
            size = float((ours - before)[0].abs().mean())
            assert size == pytest.approx(0.001 if step == 19 else 0.0001, rel=0.01)


@pytest.mark.parametrize("per_parameter", [False, True])
@pytest.mark.parametrize("name", PACKS)
def test_float32_rounds_and_nothing_else(name: str, per_parameter: bool) -> None:
    """Types stay, and both versions stray from float64 by about as much."""
    options = PACKS[name]
    ours, kernel, theirs, tensors = both(options, per_parameter, torch.float32)
    exact, reference = start(len(options)), start(len(options))
    reference_adam = packed(options, exact, per_parameter)
    for step in range(STEPS):
        gradient = gradients(step, len(options), torch.float32)
        kernel.update(ours, gradient.clone())
        tensors._update_on_gpu(theirs, gradient.clone())
        reference_adam._update_on_gpu(exact, gradient.double())
    assert ours.dtype == kernel.moment1.dtype == kernel.power2.dtype == torch.float32
    moved = (exact - reference).abs()
    for result in (ours, theirs):
        assert bool(((result.double() - exact).abs() <= 2e-3 * moved + 2e-5).all())
    assert float(moved.max()) > 0.05


@pytest.mark.parametrize("per_parameter", [False, True])
def test_gradients_that_are_views(per_parameter: bool) -> None:
    """Slices of a buffer, or its transpose: read in place, and what lies beside them stays as it is."""
    options = PACKS["l2"]
    ours, kernel, theirs, tensors = both(options, per_parameter)
    for step in range(12):
        gradient = gradients(step, len(options))
        buffer = torch.full((len(options), SIZE + 9), 1e6, dtype=torch.float64)
        view = [buffer[:, 4 : 4 + SIZE], torch.empty(SIZE, len(options), dtype=torch.float64).T, buffer[:, :SIZE]]
        view[step % 3].copy_(gradient)
        kernel.update(ours, view[step % 3])
        tensors._update_on_gpu(theirs, gradient)
        assert_same(ours, kernel, theirs, tensors, **EXACT)
        assert bool((buffer[:, -5:] == 1e6).all())


def test_parameters_that_are_views() -> None:
    """A slice of a larger tensor is updated where it lies."""
    options = PACKS["plain"]
    whole = torch.full((4, SIZE + 6), 3.0, dtype=torch.float64)
    ours = whole[:, 3:-3]
    ours.copy_(start(4))
    theirs = start(4)
    kernel, tensors = packed(options, ours, True), packed(options, theirs, True)
    for step in range(10):
        kernel.update(ours, gradients(step, 4))
        tensors._update_on_gpu(theirs, gradients(step, 4))
    assert_same(ours, kernel, theirs, tensors, **EXACT)
    assert bool((whole[:, :3] == 3.0).all())
    assert bool((whole[:, -3:] == 3.0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_parameter", [False, True])
@pytest.mark.parametrize("name", ["plain", "l2", "adamw", "authors"])
def test_a_run_is_the_same_bits_alone_and_in_a_pack(name: str, per_parameter: bool, dtype: torch.dtype) -> None:
    options = PACKS[name]
    together = start(len(options), dtype)
    alone = [row.clone()[None] for row in together]
    pack = packed(options, together, per_parameter)
    packs = [packed([one], parameters, per_parameter) for one, parameters in zip(options, alone, strict=True)]
    for step in range(20):
        gradient = gradients(step, len(options), dtype)
        pack.update(together, gradient.clone())
        for run, (each, parameters) in enumerate(zip(packs, alone, strict=True)):
            each.update(parameters, gradient[run : run + 1].clone())
    for run, parameters in enumerate(alone):
        assert torch.equal(together[run], parameters[0])


@pytest.mark.parametrize("per_parameter", [False, True])
def test_a_single_parameter(per_parameter: bool) -> None:
    """One weight per run: a step count for it is one for the run, whichever it was meant to be."""
    options = PACKS["plain"]
    ours, kernel, theirs, tensors = both(options, per_parameter, size=1)
    for step in range(30):
        kernel.update(ours, gradients(step, 4, size=1))
        tensors._update_on_gpu(theirs, gradients(step, 4, size=1))
    assert_same(ours, kernel, theirs, tensors, **EXACT)


@pytest.mark.parametrize("per_parameter", [False, True])
def test_runs_do_not_touch_each_other(per_parameter: bool) -> None:
    """One that has diverged, and one taken out of the pack (its state is zero, its powers too), beside a third."""
    options = [Adam(0.01, weight_decay=0.1)] * 3
    ours, kernel, theirs, tensors = both(options, per_parameter)
    for state in (ours, *kernel.state().values()):
        state[1] = 0.0
    ours[0, 4] = torch.nan
    for step in range(10):
        gradient = gradients(step, 3)
        tensors._update_on_gpu(theirs, gradient.clone())
        gradient[1] = 0.0
        kernel.update(ours, gradient)
    assert not ours[1].any()
    assert torch.isnan(ours[0]).nonzero().flatten().tolist() == [4]
    torch.testing.assert_close(ours[2], theirs[2], **EXACT)


def test_gradient_of_zero_moves_nothing() -> None:
    """0 / (0 + eps), and a weight without gradient under decoupled decay only shrinks."""
    for per_parameter in (False, True):
        ours, kernel, *_ = both([Adam(0.1), Adam(0.1, 0.0, 0.0)], per_parameter)
        kernel.update(ours, torch.zeros_like(ours))
        assert torch.equal(ours, start(2))
        ours, kernel, *_ = both([AdamW(0.1, weight_decay=0.5)], per_parameter)
        kernel.update(ours, torch.zeros_like(ours))
        torch.testing.assert_close(ours, 0.95 * start(1), **EXACT)
