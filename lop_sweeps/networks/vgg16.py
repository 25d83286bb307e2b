"""VGG-16 for images of 32x32 and 64x64 pixels: the network of warm start and chunks on Tiny-ImageNet.

Simonyan & Zisserman 2015 (arXiv 1409.1556), configuration D, as FIRE's authors have it (isaac7778/FIRE, vision/models):
batch normalisation after each convolution, and two hidden layers of 1,024 units without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.conv_net import ConvNet

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # channels, in widths, and convolutions; a stage ends with pooling
SMALLEST = 2 ** len(STAGES)  # side of an image of which the last pooling leaves one position


class VGG16(ConvNet):
    """images -> 13 convolutions of 3x3 in 5 stages, each followed by 2x2 max-pooling -> hidden layers -> outputs.

    width: channels of the first stage (published: 64); the others have 2, 4, 8 and 8 times as many. hidden: units of
    each fully connected hidden layer (FIRE: 1,024 and 1,024; the original: 4,096 and 4,096). norm: batch, or none,
    before the activation of convolutions; hidden layers have none. activation (with its options), init, dropout: as in
    `ConvNet`; FIRE has PyTorch's initialisation and no dropout.

    Hidden activations are those of every convolution, after pooling where it follows, and of the hidden layers.
    """

    version: ClassVar[int] = 1
    packs_on: ClassVar[frozenset[str]] = frozenset()  # one run fills a GPU; cuDNN takes groups one by one
    hidden_norm: ClassVar[bool] = False

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 64,
        hidden: Sequence[int] = (1024, 1024),
        activation: str = "relu",
        init: str = "default",
        dropout: float = 0.0,
        norm: str = "batch",
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
    ) -> None:
        width = checks.integer("width", width, 1)
        _, height, length = shape
        if min(height, length) < SMALLEST:
            allowed = f"needs images of at least {SMALLEST} x {SMALLEST} pixels; here they have {height} x {length}"
            raise ConfigError("", None, allowed)
        channels = [width * widths for widths, convolutions in STAGES for _ in range(convolutions)]
        super().__init__(
            shape,
            outputs,
            channels,
            kernels=[3] * len(channels),
            hidden=hidden,
            activation=activation,
            init=init,
            dropout=dropout,
            norm=norm,
            leaky_slope=leaky_slope,
            prelu_per=prelu_per,
            slope_bounds=slope_bounds,
            smooth_leaky=smooth_leaky,
            aid_p=aid_p,
            adalin_of=adalin_of,
            padding=1,
            pool=[2 if i == last else 1 for last in (n - 1 for _, n in STAGES) for i in range(last + 1)],
        )
        self.width = width
