"""VGG-16 against torchvision's features with FIRE's classifier: sizes, outputs, gradients, unit graph, packs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.vgg16 import VGG16
from tests.networks.packs import assert_pack_is_each_run_alone
from tests.networks.test_conv_net import assert_same, copied, initialized, norm_layers, normal

# Of the convolutions of the published network on 32x32 images, and the sides of their maps after pooling.
CHANNELS = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
SIDES = [32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def torchvisions(outputs: int, hidden: list[int]) -> nn.Sequential:
    """torchvision's convolutions, then fully connected layers without dropout, in float64."""
    layers: list[nn.Module] = [*torchvision.models.vgg16_bn(init_weights=False).features, nn.Flatten()]
    inputs = 512
    for units in hidden:
        layers += [nn.Linear(inputs, units), nn.ReLU()]
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs)).double()


@pytest.mark.parametrize(("norm", "published"), [("none", 138_357_544), ("batch", 138_365_992)])
def test_on_imagenet_it_has_the_published_number_of_parameters(norm: str, published: int) -> None:
    """With the hidden layers of the original; torchvision's documentation gives the same two numbers."""
    with torch.device("meta"):
        network = VGG16((3, 224, 224), 1000, hidden=[4096, 4096], norm=norm)
        theirs = (torchvision.models.vgg16_bn if norm == "batch" else torchvision.models.vgg16)()
    assert parameters(network) == parameters(theirs) == published


def test_fires_network_for_tiny_imagenet_has_its_parameters() -> None:
    """Convolutions and their normalisations as in torchvision, then 2,048 - 1,024 - 1,024 - 200."""
    with torch.device("meta"):
        network = VGG16((3, 64, 64), 200)
        features = torchvision.models.vgg16_bn().features
    of_classifier = (2048 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 200 + 200)
    assert parameters(network) == parameters(features) + of_classifier
    assert network.unit_graph()[12].spread == 4


def test_it_computes_what_torchvisions_does() -> None:
    """Outputs in training and evaluation, hidden activations, running statistics."""
    ours = initialized(VGG16((3, 32, 32), 7, hidden=[12, 9]))
    theirs = copied(ours, torchvisions(7, [12, 9]))
    with torch.no_grad():
        for training in (True, False):
            ours.train(training)
            theirs.train(training)
            x = normal(2, 3, 32, 32, seed=int(training))
            output, hidden = ours(x.flatten(1))
            torch.testing.assert_close(output, theirs(x), rtol=1e-9, atol=1e-9)
            maps = [(2, channels, side, side) for channels, side in zip(CHANNELS, SIDES, strict=True)]
            assert [tuple(h.shape) for h in hidden] == [*maps, (2, 12), (2, 9)]
    buffers = list(ours.buffers())
    expected = [buffer for one in norm_layers(theirs) for buffer in (one.running_mean, one.running_var)]
    assert_same(buffers, expected, atol=1e-10)


def narrow(shape: tuple[int, int, int], outputs: int, norm: str) -> nn.Sequential:
    """The same with 3, 6, 12, 24 and 24 channels and hidden layers of 5 and 4 units."""
    layers: list[nn.Module] = []
    inputs, height, width = shape
    for i, units in enumerate([3, 3, 6, 6, 12, 12, 12, 24, 24, 24, 24, 24, 24]):
        layers += [nn.Conv2d(inputs, units, 3, padding=1), *[nn.BatchNorm2d(units)] * (norm == "batch"), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] * (i in (1, 3, 6, 9, 12))
        inputs = units
    inputs *= (height // 32) * (width // 32)
    layers += [nn.Flatten(), nn.Linear(inputs, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, outputs)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize(("shape", "norm"), [((3, 32, 32), "none"), ((3, 64, 64), "batch"), ((1, 40, 70), "batch")])
def test_narrow_network_and_its_gradients_are_torchs(shape: tuple[int, int, int], norm: str) -> None:
    ours = initialized(VGG16(shape, 3, width=3, hidden=[5, 4], norm=norm))
    theirs = copied(ours, narrow(shape, 3, norm))
    x = normal(6, *shape)
    output, expected = ours(x.flatten(1))[0], theirs(x)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    gradients = torch.autograd.grad(output.square().sum(), list(ours.parameters()))
    weights = [one for one in theirs if isinstance(one, nn.Conv2d | nn.Linear)]
    wanted: list[Tensor] = [p for one in [*weights, *norm_layers(theirs)] for p in one.parameters()]
    assert_same(gradients, torch.autograd.grad(expected.square().sum(), wanted), atol=1e-8)


def test_only_convolutions_have_a_normalisation() -> None:
    graph = VGG16((3, 32, 32), 3, width=1, hidden=[4]).unit_graph()
    assert [len(layer.norm) for layer in graph] == [4] * 13 + [0]
    assert [layer.spread for layer in graph] == [1] * 14
    assert {layer.bound for layer in graph[:1]} == {1 / math.sqrt(27)}  # PyTorch's default
    assert all(not layer.norm for layer in VGG16((3, 32, 32), 3, width=1, norm="none").unit_graph())


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("activation", ["relu", "crelu", "prelu"])
def test_its_unit_graph_is_true(activation: str, norm: str) -> None:
    check_graph(VGG16((1, 64, 32), 3, width=2, hidden=[5], activation=activation, norm=norm), 64 * 32, 3)


@pytest.mark.parametrize("options", [{}, {"norm": "none", "activation": "aid", "dropout": 0.2}])
def test_a_pack_is_each_run_alone(options: dict[str, Any]) -> None:
    assert_pack_is_each_run_alone(lambda: VGG16((1, 32, 32), 3, width=1, hidden=[4], **options), 1024)


@pytest.mark.parametrize(
    ("shape", "options", "key", "says"),
    [
        ((3, 28, 28), {}, "", "at least 32 x 32 pixels; here they have 28 x 28"),
        ((3, 32, 31), {}, "", "32 x 31"),
        ((3, 32, 32), {"width": 0}, "width", ">= 1"),
        ((3, 32, 32), {"hidden": [0]}, "hidden[0]", ">= 1"),
        ((3, 32, 32), {"norm": "layer"}, "norm", "batch"),
        ((3, 32, 32), {"activation": "rleu"}, "activation", "relu"),
    ],
)
def test_wrong_options_name_their_key(shape: tuple[int, int, int], options: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VGG16(shape, 3, **options)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_batch_norm_refuses_mini_batches_of_one() -> None:
    VGG16((3, 32, 32), 3, width=1, norm="none").check(1)
    with pytest.raises(ConfigError, match="batch_size > 1"):
        VGG16((3, 32, 32), 3, width=1).check(1)
