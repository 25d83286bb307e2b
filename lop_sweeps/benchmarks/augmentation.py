"""Random flip, crop and rotation of small images, with an own draw for each image of a batch.

The transforms, their order and their ranges are those of the class-incremental CIFAR-100 of "Loss of plasticity in
deep continual learning" (Nature 632, 2024). torchvision's v2 transforms make one draw for a whole batch, so the authors
apply them image by image. All three only move pixels: here they are one map from output to source pixels, and one
gather. Nothing waits for the device, and an image depends on its own draw only, never on the rest of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 4  # uniforms per image: flip, crop row, crop column, angle
PADDING = 4  # pixels of reflection on each side
MAX_ANGLE = 15.0  # degrees


def augment(images: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Flip (p = 0.5), then pad by reflection and crop, then rotate by an angle in [0, 15) degrees, anticlockwise.

    `images` (n, channels, height, width), any dtype, `uniforms` (n, DRAWS) float64 on [0, 1), both on one device.
    Returns the moved images and the mask `inside` (n, 1, height, width), False where rotation looks beyond the image;
    there the moved image holds an arbitrary pixel, for `standardise` to replace. The authors fill these pixels with 0
    *after* standardisation, i.e. with the mean colour, which a byte cannot say.
    """
    n, channels, height, width = images.shape
    if min(height, width) <= PADDING:
        raise ValueError(f"reflecting {PADDING} pixels needs images of at least {PADDING + 1}, got {height}×{width}")
    if uniforms.shape != (n, DRAWS):
        raise ValueError(f"uniforms must be of shape {(n, DRAWS)}, got {tuple(uniforms.shape)}")
    flip, crop_row, crop_column, angle = uniforms.unsqueeze(-1).unbind(1)  # each (n, 1)
    rows = _cropped(height, crop_row)
    columns = _cropped(width, crop_column)
    columns = torch.where(flip < 0.5, width - 1 - columns, columns)
    cropped = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)  # (n, pixels): source of each pixel
    rotated, inside = _rotated(height, width, MAX_ANGLE * angle)
    source = cropped.gather(1, rotated).unsqueeze(1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, source).view_as(images), inside


def standardise(
    images: Tensor, mean: Tensor, std: Tensor, inside: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(images / 255 - mean) / std per channel, in `dtype`; 0 where not `inside`.

    `images` (n, channels, height, width) uint8, `mean` and `std` (channels,) in units of the brightest pixel and on
    the device of the images (to copy them there at every call would wait for the device), `inside` as `augment` gives.
    """
    mean, std = mean.to(dtype).view(-1, 1, 1), std.to(dtype).view(-1, 1, 1)
    standard = images.to(dtype).div_(255.0).sub_(mean).div_(std)
    return standard if inside is None else standard.masked_fill_(~inside, 0.0)


def _cropped(size: int, uniform: Tensor) -> Tensor:
    """Along one axis, the source (n, size) of each pixel after padding and cropping; `uniform` (n, 1)."""
    # The offset is 0…8: the product stays below 9 for the largest number below 1, in float64 and in float32.
    offset = (uniform * (2 * PADDING + 1)).long()
    position = torch.arange(size, device=uniform.device) + offset - PADDING
    return size - 1 - (size - 1 - position.abs()).abs()  # reflected at both ends, which are not repeated


def _rotated(height: int, width: int, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """The source (n, pixels) of each pixel under rotation about the centre by `degrees` (n, 1), and `inside`.

    The formulae, with each rounding to float32, are those of torchvision's `v2.functional.rotate` and torch's
    `grid_sample` (nearest, align_corners=False): a source between two pixels is then resolved in the same way. They
    are float32 whatever the dtype of the network, so that float32 and float64 runs see the same images.
    """
    angle = torch.deg2rad(degrees.double()).unsqueeze(-1)  # (n, 1, 1)
    cos, sin = angle.cos().float(), angle.sin().float()
    x = torch.arange(width, dtype=torch.float32, device=degrees.device) - (width - 1) / 2
    y = (torch.arange(height, dtype=torch.float32, device=degrees.device) - (height - 1) / 2).unsqueeze(1)
    half_width, half_height = width / 2, height / 2
    # In units of half the image; products before the sum are tables of one row or column, so this is one pass each.
    column = x * (cos / half_width) + y * (-sin / half_width)  # (n, height, width)
    row = x * (sin / half_height) + y * (cos / half_height)
    column = column.add_(1.0).mul_(half_width).sub_(0.5).round_()
    row = row.add_(1.0).mul_(half_height).sub_(0.5).round_()
    nearest_column, nearest_row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    inside = (column == nearest_column) & (row == nearest_row)
    # Float32 is exact up to 2^24 pixels.
    pixel = nearest_row.mul_(width).add_(nearest_column).long()
    return pixel.flatten(1), inside.unsqueeze(1)
