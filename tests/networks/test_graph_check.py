"""A unit graph that does not describe its network is refused when a run is planned (cases 4.9)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer
from tests.networks import arrangements
from tests.networks.arrangements import CReLU, Gated, Maps, SharedTrunk, Transformer

IMAGE = (3, 16, 16)
NETWORKS: dict[str, tuple[Callable[[], Network], int, int]] = {
    "linear": (lambda: Linear(3, 2), 3, 2),
    "mlp": (lambda: MLP(4, 2, [7, 7, 7]), 4, 2),
    "layer norm": (lambda: MLP(4, 2, [7, 7], norm="layer", dropout=0.5), 4, 2),
    "online norm": (lambda: MLP(4, 2, [7, 7], norm="online"), 4, 2),
    "batch norm behind": (lambda: MLP(4, 2, [7, 5], norm="batch", norm_after=True), 4, 2),
    "conv net": (lambda: ConvNet(IMAGE, 2, [3, 4], [3, 3], [5]), 768, 2),
    "conv net with norm": (lambda: ConvNet(IMAGE, 2, [3, 4], [3, 3], [], norm="batch"), 768, 2),
    "residual": (lambda: ResNet18(IMAGE, 4, width=1), 768, 4),
    "actor critic": (lambda: ActorCritic(5, 2, [6, 6]), 5, 2),
    "one unit": (lambda: MLP(4, 2, [1, 1]), 4, 2),
}
for name, (make_network, inputs) in arrangements.NETWORKS.items():
    NETWORKS[name] = partial(make_network, inputs, 3), inputs, 3


@pytest.mark.parametrize(("make", "inputs", "outputs"), NETWORKS.values(), ids=list(NETWORKS))
def test_true_graphs_pass(make: Callable[[], Network], inputs: int, outputs: int) -> None:
    check_graph(make(), inputs, outputs)


class Changed(MLP):
    """A network with one thing wrong in the graph of layer 1, or in what it gives back."""

    changes: dict[str, Any]
    given: Callable[[Tensor, list[Tensor]], Any] | None = None

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph = super().unit_graph()
        return (graph[0], replace(graph[1], **self.changes), *graph[2:])

    def forward(self, x: Tensor, uniforms: Any = None) -> Any:
        outputs, activations = super().forward(x, uniforms)
        return self.given(outputs, activations) if self.given else (outputs, activations)


def refusal(given: Callable[[Tensor, list[Tensor]], Any] | None = None, **changes: Any) -> str:
    network = Changed(4, 2, [7, 7, 7, 5])
    network.changes, network.given = changes, given
    with pytest.raises(ConfigError) as caught:
        check_graph(network, 4, 2)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": "layers.9.weight"}, ["weight", "layers.9.weight"]),
        ({"weight": "layers.0.weight"}, ["weight", "layers.0.weight"]),  # of another shape
        ({"bias": "layers.4.bias"}, ["bias", "layers.4.bias", "7 units"]),
        ({"bias": "layers.0.bias"}, ["bias", "layers.0.bias", "layer 1"]),  # of the right shape
        ({"units": 5}, ["weight", "layers.1.weight", "5 units"]),
        ({"spread": 2}, ["next_weight", "layers.2.weight", "14"]),
        ({"next_weight": "layers.1.weight"}, ["next_weight", "must read layer 1", "layer 0"]),
        ({"next_weight": "layers.3.weight", "next_bias": "layers.3.bias"}, ["next_weight", "reads layer 2"]),
        ({"next_bias": "layers.3.bias"}, ["next_bias", "layers.3.bias", "7 next units"]),
        ({"fan_in": 8}, ["fan_in", "7"]),
        ({"norm": (("norms.0.weight", 1.0),)}, ["norm", "norms.0.weight"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named_with_its_layer(changes: dict[str, Any], words: list[str]) -> None:
    message = refusal(**changes)
    assert "\n" not in message
    for word in ["unit_graph()[1]", *words]:
        assert word in message


def test_what_the_forward_pass_gives_is_checked() -> None:
    assert "4 layers" in refusal(lambda outputs, activations: (outputs, activations[:-1]))
    assert "7 units" in refusal(lambda outputs, activations: (outputs, [a[:, :3] for a in activations]))
    assert "outputs" in refusal(lambda outputs, activations: (outputs[:, :1], activations))
    message = refusal(lambda outputs, activations: torch.zeros(2, 3) @ torch.zeros(2, 3))
    assert "Changed.forward fails" in message


def test_activations_that_are_copies_cannot_be_followed_and_pass() -> None:
    network = Changed(4, 2, [7, 7])
    network.changes, network.given = {}, lambda outputs, activations: (outputs, [a.detach() for a in activations])
    check_graph(network, 4, 2)
    network.given = lambda outputs, activations: (outputs, [a * 1.0 for a in activations])
    check_graph(network, 4, 2)


# Units with several rows, features and readers: what is refused, in which words


Change = Callable[[UnitLayer], UnitLayer]


def said(make: Callable[[int, int], Network], inputs: int, i: int, change: Change) -> str:
    """What the check of a network says whose graph is changed in layer i."""
    network = make(inputs, 3)
    graph = list(network.unit_graph())
    graph[i] = change(graph[i])
    network.unit_graph = lambda: tuple(graph)  # type: ignore[method-assign]
    with pytest.raises(ConfigError) as caught:
        check_graph(network, inputs, 3)
    return str(caught.value)


def rows(k: int, **options: Any) -> Change:
    return lambda layer: replace(
        layer, incoming=tuple(replace(one, **options) if n == k else one for n, one in enumerate(layer.incoming))
    )


def reader(k: int, **options: Any) -> Change:
    return lambda layer: replace(
        layer, readers=tuple(replace(one, **options) if n == k else one for n, one in enumerate(layer.readers))
    )


def also_read_by(name: str, columns: range) -> Change:
    return lambda layer: replace(layer, readers=(*layer.readers, Reader(f"{name}.weight", f"{name}.bias", columns)))


def read_by(*which: int) -> Change:
    return lambda layer: replace(layer, readers=tuple(layer.readers[k] for k in which))


def features(*arrangement: tuple[int, ...]) -> Change:
    return lambda layer: replace(layer, features=arrangement)


GROUPED: Callable[[int, int], Network] = partial(Transformer, value_heads=2)
BY_POSITION = [[8 * position + feature for position in range(4)] for feature in range(8)]
BACKWARDS = [[4 * feature + 3 - position for position in range(4)] for feature in range(8)]
COLUMNS: list[tuple[Callable[[int, int], Network], int, int, Change, str]] = [
    (
        *(CReLU, 6, 0, reader(0, columns=[*range(5, 10), *range(5)])),
        "readers[0].columns = 'second.weight': column # must read feature # of layer 0; it reads feature #",
    ),
    (
        *(CReLU, 6, 0, reader(0, columns=[1, 0, *range(2, 10)])),
        "readers[0].columns = 'second.weight': column # must read feature # of layer 0; it reads feature #",
    ),
    (
        *(CReLU, 6, 0, features((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))),
        "incoming[0].rows = 'first.weight': row # must make unit # (features #, #) of layer 0; it makes unit # "
        "(features #, #) of layer 0",
    ),
    (*(CReLU, 6, 0, features((0, 5), (1, 6))), "features = 2: must be 5 lists, one for each unit"),
    (
        *(CReLU, 6, 0, features((0, 5), (1, 6), (2, 7), (3, 8), (4,))),
        "features[4] = [4]: must name as many as unit 0 has (2)",
    ),
    (
        *(CReLU, 6, 0, features((0,), (1,), (2,), (3,), (4,))),
        "readers[0].weight = 'second.weight': must have the shape (next units, 5 that it reads, ...), but has (4, 10)",
    ),
    (*(CReLU, 6, 0, features()), "features = 0: must be 5 lists, one for each unit"),
    (*(CReLU, 6, 0, reader(0, columns=())), "readers[0].columns = 0: must be 10 lists, one for each feature"),
    (*(CReLU, 6, 0, reader(0, columns=range(9))), "readers[0].columns = 9: must be 10 lists, one for each feature"),
    (
        *(CReLU, 6, 0, reader(0, columns=[0, 0, *range(2, 10)])),
        "readers[0].columns[1] = 0: belongs to feature 0 already",
    ),
    (
        *(CReLU, 6, 0, reader(0, columns=range(1, 11))),
        "readers[0].columns[9] = 10: must be one of the 10 columns of second.weight, from 0",
    ),
    (
        *(Maps, 32, 1, reader(0, columns=BY_POSITION)),
        "readers[0].columns = 'flat.weight': column # must read position # of feature # of layer 1; it reads feature #",
    ),
    (
        *(Maps, 32, 1, reader(0, columns=BACKWARDS)),
        "readers[0].columns = 'flat.weight': column # must read position # of feature # of layer 1; it reads "
        "position #",
    ),
    (
        *(Maps, 32, 1, reader(0, columns=BACKWARDS, spread=2)),
        "readers[0].spread = 2: must be 1 or the columns of a feature (4)",
    ),
    (
        *(GROUPED, 12, 0, reader(0, columns=range(4))),
        "readers[0].columns = 'projection.weight': must have all columns that read layer 0; others than these read "
        "units 2, 3",
    ),
    (
        *(GROUPED, 12, 0, reader(0, columns=[(i, i + 4) for i in range(4)])),
        "readers[0].columns = 'projection.weight': column # must read unit # of layer 0; it reads unit #",
    ),
    (
        *(SharedTrunk, 6, 1, reader(1, columns=range(5, 11))),
        "readers[1].columns = 'between.weight': must have all columns that read layer 1; others than these read unit 5",
    ),
]
READERS: list[tuple[Callable[[int, int], Network], int, int, Change, str]] = [
    (
        *(SharedTrunk, 6, 1, read_by(0)),
        "readers = 'policy.weight': must be all that reads layer 1; with these weights at 0 the outputs still follow "
        "it: perhaps between.weight reads it, or a shortcut carries it on (residual=True)",
    ),
    (
        *(SharedTrunk, 6, 1, read_by(1)),
        "readers = 'between.weight': must be all that reads layer 1; policy.weight does, too",
    ),
    (*(Maps, 32, 1, read_by(0)), "readers = 'flat.weight': must be all that reads layer 1; pooled.weight does, too"),
    (*(Gated, 6, 0, read_by(0)), "readers = 'gate.weight': must be all that reads layer 0; up.weight does, too"),
    (
        *(SharedTrunk, 6, 1, also_read_by("second", range(6))),
        "readers[2].weight = 'second.weight': must read layer 1; it reads layer 0",
    ),
    (
        *(SharedTrunk, 6, 2, also_read_by("policy", range(5))),
        "readers[1].columns = 'policy.weight': column # must read unit # of layer 2; it reads no unit of it",
    ),
]
ROWS: list[tuple[Callable[[int, int], Network], int, int, Change, str]] = [
    (
        *(Transformer, 12, 0, rows(0, rows=range(8))),
        "incoming[0].rows = 'qkv.weight': must have all rows that make unit # of layer 0; row # does, too",
    ),
    (
        *(Transformer, 12, 0, rows(0, rows=[*range(20, 24), *range(16, 20)])),
        "incoming[0].rows = 'qkv.weight': row # must make unit # of layer 0; it makes unit # of layer 0",
    ),
    (
        *(Transformer, 12, 0, rows(0, rows=None)),
        "incoming[0].weight = 'qkv.weight': must have the shape (8 units, inputs, ...), but has (24, 8)",
    ),
    (
        *(Transformer, 12, 0, rows(0, rows=range(17, 25))),
        "incoming[0].rows[7] = 24: must be one of the 24 rows of qkv.weight, from 0",
    ),
    (
        *(Gated, 6, 0, rows(0, rows=[(2 * i, 2 * i + 1) for i in range(5)])),
        "incoming[0].rows = 'first.weight': row # must make unit # of layer 0; it makes unit # of layer 0",
    ),
    (
        *(Gated, 6, 0, rows(0, rows=[(i, 9 - i) for i in range(5)])),
        "incoming[0].rows = 'first.weight': row # must make unit # of layer 0; it makes unit # of layer 0",
    ),
    (
        *(Gated, 6, 1, rows(1, fan_in=6)),
        "incoming[1].fan_in = 6: must be the weights that a unit has in up.weight: 5",
    ),
    (
        *(Transformer, 12, 1, rows(0, bias="down.bias")),
        "incoming[0].bias = 'down.bias': must have the shape (12 units), but has (8,)",
    ),
    (
        *(CReLU, 6, 0, rows(0, bound=0.0)),
        "incoming[0].bound = 0.0: must be above 0, or std be given: new weights need a law",
    ),
    (*(CReLU, 6, 0, rows(0, bias=None)), "incoming[0].bias = 'None': must be first.bias, which the network has"),
]


@pytest.mark.parametrize(("make", "inputs", "i", "change", "words"), [*COLUMNS, *READERS, *ROWS])
def test_what_is_refused_of_units_in_any_arrangement(
    make: Callable[[int, int], Network], inputs: int, i: int, change: Change, words: str
) -> None:
    """#: a number, of one unit of those that show it (which, is a matter of the check's random numbers)."""
    pattern = re.escape(f"unit_graph()[{i}].{words}").replace(re.escape("#"), r"\d+")
    assert re.fullmatch(pattern, said(make, inputs, i, change))


def numbers(make: Callable[[int, int], Network], inputs: int, change: Change) -> list[int]:
    """The numbers in what is said of layer 0, without those of the layer and of what is described."""
    said_of = said(make, inputs, 0, change).partition("weight': ")[2].replace("of layer 0", "")
    return [int(number) for number in re.findall(r"\d+", said_of)]


def test_what_is_said_of_rows_and_columns_is_so() -> None:
    """Column c reads feature c; row 16 + i makes unit i."""
    columns = [*range(5, 10), *range(5)]
    column, must, does = numbers(CReLU, 6, reader(0, columns=columns))
    assert (columns[must], does) == (column, column)
    swapped = [*range(20, 24), *range(16, 20)]
    row, unit, other = numbers(Transformer, 12, rows(0, rows=swapped))
    assert (swapped[unit], 16 + other) == (row, row)


def test_a_row_that_belongs_to_nobody_is_told() -> None:
    class Twice(Network):
        """Units 0 to 4, each the sum of tanh of two rows of one matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 10), nn.Linear(5, 2)

        def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
            h = self.first(x).tanh().unflatten(-1, (2, 5)).sum(-2)
            return self.second(h), [h]

        def initialize(self, draw: Any) -> None:
            """As PyTorch does."""

        def weights(self) -> tuple[str, ...]:
            return "first.weight", "second.weight"

        def unit_graph(self) -> tuple[UnitLayer, ...]:
            first = Rows("first.weight", "first.bias", 4, 0.5, rows=range(5))
            return (UnitLayer(units=5, incoming=[first], readers=[Reader("second.weight", "second.bias")]),)

    with pytest.raises(ConfigError) as caught:
        check_graph(Twice(), 4, 2)
    assert str(caught.value) == (
        "unit_graph()[0].incoming[0].rows = 'first.weight': must have all rows that make unit 0 of layer 0; "
        "row 5 does, too"
    )


def test_activations_are_asked_for_by_feature() -> None:
    class Halved(CReLU):
        """Gives the first half of the features, one for each unit."""

        def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
            outputs, activations = super().forward(x, uniforms)
            return outputs, [h[:, : h.shape[1] // 2] for h in activations]

    with pytest.raises(ConfigError) as caught:
        check_graph(Halved(6, 3), 6, 3)
    words = "must give activations (batch, 10 features of 5 units, ...) for layer 0, here (3, ...)"
    assert str(caught.value) == f"forward() = [3, 5]: {words}"


def test_a_second_reader_is_missed_in_the_short_form_too() -> None:
    class TwoHeads(MLP):
        """The last hidden layer is read by the outputs and by an addition to them."""

        def __init__(self) -> None:
            super().__init__(4, 2, [7, 7])
            self.other = nn.Linear(7, 2)

        def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
            outputs, activations = super().forward(x, uniforms)
            return outputs + self.other(activations[-1]), activations

    with pytest.raises(ConfigError) as caught:
        check_graph(TwoHeads(), 4, 2)
    assert str(caught.value) == (
        "unit_graph()[1].next_weight = 'layers.2.weight': must be all that reads layer 1; other.weight does, too"
    )


class Between(MLP):
    """An MLP with something between its units and their readers, or between weights and units."""

    after: Callable[[Tensor], Tensor]
    before: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        activations = []
        for layer in self.layers[:-1]:
            activations.append(self.before(layer(x)))
            x = self.after(activations[-1])
        return self.layers[-1](x), activations


def same(x: Tensor) -> Tensor:
    return x


def scaled(x: Tensor) -> Tensor:
    """A normalisation without parameters, which mixes units and is not even f(a x) = a f(x)."""
    return (x - x.mean(-1, keepdim=True)) / (0.1 + x.std(-1, keepdim=True))


@pytest.mark.parametrize("before", [torch.relu, lambda x: scaled(x).relu(), lambda x: scaled(x.relu()), torch.sin])
@pytest.mark.parametrize("after", [same, torch.sigmoid, scaled, lambda x: x + 3.0, lambda x: 0.0 * x])
def test_what_lies_between_is_no_reason_to_refuse(
    before: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]
) -> None:
    network = Between(4, 2, [9, 9, 9])
    network.before, network.after = before, after
    check_graph(network, 4, 2)


def test_a_checked_network_still_has_weights() -> None:
    """What is set to 0 to look at it is put back; no run depends on that, but the next layer's check does."""
    network = SharedTrunk(6, 3)
    check_graph(network, 6, 3)
    assert all(bool(parameter.any()) for parameter in network.parameters())
