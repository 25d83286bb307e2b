"""The command `lop`."""

from tests.command import lop

__all__ = ["lop"]
