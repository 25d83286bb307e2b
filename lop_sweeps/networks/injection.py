"""Frozen copies of a network's last layers, for plasticity injection (Nikishin et al. 2023, arXiv 2305.15555)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lop_sweeps.networks.network import Network


class Injection(nn.Module):
    """Adds h - h2 to what a head h1 gives, once it is injected: the head as it was, and the new one as it began.

    make_head: a network like the last layers. first: the number of the first of them in its `ModuleList`.

    Both copies are buffers, so nothing trains, decays or resets them, and the parameters are those of a network without
    them. Before the injection they are zeros, and what they give is multiplied by 0.
    """

    injected: Tensor

    def __init__(self, make_head: Callable[[], Network], first: int) -> None:
        super().__init__()
        self.first = first
        self.heads = nn.ModuleList(_frozen(make_head()) for _ in range(2))
        self.register_buffer("injected", torch.zeros(1))

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None) -> Tensor:
        """x (..., batch, inputs of the head) -> what is added to outputs (..., batch, outputs)."""
        of_head = len(self.heads[0].draws(1))  # type: ignore[operator]
        uniforms = uniforms[len(uniforms) - of_head :] if uniforms else None
        kept, begun = (head(x, uniforms)[0] for head in self.heads)
        added: Tensor = self.injected.unsqueeze(-1) * (kept - begun)
        return added

    def initialize(self) -> None:
        for value in self.buffers():
            nn.init.zeros_(value)

    def copies(self) -> list[tuple[str, str, str]]:
        """Names: of what belongs to the head, of its place in the frozen head, and in the new one as it began."""
        found = []
        for name, _ in self.heads[0].named_buffers():
            layers, number, rest = name.split(".", 2)
            found.append((f"{layers}.{self.first + int(number)}.{rest}", f"heads.0.{name}", f"heads.1.{name}"))
        return found


def _frozen(head: Network) -> Network:
    """The same module with buffers in the place of parameters."""
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, torch.zeros_like(parameter, requires_grad=False))
    return head
