"""ResNet-18 against torchvision's, modified as the authors modified it: sizes, outputs, hidden layers, unit graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from lop_sweeps import streams
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.resnet18 import ResNet18

PUBLISHED = (3, 32, 32)
# The hidden layers: stem, then between the convolutions and after each of the eight blocks (spec/networks.md 6.2).
CHANNELS = [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4
SIDES = [32] * 5 + [16] * 4 + [8] * 4 + [4] * 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def initialized(network: ResNet18, seed: int = 0) -> ResNet18:
    network = network.double()
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


def with_bias(old: nn.Conv2d) -> nn.Conv2d:
    """The same convolution with a bias."""
    sides: Any = (old.kernel_size, old.stride, old.padding)
    return nn.Conv2d(old.in_channels, old.out_channels, *sides)


def torchvisions(outputs: int) -> Any:
    """torchvision's ResNet-18 with a 3x3 stem of stride 1, no max-pooling, and a bias in every convolution."""
    network = torchvision.models.resnet18(num_classes=outputs)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1)
    network.maxpool = nn.Identity()
    for block in network.modules():
        if isinstance(block, BasicBlock):
            block.conv1, block.conv2 = with_bias(block.conv1), with_bias(block.conv2)
            if block.downsample is not None:
                block.downsample[0] = with_bias(block.downsample[0])
    return network.double()


class Narrow(nn.Module):
    """The same of any width, in float64, out of torchvision's blocks; its layers have the same names."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(inputs, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()
        below = width
        for stage in range(4):
            units = width * 2**stage
            stride = 1 if stage == 0 else 2
            shortcut = None
            if stage:
                shortcut = nn.Sequential(nn.Conv2d(below, units, 1, stride), nn.BatchNorm2d(units))
            blocks = [BasicBlock(below, units, stride, shortcut), BasicBlock(units, units)]
            for block in blocks:
                block.conv1, block.conv2 = with_bias(block.conv1), with_bias(block.conv2)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            below = units
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(below, outputs)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
        y: Tensor = self.fc(self.avgpool(x).flatten(1))
        return y


def names() -> dict[str, str]:
    """Module names of ours -> torchvision's, in the order of the data."""
    found = {"stem": "conv1", "stem_norm": "bn1"}
    for i in range(8):
        block = f"layer{i // 2 + 1}.{i % 2}"
        pairs = (("conv1", "conv1"), ("norm1", "bn1"), ("conv2", "conv2"), ("norm2", "bn2"))
        found |= {f"blocks.{i}.{ours}": f"{block}.{theirs}" for ours, theirs in pairs}
        if i in (2, 4, 6):
            found |= {f"blocks.{i}.shortcut": f"{block}.downsample.0"}
            found |= {f"blocks.{i}.shortcut_norm": f"{block}.downsample.1"}
    return found | {"outputs": "fc"}


def copied(network: ResNet18, theirs: Any) -> Any:
    """torchvision's network with the parameters and statistics of ours; no tensor of either is left over."""
    state = dict(network.state_dict())
    for name, other in names().items():
        module = theirs.get_submodule(other)
        for key in module.state_dict():
            if key != "num_batches_tracked":
                module.state_dict()[key].copy_(state.pop(f"{name}.{key}"))
    assert not state
    return theirs


def with_features(theirs: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Its outputs, and the results of its 17 activations, the last one averaged over positions."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output.clone())  # torchvision's activations work in place

    hooks = [module.register_forward_hook(note) for module in theirs.modules() if isinstance(module, nn.ReLU)]
    output = theirs(x)
    for hook in hooks:
        hook.remove()
    return output, [*seen[:-1], seen[-1].mean((2, 3))]


def shaken(network: ResNet18) -> ResNet18:
    """With biases, scales, shifts and statistics that are not their fresh ones."""
    with torch.no_grad():
        for i, (name, value) in enumerate([*network.named_parameters(), *network.named_buffers()]):
            if value.dim() == 1:
                noise = normal(*value.shape, seed=1_000 + i)
                value.copy_(0.3 * noise if "bias" in name or "mean" in name else 0.7 + 0.3 * noise.abs())
    return network


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-10) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_published_network_has_the_parameters_and_buffers_of_the_authors() -> None:
    """Their 9,620 buffer values include a count of batches for each of 20 normalisations, which we do not keep."""
    with torch.device("meta"):
        network, theirs = ResNet18(PUBLISHED, 100), torchvisions(100)
    assert sum(p.numel() for p in network.parameters()) == 11_224_932
    assert sum(p.numel() for p in theirs.parameters()) == 11_224_932
    assert sum(b.numel() for b in theirs.buffers()) == 9_620
    assert sum(b.numel() for b in network.buffers()) == 9_620 - 20


@pytest.mark.parametrize("channels_last", [False, True])
def test_published_network_computes_what_torchvisions_does(channels_last: bool) -> None:
    """In training (running statistics, too) and in evaluation; the 17 hidden layers of the spec."""
    ours = shaken(initialized(ResNet18(PUBLISHED, 100)))
    theirs = copied(ours, torchvisions(100))
    ours.channels_last = channels_last
    with torch.no_grad():
        for training in (True, False):
            ours.train(training)
            theirs.train(training)
            x = normal(2, *PUBLISHED, seed=int(training))
            output, hidden = ours(x.flatten(1))
            expected, features = with_features(theirs, x)
            assert output.shape == (2, 100)
            maps = zip(CHANNELS, SIDES, strict=True)
            sizes = [(2, channels, side, side) for channels, side in maps]
            assert [tuple(h.shape) for h in hidden] == [*sizes[:-1], (2, 512)]
            assert_same([output, *hidden], [expected, *features])
            buffers = dict(ours.named_buffers())
            for name, other in names().items():
                for key, value in theirs.get_submodule(other).named_buffers():
                    if key != "num_batches_tracked":
                        torch.testing.assert_close(buffers[f"{name}.{key}"], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 9, 13)])
def test_narrow_network_and_its_gradients_are_torchvisions(shape: tuple[int, int, int]) -> None:
    """Also with sides that do not halve evenly."""
    ours = shaken(initialized(ResNet18(shape, 5, width=3)))
    theirs = copied(ours, Narrow(shape[0], 3, 5))
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        x = normal(4, *shape, seed=int(training))
        output, hidden = ours(x.flatten(1))
        expected, features = with_features(theirs, x)
        assert_same([output, *hidden], [expected, *features])
        parameters = dict(ours.named_parameters())
        gradients = torch.autograd.grad(output.square().sum(), list(parameters.values()))
        wanted = torch.autograd.grad(expected.square().sum(), list(theirs.parameters()))
        others = dict(zip([name for name, _ in theirs.named_parameters()], wanted, strict=True))
        assert len(gradients) == len(others)
        for name, gradient in zip(parameters, gradients, strict=True):
            module, _, leaf = name.rpartition(".")
            torch.testing.assert_close(gradient, others[f"{names()[module]}.{leaf}"], rtol=1e-8, atol=1e-8)


def test_initial_law_is_kaimings_for_convolutions_and_of_gain_1_for_the_outputs() -> None:
    """N(0, 2 / fan_in), fan_in = kernel area x input channels; N(0, 1 / 512) for the outputs; biases 0."""
    network = initialized(ResNet18(PUBLISHED, 100))
    named = dict(network.named_parameters())
    kinds = {name: theirs for name, theirs in names().items() if "norm" not in name}
    assert list(network.weights()) == [f"{name}.weight" for name in kinds]
    assert len(kinds) == 1 + 16 + 3 + 1
    draws = []
    for name in kinds:
        weight = named[f"{name}.weight"].detach()
        outputs, inputs = weight.shape[:2]
        fan_in = inputs * (1 if name == "outputs" or name.endswith("shortcut") else 9)
        std = math.sqrt((1 if name == "outputs" else 2) / fan_in)
        values = weight.flatten().numpy() / std
        assert abs(values.std() - 1) < 5 / math.sqrt(2 * len(values)), name
        assert stats.kstest(values[:50_000], "norm").pvalue > 1e-4, name
        assert not named[f"{name}.bias"].any()
        assert len(named[f"{name}.bias"]) == outputs
        draws.append(values[:1_000])
    correlation = np.corrcoef(np.stack(draws))  # every weight tensor has draws of its own
    assert np.abs(correlation - np.eye(len(draws))).max() < 0.2
    for name in names():
        if "norm" in name:
            norm = network.get_submodule(name).state_dict()
            assert set(norm) == {"weight", "bias", "running_mean", "running_var"}
            for key, value in norm.items():
                assert torch.equal(value, torch.full_like(value, float(key in ("weight", "running_var"))))


def places() -> Iterator[tuple[str, str, str, bool]]:
    """Of each hidden layer by hand: its convolution, its normalisation, its reader, and whether a shortcut reads it.

    A shortcut starts where a block does: at the stem and at every block's output but the last.
    """
    yield "stem", "stem_norm", "blocks.0.conv1", True
    for i in range(8):
        yield f"blocks.{i}.conv1", f"blocks.{i}.norm1", f"blocks.{i}.conv2", False
        last = i == 7
        yield f"blocks.{i}.conv2", f"blocks.{i}.norm2", "outputs" if last else f"blocks.{i + 1}.conv1", not last


@pytest.mark.parametrize("width", [2, 64])
def test_unit_graph_skips_shortcuts_and_its_norms_are_aligned(width: int) -> None:
    with torch.device("meta"):
        network = ResNet18(PUBLISHED, 100, width)
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    graph = network.unit_graph()
    assert len(graph) == 17
    assert [layer.units for layer in graph] == [channels * width // 64 for channels in CHANNELS]
    for layer, (name, norm, reader, residual) in zip(graph, places(), strict=True):
        assert (layer.weight, layer.bias) == (f"{name}.weight", f"{name}.bias")
        assert (layer.next_weight, layer.next_bias) == (f"{reader}.weight", f"{reader}.bias")
        assert dict(layer.norm) == {
            f"{norm}.weight": 1.0,
            f"{norm}.bias": 0.0,
            f"{norm}.running_mean": 0.0,
            f"{norm}.running_var": 1.0,
        }
        assert all(named[key].shape == (layer.units,) for key, _ in layer.norm)
        assert named[layer.weight].shape == (layer.units, layer.fan_in // 9, 3, 3)
        assert named[layer.next_weight].shape[1] == layer.units
        assert layer.std == pytest.approx(math.sqrt(2 / layer.fan_in), rel=1e-15)
        assert (layer.spread, layer.residual, layer.norm_after) == (1, residual, False)


def test_residual_layers_are_those_that_reach_past_their_reader() -> None:
    """Found by experiment: with the reader's weights on them zeroed, do the units still reach the outputs?"""
    shape = (2, 8, 8)
    network = shaken(initialized(ResNet18(shape, 3, width=2))).eval()
    x = normal(3, math.prod(shape))
    for layer in network.unit_graph():
        shift = network.get_parameter(next(key for key, _ in layer.norm if key.endswith(".bias")))
        weight = network.get_parameter(layer.next_weight)
        with torch.no_grad():
            kept, shifted = weight.clone(), shift.clone()
            weight.zero_()
            without = network(x)[0]
            shift.add_(3.0)
            reaches = not torch.equal(network(x)[0], without)
            weight.copy_(kept)
            shift.copy_(shifted)
        assert reaches == layer.residual, layer.weight


def test_dropout_is_after_each_hidden_activation_and_reported_activations_are_before() -> None:
    """Against torchvision's blocks, dropping in hooks; in a block, between its convolutions and after its output."""
    shape = (3, 10, 14)
    network = initialized(ResNet18(shape, 3, width=2, dropout=0.4))
    sizes = network.draws(4)
    draws = [torch.from_numpy(np.random.default_rng(i).random(size)) for i, size in enumerate(sizes)]
    theirs = copied(network, Narrow(3, 2, 3))
    seen: list[Tensor] = []

    def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        seen.append(output.clone())
        if len(seen) == 17:  # dropped after the mean over positions
            return None
        return torch.where(draws[len(seen) - 1] < 0.4, 0.0, output / 0.6)

    for module in theirs.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            module.register_forward_hook(drop)
    theirs.avgpool.register_forward_hook(
        lambda module, inputs, output: torch.where(draws[16][:, :, None, None] < 0.4, 0.0, output / 0.6)
    )
    x = normal(4, *shape)
    expected = theirs(x)
    output, hidden = network(x.flatten(1), draws)
    assert sizes == tuple(tuple(h.shape) for h in hidden)
    assert_same([output, *hidden], [expected, *seen[:-1], seen[-1].mean((2, 3))])
    plain = initialized(ResNet18(shape, 3, width=2))
    assert plain.draws(4) == ()
    assert not torch.allclose(plain(x.flatten(1))[0], output)
    dropping, still = network.eval()(x.flatten(1))[0], plain.train()
    still.load_state_dict(network.state_dict())
    assert torch.equal(still.eval()(x.flatten(1))[0], dropping)


@pytest.mark.parametrize(
    ("options", "key"),
    [({"width": 0}, "width"), ({"width": 1.5}, "width"), ({"dropout": 1.0}, "dropout"), ({"dropout": -0.1}, "dropout")],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ResNet18(PUBLISHED, 100, **options)
    assert caught.value.key == key


def test_refuses_mini_batches_of_one() -> None:
    check = partial(ResNet18(PUBLISHED, 5, width=1).check)
    check(2)
    with pytest.raises(ConfigError, match="batch_size > 1"):
        check(1)
