"""What pixels are scaled to: each benchmark of images, and the option where a run is stored and read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.benchmarks.continual_imagenet import ContinualImageNet
from lop_sweeps.benchmarks.incremental_cifar100 import MEAN, STD, IncrementalCIFAR100
from lop_sweeps.benchmarks.permuted_digits import PermutedDigits
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.errors import ConfigError
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps.identity import configured
from lop_sweeps.training.examples import Examples
from tests import runs
from tests.fused.engines import fused, image_task, unfused

GREY = np.arange(256, dtype=np.uint8)


def task(*, centred: bool) -> PermutedTask:
    """16 grey values an image, each at a place of its own."""
    pixels = np.random.default_rng(0).permutation(16)
    return PermutedTask(GREY.reshape(16, 16), np.arange(16) % 3, 255.0, pixels, np.arange(16), centred)


def test_permuted_images() -> None:
    plain, centred = (task(centred=centred).examples(0, 16)[0] for centred in (False, True))
    np.testing.assert_allclose(centred, (plain - 0.5) / 0.5, rtol=0, atol=1e-15)
    assert (plain.min(), plain.max(), centred.min(), centred.max()) == (0.0, 1.0, -1.0, 1.0)
    made = {inputs: PermutedDigits(1, 50, inputs=inputs) for inputs in ("zero_one", "minus_one_one")}
    for one in made.values():
        one.load(Path())
    zero, minus = (one.task(0, 0).examples(0, 50)[0] for one in made.values())
    np.testing.assert_allclose(minus, 2 * zero - 1, rtol=0, atol=1e-15)


def test_images_that_lie_on_a_device_are_scaled_alike() -> None:
    """On a GPU they are gathered from images that are scaled once."""
    for centred in (False, True):
        tasks = [task(centred=centred)] * 2
        examples = Examples(torch.device("cpu"), torch.float64, targets=False)
        gathered, _ = examples._gathered(tasks, 3, 9)
        np.testing.assert_array_equal(gathered[1], tasks[0].examples(3, 9)[0])


def test_the_fused_engine_learns_from_the_same_numbers() -> None:
    tasks = [replace(image_task(0), centred=centred) for centred in (True, False)]
    losses = [
        [make("cross_entropy", SGD(0.01)).run([one], 1, 0, 0, 60, 30)[0] for make in (fused, unfused)] for one in tasks
    ]
    torch.testing.assert_close(losses[0][0], losses[0][1], rtol=1e-9, atol=1e-10)
    assert not torch.isclose(losses[0][0], losses[1][0])[1:].any()


def test_continual_imagenet() -> None:
    grey = torch.from_numpy(GREY).view(4, 1, 8, 8)
    unit = grey.double().flatten(1) / 255
    for inputs, expected in {"zero_one": unit, "minus_one_one": 2 * unit - 1}.items():
        made = ContinualImageNet(1, inputs=inputs)
        torch.testing.assert_close(made.prepare(grey, None, torch.float64), expected)
    torch.testing.assert_close(ContinualImageNet(1).prepare(grey, None, torch.float64), 2 * unit - 1)


def test_incremental_cifar100() -> None:
    """Where augmentation fills in, there is 0."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8))
    unit = images.double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    scaled = {"standardised": (unit - mean) / std, "zero_one": unit, "minus_one_one": 2 * unit - 1}
    for inputs, expected in scaled.items():
        made = IncrementalCIFAR100(1, inputs=inputs)
        torch.testing.assert_close(made.prepare(images, None, torch.float64), expected.flatten(1))
    torch.testing.assert_close(
        IncrementalCIFAR100(1).prepare(images, None, torch.float64), scaled["standardised"].flatten(1)
    )
    turned = torch.full((5, IncrementalCIFAR100.DRAWS), 0.99, dtype=torch.float64)
    white = IncrementalCIFAR100(1, inputs="minus_one_one").prepare(torch.full_like(images, 255), turned, torch.float64)
    assert set(white.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("make", [PermutedDigits, ContinualImageNet, IncrementalCIFAR100])
def test_other_scales_are_refused(make: Any) -> None:
    lengths = {"examples_per_task": 10} if make is PermutedDigits else {}
    with pytest.raises(ConfigError, match="minus_one_one") as caught:
        make(num_tasks=1, inputs="zero", **lengths)
    assert caught.value.key == "inputs"


def test_the_option_is_stored_and_the_default_is_todays_run(tmp_path: Path) -> None:
    """How many inputs there are is stored beside the sizes of layers; older runs have it where the option is now."""
    plain, other = (runs.point(tmp_path, *runs.SMALL, *more) for more in ([], ["benchmark.inputs=minus_one_one"]))
    assert plain.directory.name != other.directory.name
    assert other.config["benchmark"]["inputs"] == "minus_one_one"
    assert (other.config["layers"]["inputs"], other.config["layers"]["outputs"]) == (64, 10)
    assert configured(other.config)["benchmark"]["inputs"] == "minus_one_one"
    older = {**plain.config, "benchmark": {**plain.config["benchmark"], "inputs": 64}}
    assert "inputs" not in configured(older)["benchmark"]
