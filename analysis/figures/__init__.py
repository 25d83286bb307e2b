"""Figures. Each function takes frames, draws on given axes or on a figure of its own, and returns the Figure.

None reads or writes a file, none touches pyplot's global state: a figure can be made in a notebook, on a
cluster node without a display, or a thousand times in a loop.
"""

from . import canvas

canvas.prepare()  # before any module here imports matplotlib
