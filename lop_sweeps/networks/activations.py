"""Activations: what hidden units make of their pre-activations z, for all networks alike.

| name | of a unit with pre-activation z | source |
|---|---|---|
| relu, tanh, sigmoid, elu, selu, swish, gelu, identity | PyTorch's; gelu without approximation | |
| leaky_relu | z, or `leaky_slope` z below 0 | |
| prelu | the same with a learned slope, at first 1/4 | arXiv 1502.01852 |
| rrelu | the same with a slope drawn from `slope_bounds` | arXiv 1505.00853 |
| crelu | two features, max(z, 0) and max(-z, 0) | arXiv 1603.05201, 2303.07507 |
| fourier | two features, sin z and cos z | arXiv 2410.20634 |
| smooth_leaky | alpha z + (1 - alpha) z sigmoid(c z / p) | arXiv 2509.22562, Eq. 1 |
| randomized_smooth_leaky | the same with alpha drawn from `slope_bounds` | the same |
| adalin | phi(z) + a z cos(pi/2 phi'(z) / L), a learned | arXiv 2505.09486 |
| aid | z if it is positive, with probability `aid_p`; else z if it is not | arXiv 2502.01342 |
| rational | a ratio of learned polynomials | arXiv 1907.06732, 2102.09407 |

Random ones draw for every unit (position, example) by itself in a training step; in evaluation they take the mean: of
the slope, or (aid) of the output. A derivative at z = 0 is that of the negative side (of both halves of crelu, and of
what |z| adds to that of rational, it is 0). Learned parameters that a unit
has of its own belong to it in the unit graph; those that a layer shares (prelu_per=layer, rational) belong to nobody.

The variance of incoming weights is chosen for each so that pre-activations neither grow nor shrink from layer to layer
(`Activation.variance`; a gain of initialisation is its root): PyTorch's recommendation where there is one; 2 for swish,
elu and gelu as for relu; 2 for crelu, fourier and aid, whose features' mean square is half that of z (fourier: 1/2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.activation_layers import (
    AID,
    BASES,
    AdaLin,
    CReLU,
    Fourier,
    Function,
    Layer,
    PReLU,
    RandomizedSmoothLeaky,
    Rational,
    RReLU,
    leaky_variance,
    smooth_leaky,
)

PER = ("unit", "layer", "channel")


@dataclass(frozen=True)
class Options:
    """What a network's configuration says of its activation; only those of the chosen one matter.

    leaky_slope: of leaky_relu below 0. prelu_per: whether each unit (neuron, channel) has a slope of its own, or all
        units of a layer share one, or (channel) each channel of a convolution has one and each fully connected layer.
    slope_bounds: between which rrelu and randomized_smooth_leaky draw. (Those of the latter are not known to us; the
        default is rrelu's.) smooth_leaky: alpha, p, c. aid_p: with which probability aid keeps the positive part.
    adalin_of: to which function adalin adds, one of `BASES`.
    """

    leaky_slope: float = 0.01
    prelu_per: str = "unit"
    slope_bounds: Sequence[float] = (1 / 8, 1 / 3)
    smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0)
    aid_p: float = 0.9
    adalin_of: str = "relu"

    def __post_init__(self) -> None:
        checks.number("leaky_slope", self.leaky_slope)
        checks.choice("prelu_per", self.prelu_per, PER)
        lower, upper = _numbers("slope_bounds", self.slope_bounds, "lower, upper")
        if lower > upper:
            raise ConfigError("slope_bounds", list(self.slope_bounds), "must be a lower bound and an upper one")
        _, p, _ = _numbers("smooth_leaky", self.smooth_leaky, "alpha, p, c")
        if p <= 0:
            raise ConfigError("smooth_leaky", list(self.smooth_leaky), "must be alpha, p, c with p above 0")
        checks.number("aid_p", self.aid_p, 0.0, 1.0)
        checks.choice("adalin_of", self.adalin_of, BASES)


def _numbers(name: str, values: Sequence[float], what: str) -> list[float]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != what.count(",") + 1:
        raise ConfigError(name, values, f"must be a list of {what.count(',') + 1} numbers: {what}")
    return [checks.number(f"{name}[{i}]", value) for i, value in enumerate(values)]


@dataclass(frozen=True)
class Activation:
    """One of `ACTIVATIONS`, chosen with its options."""

    name: str
    options: Options

    @property
    def kind(self) -> Plain | type[Layer]:
        return ACTIVATIONS[self.name]

    @property
    def features(self) -> int:
        """Of a unit."""
        return self.kind.features

    @property
    def draws(self) -> bool:
        """Whether a training step takes a uniform number for each pre-activation."""
        return self.kind.draws

    @property
    def variance(self) -> float:
        """Of the incoming weights, times fan_in."""
        return self.kind.variance(self.options)

    @property
    def at_zero(self) -> float:
        """What it makes of 0 at first; of fourier 0, so that the sign of a feature is its own."""
        kind = self.kind
        if isinstance(kind, Plain):
            return float(kind.make(self.options)(torch.zeros((), device="cpu")))
        return kind.at_zero(self.options)

    def layer(self, units: int, *, maps: bool = False) -> Function:
        """The activation of a layer, from z, (..., batch, units) or maps (..., units, height, width), to its features.

        One that draws takes the uniform numbers, of the shape of z, as a second argument; None in evaluation. What has
        parameters of its own is a module; they and z may have a leading run dimension (see `on_maps` for maps).
        """
        kind = self.kind
        return kind.make(self.options) if isinstance(kind, Plain) else kind(self.options, units, maps=maps)

    def fresh(self, name: str, *, maps: bool = False) -> tuple[tuple[str, float], ...]:
        """What a layer's units own of its module `name`, with the value of a new unit, for `UnitLayer.norm`."""
        kind = self.kind
        if isinstance(kind, Plain) or not kind.of_units(self.options, maps=maps):
            return ()
        return tuple((f"{name}.{parameter}", value[0]) for parameter, value in kind.initial.items())

    def features_of_units(self, units: int) -> list[tuple[int, ...]] | None:
        """For `UnitLayer.features`: unit i has i, i + units, ...; None where it has i alone."""
        return None if self.features == 1 else [tuple(range(i, self.features * units, units)) for i in range(units)]


def choose(name: str, channels: bool, **options: object) -> Activation:
    """channels: whether the network has convolutions. Raises `ConfigError` with the option's name."""
    checks.choice("activation", name, ACTIVATIONS)
    chosen = Options(**options)  # type: ignore[arg-type]
    if chosen.prelu_per == "channel" and not channels:
        raise ConfigError("prelu_per", "channel", "must be unit or layer: this network has no convolutions")
    return Activation(name, chosen)


def modules(functions: Sequence[Function]) -> nn.ModuleList:
    """Those of a network's layers that are modules, for it to register; none is empty, and of some the others are
    identities that nothing calls, so that layer i is module i.
    """
    if not any(isinstance(function, nn.Module) for function in functions):
        return nn.ModuleList()
    return nn.ModuleList(function if isinstance(function, nn.Module) else nn.Identity() for function in functions)


def initialize(module: nn.Module) -> None:
    """Give the activations in a network their initial parameters."""
    for layer in module.modules():
        if isinstance(layer, Layer):
            layer.initialize()


def on_maps(function: Function, z: Tensor, runs: int | None, uniforms: Tensor | None = None) -> Tensor:
    """Of maps of stacked runs side by side (batch, runs * units, height, width), and likewise back; uniforms
    (runs, batch, units, height, width). runs: None for one run, whose maps have no run dimension.
    """
    h: Tensor
    if not isinstance(function, Layer) or runs is None:
        h = function(z) if uniforms is None else function(z, uniforms)
        return h
    h = function(z.unflatten(1, (runs, -1)), None if uniforms is None else uniforms.transpose(0, 1))
    return h.flatten(1, 2)


@dataclass(frozen=True)
class Plain:
    """A function of each pre-activation. make: the function, for some options; variance: as in `Activation`."""

    make: Callable[[Options], Function]
    variance: Callable[[Options], float]
    features: ClassVar[int] = 1
    draws: ClassVar[bool] = False


def _plain(function: Function, variance: float) -> Plain:
    return Plain(lambda _: function, lambda _: variance)


def identity(z: Tensor) -> Tensor:
    return z


ACTIVATIONS: dict[str, Plain | type[Layer]] = {
    "relu": _plain(torch.relu, 2.0),
    "leaky_relu": Plain(
        lambda options: partial(F.leaky_relu, negative_slope=float(options.leaky_slope)),
        lambda options: leaky_variance(options.leaky_slope),
    ),
    "tanh": _plain(torch.tanh, (5.0 / 3.0) ** 2),
    "sigmoid": _plain(torch.sigmoid, 1.0),
    "elu": _plain(F.elu, 2.0),  # alpha 1
    "selu": _plain(F.selu, 1.0),
    "swish": _plain(F.silu, 2.0),
    "identity": _plain(identity, 1.0),
    "gelu": _plain(F.gelu, 2.0),
    "crelu": CReLU,
    "fourier": Fourier,
    "prelu": PReLU,
    "rrelu": RReLU,
    "smooth_leaky": Plain(
        lambda options: partial(
            smooth_leaky, alpha=options.smooth_leaky[0], p=options.smooth_leaky[1], c=options.smooth_leaky[2]
        ),
        lambda options: leaky_variance(options.smooth_leaky[0]),
    ),
    "randomized_smooth_leaky": RandomizedSmoothLeaky,
    "adalin": AdaLin,
    "aid": AID,
    "rational": Rational,
}
OPTIONS = tuple(field.name for field in fields(Options))
