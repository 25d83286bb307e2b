"""Tensors by name that belong to somebody: a dictionary whose values are written to, never replaced.

With a plain one, `gradient[name] = 2 * gradient[name]` would change a dictionary and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

import torch
from torch import Tensor


class Named(MutableMapping[str, Tensor]):
    """By name; to set one is to copy into it, so that its owner has the new values."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __setitem__(self, name: str, value: Tensor | float) -> None:
        mine = self._tensors[name]
        if mine is not value:
            mine.copy_(torch.as_tensor(value))

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
