"""ViT-tiny against PyTorch's own attention and layers: sizes, outputs, gradients, dropout, initial law, unit graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.algorithms.normalize_and_project import NormalizeAndProject
from lop_sweeps.algorithms.self_normalized_resets import SelfNormalizedResets
from lop_sweeps.diagnostics.sign_entropy import SignEntropy
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.unit_graph import UnitLayer
from lop_sweeps.networks.vit_tiny import ViTTiny
from tests.networks.packs import assert_pack_is_each_run_alone

SHAPE = (3, 8, 12)
INPUTS = math.prod(SHAPE)
SMALL: dict[str, Any] = {"width": 6, "heads": 2, "depth": 2, "mlp_ratio": 2}
TOKENS = 7


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def initialized(network: ViTTiny, seed: int = 0) -> ViTTiny:
    network = network.double()
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


def shaken(network: ViTTiny) -> ViTTiny:
    """With scales and shifts that are not their fresh ones."""
    with torch.no_grad():
        for i, (name, value) in enumerate(network.named_parameters()):
            if "norm" in name:
                value.add_(0.3 * normal(*value.shape, seed=i))
    return network


class Reference(nn.Module):
    """The same out of PyTorch's own modules; patches by a convolution, attention by `nn.MultiheadAttention`."""

    def __init__(self, ours: ViTTiny, activation: nn.Module) -> None:
        super().__init__()
        channels, width, side = ours.shape[0], ours.width, ours.patch
        self.ours, self.activation = ours, activation
        self.patches = nn.Conv2d(channels, width, side, side)
        self.patches.weight.data = ours.embed.weight.data.view(width, channels, side, side)
        self.patches.bias = ours.embed.bias
        self.attentions = nn.ModuleList(self._attention(block.attention) for block in ours.blocks)
        self.double()

    def _attention(self, one: Any) -> nn.MultiheadAttention:
        width = one.projection.weight.shape[0]
        made = nn.MultiheadAttention(width, one.heads, batch_first=True).double()
        three = (one.query, one.key, one.value)
        made.in_proj_weight.data = torch.cat([part.weight for part in three]).detach()
        biases = [getattr(part, "bias", torch.zeros(width, dtype=torch.float64)) for part in three]
        made.in_proj_bias.data = torch.cat(biases).detach()
        made.out_proj.weight.data, made.out_proj.bias.data = one.projection.weight.data, one.projection.bias.data
        return made

    def norm(self, x: Tensor, layer: Any) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x (batch, channels, height, width) -> outputs, hidden activations of the MLPs (batch, tokens, units)."""
        ours = self.ours
        if ours.patch_norm:
            rows = F.unfold(x, ours.patch, stride=ours.patch).mT
            assert ours.pixel_norm is not None
            rows = F.linear(self.norm(rows, ours.pixel_norm), ours.embed.weight, ours.embed.bias)
            x = self.norm(rows, ours.embed_norm)
        else:
            x = self.patches(x).flatten(2).mT
        x = torch.cat((ours.class_token.expand(len(x), 1, -1), x), 1) + ours.positions.view(-1, ours.width)
        hidden = []
        for block, attention in zip(ours.blocks, self.attentions, strict=True):
            normalized = self.norm(x, block.norm1)
            x = x + attention(normalized, normalized, normalized, need_weights=False)[0]
            hidden.append(self.activation(F.linear(self.norm(x, block.norm2), block.up.weight, block.up.bias)))
            x = x + F.linear(hidden[-1], block.down.weight, block.down.bias)
        return F.linear(self.norm(x[:, 0], ours.last_norm), ours.outputs.weight, ours.outputs.bias), hidden


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_numbers_of_parameters_are_the_published_ones() -> None:
    """DeiT's tiny for ImageNet has 5,717,416 (Touvron et al. give 5.7M); FIRE's for CIFAR-100 by its layers."""
    with torch.device("meta"):
        deit = ViTTiny((3, 224, 224), 1000, patch=16, patch_norm=False, qkv_bias=True)
        fire = ViTTiny((3, 32, 32), 100)
    assert parameters(deit) == 5_717_416
    block = 2 * 2 * 192 + 4 * 192 * 192 + 192 + (192 * 768 + 768) + (768 * 192 + 192)
    embedding = 2 * 48 + (48 * 192 + 192) + 2 * 192 + 65 * 192 + 192
    assert parameters(fire) == embedding + 12 * block + 2 * 192 + (192 * 100 + 100) == 5_373_700


def test_published_shapes() -> None:
    network = initialized(ViTTiny((3, 32, 32), 100))
    with torch.no_grad():
        output, hidden = network(normal(2, 3 * 32 * 32))
    assert output.shape == (2, 100)
    blocks = [(2, 192, 65), (2, 768, 65)] * 11 + [(2, 192, 65), (2, 768, 1)]
    assert [tuple(h.shape) for h in hidden] == blocks
    assert len(network.weights()) == 1 + 12 * 6 + 1
    assert network.heads() == ("outputs.weight",)
    assert all(network.get_parameter(name).dim() == 2 for name in network.weights())


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize(("patch_norm", "qkv_bias"), [(True, False), (False, True)])
def test_it_computes_what_pytorchs_modules_do(activation: str, patch_norm: bool, qkv_bias: bool) -> None:
    ours = initialized(ViTTiny(SHAPE, 5, **SMALL, activation=activation, patch_norm=patch_norm, qkv_bias=qkv_bias))
    theirs = Reference(shaken(ours), nn.GELU() if activation == "gelu" else nn.ReLU())
    x = normal(4, *SHAPE)
    output, hidden = ours(x.flatten(1))
    expected, features = theirs(x)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(hidden[1], features[0].mT, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(hidden[3], features[1][:, :1].mT, rtol=1e-10, atol=1e-10)  # the class token's
    assert [tuple(h.shape) for h in hidden] == [(4, 6, TOKENS), (4, 12, TOKENS), (4, 6, TOKENS), (4, 12, 1)]
    shared = [p for name, p in ours.named_parameters() if "attention" not in name]
    if not patch_norm:  # there the reference embeds by its own convolution
        shared = [p for p in shared if p is not ours.embed.weight]
    gradients = torch.autograd.grad(output.square().sum(), shared, retain_graph=True)
    wanted = torch.autograd.grad(expected.square().sum(), shared, retain_graph=True)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for block, attention in zip(ours.blocks, theirs.attentions, strict=True):
        of_block: Any = block
        three = [of_block.attention.query.weight, of_block.attention.key.weight, of_block.attention.value.weight]
        mine = torch.cat(torch.autograd.grad(output.square().sum(), three, retain_graph=True))
        (other,) = torch.autograd.grad(expected.square().sum(), [attention.in_proj_weight], retain_graph=True)
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


def test_patches_are_read_channel_by_channel_and_row_by_row() -> None:
    """Column c * 16 + r * 4 + s of the embedding reads channel c of a patch at row r, column s."""
    network = initialized(ViTTiny(SHAPE, 5, **SMALL, patch_norm=False))
    image = normal(1, *SHAPE)
    seen: list[Tensor] = []
    network.embed.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network(image.flatten(1))
    rows = seen[0]
    assert rows.shape == (6, 48)
    assert float(rows[4, 16 + 2 * 4 + 3]) == float(image[0, 1, 4 + 2, 4 + 3])  # the second row's second patch


def test_value_units_are_means_over_tokens_with_weights_that_add_up_to_one() -> None:
    """A value that is one number at all tokens comes out of attention as that number: so it can be transferred."""
    network = initialized(ViTTiny(SHAPE, 5, **SMALL))
    attention: Any = network.blocks[0].attention
    x = normal(3, TOKENS, 6)
    with torch.no_grad():
        before = attention(x, x, lambda h: h)
        after = attention(x, x, lambda h: h + torch.eye(6, dtype=torch.float64)[4][:, None])
    moved = attention.projection.weight[:, 4].detach()
    torch.testing.assert_close(after - before, moved.expand(3, TOKENS, 6), rtol=1e-10, atol=1e-12)


def test_dropout_is_of_the_mlps_hidden_activations() -> None:
    network = initialized(ViTTiny(SHAPE, 5, **SMALL, dropout=0.4, activation="relu"))
    assert network.draws(4) == ((4, 12, TOKENS), (4, 12, 1))
    draws = [torch.from_numpy(np.random.default_rng(i).random(shape)) for i, shape in enumerate(network.draws(4))]
    x = normal(4, *SHAPE)
    kept = [(draw.mT >= 0.4).double() / 0.6 for draw in draws]

    class Dropping(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            mask = kept.pop(0)
            return z.relu() * (mask if len(kept) else F.pad(mask, (0, 0, 0, TOKENS - 1), value=1.0))

    expected = Reference(network, Dropping())(x)[0]
    output, hidden = network(x.flatten(1), draws)
    torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)
    assert bool((hidden[1] > 0).any(0).any(1).all())  # they are noted before dropout
    assert ViTTiny(SHAPE, 5, **SMALL).draws(4) == ()


def test_initial_law_is_pytorchs_and_of_vectors_normal() -> None:
    network = initialized(ViTTiny((3, 32, 32), 10, width=48, heads=3, depth=2, qkv_bias=True))
    values = []
    for name in network.weights():
        weight = network.get_parameter(name).detach()
        bias = network.get_parameter(name.removesuffix("weight") + "bias").detach()
        bound = 1 / math.sqrt(weight.shape[1])
        scaled = weight.flatten().numpy() / bound
        assert 0.97 < np.abs(scaled).max() <= 1
        assert np.abs(bias.numpy()).max() <= bound
        assert stats.kstest(scaled, "uniform", (-1, 2)).pvalue > 1e-4, name
        values.append(scaled[:480])
    assert np.abs(np.corrcoef(np.stack(values)) - np.eye(len(values))).max() < 0.25  # each has draws of its own
    vectors = torch.cat((network.positions, network.class_token)).detach().numpy()
    assert len(vectors) == 66 * 48
    assert stats.kstest(vectors, "norm").pvalue > 1e-4
    for name, parameter in network.named_parameters():
        if "norm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight"))))
    other = initialized(ViTTiny((3, 32, 32), 10, width=48, heads=3, depth=2, qkv_bias=True), seed=1)
    assert not any(torch.equal(a, b) for (n, a), b in zip(
        network.named_parameters(), other.parameters(), strict=True) if "norm" not in n)  # fmt: skip


# Unit graph


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "relu", "crelu", "fourier", "prelu", "adalin", "aid", "rational"])
def test_its_unit_graph_is_true(activation: str, qkv_bias: bool) -> None:
    check_graph(ViTTiny(SHAPE, 5, **SMALL, activation=activation, qkv_bias=qkv_bias), INPUTS, 5)


def test_units_are_values_and_hidden_units_of_each_block() -> None:
    network = ViTTiny(SHAPE, 5, **SMALL, activation="crelu")
    graph = network.unit_graph()
    assert [(layer.units, layer.num_features, layer.fan_in) for layer in graph] == [(6, 6, 6), (12, 24, 6)] * 2
    for i in range(2):
        value, hidden = graph[2 * i : 2 * i + 2]
        assert [rows.weight for rows in value.incoming] == [f"blocks.{i}.attention.value.weight"]
        assert [rows.bias for rows in value.incoming] == [None]
        assert [reader.weight for reader in value.readers] == [f"blocks.{i}.attention.projection.weight"]
        assert (hidden.weight, hidden.readers[0].weight) == (f"blocks.{i}.up.weight", f"blocks.{i}.down.weight")
    assert not any(layer.residual or layer.norm or layer.norm_after for layer in graph)
    assert all(layer.bound == 1 / math.sqrt(6) for layer in graph)


class Wrong(ViTTiny):
    """With the readers of two layers exchanged, or the rows of keys where those of values belong."""

    changes: tuple[str, str] = ("", "")

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        found = []
        for layer in super().unit_graph():
            rows, reader = layer.incoming[0], layer.readers[0]
            weights = [name.replace(*self.changes) for name in (rows.weight, reader.weight)]
            found.append(
                UnitLayer(
                    units=layer.units,
                    incoming=[type(rows)(weights[0], rows.bias, rows.fan_in, rows.bound)],
                    readers=[type(reader)(weights[1], weights[1].removesuffix("weight") + "bias")],
                )
            )
        return tuple(found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [(("value", "key"), "key.weight"), (("value", "query"), "query.weight"), (("projection", "up"), "up.weight")],
)
def test_a_wrong_graph_is_refused(changes: tuple[str, str], says: str) -> None:
    network = Wrong(SHAPE, 5, **SMALL)
    network.changes = changes
    with pytest.raises(ConfigError, match=says):
        check_graph(network, INPUTS, 5)


@pytest.mark.parametrize("layer", range(4))
def test_a_unit_without_its_column_is_without_effect(layer: int) -> None:
    """By experiment: with its columns at 0, whatever its rows are, outputs stay; with them they do not."""
    network = initialized(ViTTiny(SHAPE, 5, **SMALL, activation="crelu"))
    one = network.unit_graph()[layer]
    x = normal(3, INPUTS)
    weight = network.get_parameter(one.incoming[0].weight)
    reader = network.get_parameter(one.readers[0].weight)
    with torch.no_grad():
        first = network(x)[0]
        weight[2, 0] += 1.0
        assert not torch.allclose(network(x)[0], first)
        reader[:, list(one.columns_of_units(one.readers[0])[2])] = 0.0
        without = network(x)[0]
        weight[2, 0] += 1.0
        torch.testing.assert_close(network(x)[0], without, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qkv_bias": True, "patch_norm": False, "activation": "crelu"},
        {"activation": "aid", "dropout": 0.3},
        {"activation": "prelu"},
        {"activation": "rational"},
    ],
)
def test_a_pack_is_each_run_alone(options: dict[str, Any]) -> None:
    assert_pack_is_each_run_alone(lambda: ViTTiny(SHAPE, 5, **SMALL, **options), INPUTS)


def test_a_pack_of_a_large_one_is_each_run_alone() -> None:
    """With so many parameters that gradients are written where the optimiser reads them."""
    assert_pack_is_each_run_alone(lambda: ViTTiny((1, 8, 8), 3, width=96, heads=3, depth=1), 64, batch=2)


def test_signs_of_units_are_those_of_their_own_activations() -> None:
    """A value is positive above 0, a sigmoid unit above 1/2."""
    network = initialized(ViTTiny(SHAPE, 5, **SMALL, activation="sigmoid"))
    assert network.at_zero == [0.0, 0.5] * 2

    class View:
        inputs = normal(5, INPUTS)

        @staticmethod
        def network() -> ViTTiny:
            return network

    found: Any = SignEntropy().measure(View())["sign_entropy"]
    for mean, h, zero in zip(found, network(View.inputs)[1], (0.0, 0.5, 0.0, 0.5), strict=True):
        p = (h > zero).double().mean((0, 2))
        expected = -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)
        assert mean == pytest.approx(float(expected.mean()), rel=1e-12)


# What it refuses, and who refuses it


@pytest.mark.parametrize(
    ("shape", "options", "key", "says"),
    [
        ((3, 28, 30), {}, "patch", "28 x 30"),
        ((3, 8, 8), {"patch": 16}, "patch", "8 x 8"),
        ((3, 8, 8), {"patch": 0}, "patch", ">= 1"),
        ((3, 8, 8), {"width": 10, "heads": 3}, "heads", "10"),
        ((3, 8, 8), {"heads": 0}, "heads", ">= 1"),
        ((3, 8, 8), {"depth": 0}, "depth", ">= 1"),
        ((3, 8, 8), {"mlp_ratio": 0.5}, "mlp_ratio", ">= 1"),
        ((3, 8, 8), {"dropout": 1.0}, "dropout", "< 1"),
        ((3, 8, 8), {"qkv_bias": 1}, "qkv_bias", "true or false"),
        ((3, 8, 8), {"patch_norm": "yes"}, "patch_norm", "true or false"),
        ((3, 8, 8), {"activation": "glu"}, "activation", "gelu"),
        ((3, 8, 8), {"prelu_per": "channel"}, "prelu_per", "no convolutions"),
    ],
)
def test_wrong_options_name_their_key(shape: Sequence[int], options: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ViTTiny(shape, 5, **options)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_methods_that_it_is_not_for_say_so() -> None:
    """Gelu is never exactly 0; no unit has a normalisation of its own."""
    with pytest.raises(ConfigError, match=r"network\.activation=gelu none is ever exactly 0"):
        SelfNormalizedResets().check(ViTTiny(SHAPE, 5, **SMALL))
    SelfNormalizedResets().check(ViTTiny(SHAPE, 5, **SMALL, activation="relu"))
    with pytest.raises(ConfigError, match="each hidden layer is normalised"):
        NormalizeAndProject().check(ViTTiny(SHAPE, 5, **SMALL))
