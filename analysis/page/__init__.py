"""`report.html`: see `document`."""

from .document import Picture, write

__all__ = ["Picture", "write"]
