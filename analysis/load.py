"""Where notebooks know `load` from: `from lop_sweeps.analysis.load import load`. It is at home in `reading.load`.

Once it was imported, `lop_sweeps.analysis.load` is this module and no longer the function, so it can be called like it.
"""

import sys
from types import ModuleType
from typing import Any

from .reading.load import Sweep, load

__all__ = ["Sweep", "load"]


class _Load(ModuleType):
    def __call__(self, *arguments: Any, **named: Any) -> Sweep:
        return load(*arguments, **named)


sys.modules[__name__].__class__ = _Load
