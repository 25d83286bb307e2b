"""Augmentation of a batch against torchvision's functions, which are applied to one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from lop_sweeps import counter_random
from lop_sweeps.benchmarks.augmentation import DRAWS, PADDING, augment, standardise

MEAN = torch.tensor([0.5071, 0.4865, 0.4409], dtype=torch.float64)
STD = torch.tensor([0.2673, 0.2564, 0.2762], dtype=torch.float64)
LAST = 1.0 - 2.0**-53  # the largest draw of counter_random.uniforms
PLAIN = (0.9, 0.5, 0.5, 0.0)  # no flip, the crop in the middle, no rotation


def noise(n: int, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(n + channels)
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def draws(n: int) -> Tensor:
    """(n, DRAWS) uniforms; the first 16 are all combinations of the least and the greatest draw."""
    uniforms = np.empty(n * DRAWS)
    counter_random.uniforms(np.uint64(7), 0, 0, uniforms)
    uniforms[: 16 * DRAWS] = np.array(list(np.ndindex(2, 2, 2, 2)), float).ravel() * LAST
    return torch.from_numpy(uniforms).view(n, DRAWS)


def torchvision_augment(image: Tensor, uniforms: Tensor) -> Tensor:
    """The authors' transforms of one standardised image (channels, height, width), with given draws."""
    flip, row, column, angle = uniforms.tolist()
    height, width = image.shape[-2:]
    if flip < 0.5:
        image = F.horizontal_flip(image)
    image = F.pad(image, [PADDING] * 4, padding_mode="reflect")
    image = F.crop(image, int(row * 9), int(column * 9), height, width)
    return F.rotate(image, 15.0 * angle, fill=0)  # nearest, not expanded, about the centre: the defaults


def near_tie(uniforms: Tensor, height: int, width: int) -> Tensor:
    """(n, 1, height, width): is a source coordinate, in exact arithmetic, within 1e-5 pixels of a tie?"""
    angle = torch.deg2rad(15.0 * uniforms[:, 3]).view(-1, 1, 1)
    x = torch.arange(width) - (width - 1) / 2
    y = (torch.arange(height) - (height - 1) / 2).unsqueeze(1)
    column = angle.cos() * x - angle.sin() * y + (width - 1) / 2
    row = angle.sin() * x + angle.cos() * y + (height - 1) / 2
    return torch.stack([(v - v.floor() - 0.5).abs() < 1e-5 for v in (column, row)]).any(0).unsqueeze(1)


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 28, 28), (3, 20, 37), (2, 41, 9), (1, 5, 5)], ids=lambda shape: "x".join(map(str, shape))
)
def test_each_image_is_what_torchvision_makes_of_it_alone(shape: tuple[int, int, int]) -> None:
    uniforms, images = draws(400), noise(400, *shape)
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    moved, inside = augment(images, uniforms)
    expected = torch.stack(
        [torchvision_augment(i, u) for i, u in zip(standardise(images, mean, std), uniforms, strict=True)]
    )
    wrong = standardise(moved, mean, std, inside) != expected
    # Equal bit for bit where the matrix product inside torchvision rounds product by product, as MKL does on AMD. A
    # library that fuses multiply and add moves the coordinate by under 1e-5 pixels, so only such near ties (some 4 of
    # 100,000 pixels) may differ, and of these few do.
    assert not (wrong & ~near_tie(uniforms, *shape[1:])).any()
    assert wrong.any(1).sum() <= 4


def test_standardise_is_torchvisions_normalisation() -> None:
    images = noise(5)
    for dtype in (torch.float32, torch.float64):
        ours = standardise(images, MEAN, STD, dtype=dtype)
        assert ours.dtype == dtype
        assert torch.equal(ours, F.normalize(images.to(dtype) / 255, MEAN.tolist(), STD.tolist()))


def test_float64_is_exact_and_float32_is_it_rounded() -> None:
    images = noise(3)
    exact = (images.numpy() / 255.0 - MEAN.numpy()[:, None, None]) / STD.numpy()[:, None, None]
    np.testing.assert_array_equal(standardise(images, MEAN, STD, dtype=torch.float64).numpy(), exact)
    np.testing.assert_allclose(standardise(images, MEAN, STD).numpy(), exact, rtol=0, atol=5e-7)


def test_outside_is_zero_after_standardisation() -> None:
    images = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    moved, inside = augment(images, torch.tensor([[0.9, 0.5, 0.5, LAST]], dtype=torch.float64))
    assert not inside[0, 0, 0, 0]
    assert 0.05 < (~inside).double().mean() < 0.25
    standard = standardise(moved, MEAN, STD, inside, torch.float64)
    assert torch.equal(standard != 0, inside.expand(-1, 3, -1, -1))


def test_plain_draws_change_nothing_and_inputs_are_kept() -> None:
    images, uniforms = noise(2), torch.tensor([PLAIN] * 2, dtype=torch.float64)
    before, draws_before = images.clone(), uniforms.clone()
    moved, inside = augment(images, uniforms)
    assert torch.equal(moved, before)
    assert inside.all()
    standardise(moved, MEAN, STD, inside)
    assert torch.equal(images, before)
    assert torch.equal(uniforms, draws_before)


def test_every_image_of_a_batch_has_its_own_draw() -> None:
    """v2 transforms on a batch use one crop, one flip and one angle for all of it."""
    moved, _ = augment(noise(1).expand(200, -1, -1, -1), draws(200))
    assert len(moved.flatten(1).unique(dim=0)) > 190  # a few coincide: below 1.8 degrees, rotation moves no pixel
    for draw, others in enumerate([(0.1,), (0.0, 0.99), (0.0, 0.99), (0.5, 0.99)]):
        uniforms = torch.tensor([PLAIN] * (1 + len(others)), dtype=torch.float64)
        uniforms[1:, draw] = torch.tensor(others)
        moved, _ = augment(noise(1).expand(len(uniforms), -1, -1, -1), uniforms)
        assert len(moved.flatten(1).unique(dim=0)) == len(uniforms), f"draw {draw} is shared or unused"


def test_an_image_does_not_depend_on_its_batch() -> None:
    images, uniforms = noise(90), draws(90)
    moved, inside = augment(images, uniforms)
    for chosen in (torch.arange(90).flip(0), torch.tensor([50]), torch.arange(3, 20)):
        alone, alone_inside = augment(images[chosen], uniforms[chosen])
        assert torch.equal(alone, moved[chosen])
        assert torch.equal(alone_inside, inside[chosen])


def test_half_of_the_images_flip_and_all_offsets_occur_equally_often() -> None:
    n = 5_000
    column = torch.arange(32, dtype=torch.uint8).expand(32, -1)
    coordinates = torch.stack([column, column.T]).expand(n, -1, -1, -1)  # each pixel says where it came from
    uniforms = draws(n).clone()
    uniforms[:, 3] = 0.0
    moved, _ = augment(coordinates, uniforms)
    middle_column, middle_row = moved[:, 0, 16].long(), moved[:, 1, :, 16].long()
    flipped = middle_column[:, 16] > middle_column[:, 17]
    assert abs(flipped.double().mean() - 0.5) < 4 * 0.5 / n**0.5
    unflipped = torch.where(flipped, 31 - middle_column[:, 16], middle_column[:, 16])
    for source in (unflipped, middle_row[:, 16]):
        share = torch.bincount(source - 12, minlength=9).double() / n  # 16 + offset - 4
        assert share.shape == (9,)
        assert (share - 1 / 9).abs().max() < 4 * (8 / 81 / n) ** 0.5


def test_no_value_is_read_on_the_host() -> None:
    """Tensors without data: whatever waits for a device (item, nonzero, a branch on a value) raises."""
    images = torch.empty(6, 3, 32, 32, dtype=torch.uint8, device="meta")
    moved, inside = augment(images, torch.empty(6, DRAWS, dtype=torch.float64, device="meta"))
    standard = standardise(moved, MEAN.to("meta"), STD.to("meta"), inside)
    assert (standard.shape, standard.dtype) == ((6, 3, 32, 32), torch.float32)
    assert inside.shape == (6, 1, 32, 32)


def test_wrong_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        augment(noise(2, 3, 4, 32), draws(16)[:2])
    with pytest.raises(ValueError, match="uniforms"):
        augment(noise(3), draws(16)[:2])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_images_without_waiting() -> None:
    images, uniforms = noise(400), draws(400)
    moved, inside = augment(images, uniforms)
    on_gpu = [t.cuda() for t in (images, uniforms, MEAN, STD)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu_moved, gpu_inside = augment(on_gpu[0], on_gpu[1])
        gpu_standard = standardise(gpu_moved, on_gpu[2], on_gpu[3], gpu_inside)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(gpu_inside.cpu(), inside)
    standard = standardise(moved, MEAN, STD, inside)
    # To rounding: CUDA multiplies by 1 / 255 instead of dividing.
    torch.testing.assert_close(gpu_standard.cpu(), standard, rtol=0, atol=1e-6)
