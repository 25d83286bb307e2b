"""The one place that makes printing safe: every text can be printed, whatever the terminal, the locale or the pipe.

PYTHONIOENCODING=latin-1 and LANG=C know no '−' and no '×'; `| head` closes the pipe before everything is printed; a
full disk takes no more. None of these is a reason for a traceback.
"""

from __future__ import annotations

import codecs
import os
import sys
from typing import IO

ERRORS = "lop_sweeps.plain"
FAILED = 1
# What is written instead where an encoding does not have it.
PLAIN = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "*",
    "…": "...",
    "→": "->",
    "←": "<-",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "✓": "ok",
    "µ": "u",
}


def printable(*streams: IO[str] | None) -> None:
    """From now on a character that a stream's encoding lacks is written as the nearest one that it has, or as '?'.

    streams: default standard output and error, which may be absent (None).
    """
    codecs.register_error(ERRORS, _plain)
    for stream in streams or (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a notebook's stream takes everything anyway
        if reconfigure is not None:
            reconfigure(errors=ERRORS)


def say(text: str) -> int:
    """Print all that a command has to say, when its work is done; its exit code.

    0, also where nobody reads to the end (`| head`); 1 with a line on standard error where it cannot be written.
    """
    printable()
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _silence(sys.stdout)
    except OSError as error:
        _silence(sys.stdout)
        sys.stderr.write(f"cannot print: {error.strerror or error}\n")
        return FAILED
    return 0


def _silence(stream: IO[str]) -> None:
    """What is still to be flushed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    encoding = error.encoding
    found = []
    for letter in error.object[error.start : error.end]:
        text = PLAIN.get(letter, "?")
        try:
            text.encode(encoding)
        except UnicodeError:
            text = "?"
        found.append(text)
    return "".join(found), error.end
