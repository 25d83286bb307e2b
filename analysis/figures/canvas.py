"""The one place that prepares matplotlib, and that writes figures: to files, whatever the user's matplotlib is set to.

Where a display, a notebook or LaTeX is configured (MPLBACKEND, matplotlibrc in four places, styles), nothing of it
applies to what is drawn here; and what is configured so that matplotlib cannot even be imported is left out.
Importing leaves the environment, and a matplotlib that is already there, as they are.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
# Files of the user's that matplotlib reads when it is imported, beside one in the current folder.
VARIABLES = ("MPLBACKEND", "MATPLOTLIBRC", "MPLCONFIGDIR", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
# Settings that are the session's, not a figure's.
SESSION = ("backend", "interactive", "toolbar", "timezone", "webagg", "tk.", "macosx", "docstring")


def prepare() -> None:
    """Import matplotlib: as the user has it, else without anything of the user's."""
    try:
        importlib.import_module("matplotlib")
        importlib.import_module("matplotlib.font_manager")  # writes a cache
    except ImportError:
        raise
    except Exception:  # of many kinds: a backend that is not there, a setting file that is no text, no home folder
        for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
            del sys.modules[name]
        with _nothing_of_the_users():
            importlib.import_module("matplotlib")
            importlib.import_module("matplotlib.font_manager")


def defaults() -> Mapping[str, Any]:
    """What matplotlib itself sets for figures."""
    import matplotlib as mpl

    return {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(SESSION)}


def save(fig: "Figure", paths: Sequence[Path], settings: Any) -> None:
    """Write `fig`; the same data give the same bytes: no date in the file. Raises OSError.

    settings: of the style in which it was drawn, as some texts are made only now.
    """
    import matplotlib as mpl

    for path in paths:
        # 42: text stays text in the PDF.
        with mpl.rc_context({**settings, "pdf.fonttype": 42, "svg.hashsalt": path.stem}):
            dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
            fig.savefig(path, dpi=DPI, metadata=dated.get(path.suffix[1:]))


@contextlib.contextmanager
def _nothing_of_the_users() -> Iterator[None]:
    """In an empty folder, which is also where matplotlib looks for files of the user's."""
    kept = {name: os.environ.get(name) for name in VARIABLES}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        os.environ |= dict.fromkeys(VARIABLES, folder) | {"MPLBACKEND": "agg"}
        with contextlib.suppress(OSError):  # the current folder may be gone
            stack.enter_context(contextlib.chdir(folder))
        try:
            yield
        finally:
            stack.close()
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
