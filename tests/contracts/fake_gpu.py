"""A GPU that is not there: tensors without values on a pretended device, and a host that is watched.

PyTorch's `FakeTensorMode` computes shapes, types and devices only. An operation between two devices raises, as it does
on a real machine. What a real one does silently is counted here: the host reads a value, or it hands over memory and
waits until it is copied. What it reads is made up, and the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten, CPU = torch.ops.aten, torch.device("cpu")
COPIES = (aten._to_copy.default, aten.copy_.default, aten._copy_from.default)


class Host(TorchDispatchMode):
    """Counts what makes the host wait. value: what it reads, wherever it reads."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.reads, self.handed_over = value, 0, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), options: dict[str, Any] | None = None
    ) -> Any:
        options = options or {}
        given = tree_leaves((arguments, options))
        if (
            not any(isinstance(one, FakeTensor) for one in given)
            and torch.device(options.get("device") or "cpu") == CPU
        ):
            with no_dispatch():  # the host is real
                return function(*arguments, **options)
        if function is aten._local_scalar_dense.default and arguments[0].is_cuda:
            self.reads += 1
            with no_dispatch():
                return torch.tensor(self.value).to(arguments[0].dtype).item()
        result = function(*arguments, **options)
        if function in COPIES:
            source = arguments[1] if function is aten.copy_.default else arguments[0]
            if source.is_cuda and not result.is_cuda:
                self.reads += 1
                return self._read(arguments, result)
            # A number is an argument of a kernel; a tensor is copied, and where that is not left to itself, waited for.
            late = options.get("non_blocking") or (function is aten.copy_.default and arguments[2:3] == (True,))
            if result.is_cuda and not source.is_cuda and not late:
                self.handed_over += 1
        return result

    def _read(self, arguments: Sequence[Any], result: Tensor) -> Tensor:
        """A real tensor on the host, or the one that is copied into."""
        into = arguments[0] if arguments[0].device == CPU else None
        with no_dispatch():
            made = torch.full(tuple(result.shape), self.value, dtype=torch.float64).to(result.dtype)
            return made if into is None else into.copy_(made)


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch, value: float = 1_000.0) -> Iterator[Host]:
    """Within, `cuda` is a device without memory. The backward pass, which wants a real one, gives zeros."""

    def zeros(of: Any, leaves: Sequence[Tensor], *rest: Any, **options: Any) -> list[Tensor]:
        return [torch.zeros_like(leaf) for leaf in leaves]

    # Autograd starts a thread for each device that it finds at its first backward pass; a process with such threads
    # cannot be forked, and the tests after this one fork theirs. So it looks before there is one.
    leaf = torch.zeros((), requires_grad=True)
    torch.autograd.grad(leaf * leaf, leaf)
    monkeypatch.setattr(torch.autograd, "grad", zeros)
    with FakeTensorMode(allow_non_fake_inputs=True), Host(value) as host:
        yield host
