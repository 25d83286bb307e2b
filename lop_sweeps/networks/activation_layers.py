"""Activations that are more than a function of each pre-activation: with several features, with learned parameters, or
random in training. Their formulae are listed in `activations.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lop_sweeps.networks.activations import Options

Function = Callable[..., Tensor]


class Layer(nn.Module):
    """An activation that is more than a function of each pre-activation. initial: of its parameters, by name; one
    number for each unit or layer, or what a layer has.
    """

    features: ClassVar[int] = 1
    draws: ClassVar[bool] = False
    initial: ClassVar[dict[str, tuple[float, ...]]] = {}

    def __init__(self, options: Options, units: int, *, maps: bool = False) -> None:
        super().__init__()
        self.options, self.maps = options, maps
        for name, value in self.initial.items():
            size = units if self.of_units(options, maps=maps) else len(value)
            self.register_parameter(name, nn.Parameter(torch.empty(size)))

    @classmethod
    def variance(cls, options: Options) -> float:
        """As in `activations.Activation`."""
        return 2.0

    @classmethod
    def of_units(cls, options: Options, *, maps: bool) -> bool:
        """Whether the parameters are one number for each unit."""
        return False

    @classmethod
    def at_zero(cls, options: Options) -> float:
        return 0.0

    def initialize(self) -> None:
        with torch.no_grad():
            for name, value in self.initial.items():
                parameter = self.get_parameter(name)
                parameter.copy_(torch.tensor(value, dtype=torch.float64).expand_as(parameter))

    @property
    def axis(self) -> int:
        """Of the units in z."""
        return -3 if self.maps else -1

    def beside(self, parameter: Tensor) -> Tensor:
        """(..., units or numbers) along the axis of the units, to broadcast with z."""
        return parameter[..., None, None] if self.maps else parameter.unsqueeze(-2)


def leaky_variance(slope: float) -> float:
    """He et al. 2015, Eq. 15, with the slope below 0."""
    return 2.0 / (1 + slope**2)


def smooth_leaky(z: Tensor, alpha: Tensor | float, p: float, c: float) -> Tensor:
    """Lillo & Cheney 2025 (arXiv 2509.22562), Eq. 1."""
    return alpha * z + (1 - alpha) * (z * torch.sigmoid(c / p * z))


class CReLU(Layer):
    """[max(z, 0), max(-z, 0)]: one half passes a gradient at every z but 0 (Shang et al. 2016; Abbas et al. 2023)."""

    features = 2

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return torch.cat((z.relu(), (-z).relu()), self.axis)


class Fourier(Layer):
    """[sin z, cos z]: near any z one of them is nearly linear (Lewandowski et al. 2024)."""

    features = 2

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return torch.cat((z.sin(), z.cos()), self.axis)


class PReLU(Layer):
    """z, or a learned slope x z below 0 (He et al. 2015). They learn the slopes without weight decay; here these are
    decayed as every parameter is.
    """

    initial: ClassVar[dict[str, tuple[float, ...]]] = {"slope": (0.25,)}
    slope: Tensor

    @classmethod
    def variance(cls, options: Options) -> float:
        return leaky_variance(cls.initial["slope"][0])

    @classmethod
    def of_units(cls, options: Options, *, maps: bool) -> bool:
        return options.prelu_per == "unit" or (options.prelu_per == "channel" and maps)

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return torch.where(z > 0, z, self.beside(self.slope) * z)


class RReLU(Layer):
    """z, or a slope drawn from U(lower, upper) x z below 0 (Xu et al. 2015)."""

    draws = True

    @classmethod
    def variance(cls, options: Options) -> float:
        return leaky_variance(sum(options.slope_bounds) / 2)

    def slopes(self, uniforms: Tensor | None) -> Tensor | float:
        lower, upper = self.options.slope_bounds
        return (lower + upper) / 2 if uniforms is None else lower + (upper - lower) * uniforms

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return torch.where(z > 0, z, self.slopes(uniforms) * z)


class RandomizedSmoothLeaky(RReLU):
    """smooth_leaky with alpha drawn from U(lower, upper) (Lillo & Cheney 2025)."""

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return smooth_leaky(z, self.slopes(uniforms), *self.options.smooth_leaky[1:])


class AID(Layer):
    """max(z, 0) with probability p, else min(z, 0); in evaluation p z above 0 and (1 - p) z below (Park et al. 2025).

    The mean square of what it gives is half that of z for every p.
    """

    draws = True

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        p, above = self.options.aid_p, z > 0
        if uniforms is None:
            return torch.where(above, p * z, (1 - p) * z)
        return torch.where(above == (uniforms < p), z, torch.zeros_like(z))


class AdaLin(Layer):
    """phi(z) + a z G, with a learned for each unit and G = cos(pi/2 |phi'(z)| / L) taken as constant in the gradient:
    linear where phi saturates (Rohani et al. 2025). L: the largest |phi'|.

    Of relu this is prelu per unit. Their initial a is not known to us; 0 begins with phi.
    """

    initial: ClassVar[dict[str, tuple[float, ...]]] = {"linearity": (0.0,)}
    linearity: Tensor

    @classmethod
    def variance(cls, options: Options) -> float:
        return BASES[options.adalin_of].variance

    @classmethod
    def at_zero(cls, options: Options) -> float:
        return float(BASES[options.adalin_of].function(torch.zeros((), device="cpu")))

    @classmethod
    def of_units(cls, options: Options, *, maps: bool) -> bool:
        return True

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        base = BASES[self.options.adalin_of]
        with torch.no_grad():
            gate = torch.cos(math.pi / 2 / base.largest * base.derivative(z).abs())
        h: Tensor = base.function(z) + self.beside(self.linearity) * (z * gate)
        return h


class Rational(Layer):
    """(a_0 + a_1 z + ... + a_5 z^5) / (1 + |b_1 z| + ... + |b_4 z^4|), learned for each layer (Molina et al. 2019;
    Delfosse et al. 2021).

    It begins as an imitation of leaky_relu with slope 0.01, the closest one on [-3, 3] in mean square that is 0 at 0.
    """

    initial: ClassVar[dict[str, tuple[float, ...]]] = {
        "numerator": (0.0, 0.842846, 4.525618, 7.008177, 3.748225, 0.672729),
        "denominator": (3.8467, 7.904955, 3.300278, 0.746988),
    }
    numerator: Tensor
    denominator: Tensor

    @classmethod
    def variance(cls, options: Options) -> float:
        return leaky_variance(0.01)

    def forward(self, z: Tensor, uniforms: Tensor | None = None) -> Tensor:
        size = z.abs()
        above, *others = self.beside(self.numerator).split(1, self.axis)[::-1]
        for coefficient in others:
            above = above * z + coefficient
        below = torch.zeros_like(z)
        for coefficient in self.beside(self.denominator).abs().split(1, self.axis)[::-1]:
            below = (below + coefficient) * size
        ratio: Tensor = above / (1 + below)
        return ratio


def _density(z: Tensor) -> Tensor:
    """Of the standard normal distribution."""
    return torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


class Base(NamedTuple):
    """What AdaLin adds to: phi, its derivative, the largest size of that; variance: as in `activations.Activation`."""

    function: Function
    derivative: Function
    largest: float
    variance: float


BASES = {
    "relu": Base(torch.relu, lambda z: (z > 0).to(z.dtype), 1.0, 2.0),
    "tanh": Base(torch.tanh, lambda z: 1 - z.tanh().square(), 1.0, (5.0 / 3.0) ** 2),
    "sigmoid": Base(torch.sigmoid, lambda z: z.sigmoid() * (1 - z.sigmoid()), 0.25, 1.0),
    # Its derivative is largest at the root of 2, where the second one, (2 - z^2) x the normal density, is 0.
    "gelu": Base(
        F.gelu,
        lambda z: torch.special.ndtr(z) + z * _density(z),
        0.5 * (1 + math.erf(1.0)) + math.exp(-1.0) / math.sqrt(math.pi),
        2.0,
    ),
}
