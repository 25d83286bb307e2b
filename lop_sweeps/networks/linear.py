"""One affine layer: the baseline that cannot lose plasticity in its features, since it has none."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps.networks.mlp import MLP


class Linear(MLP):
    """inputs -> outputs; weights uniform(-sqrt(3/inputs), sqrt(3/inputs)), biases 0 (the authors' MyLinear)."""

    version: ClassVar[int] = 1

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, hidden=())
