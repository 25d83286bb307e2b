"""What an image's pixels are to a network: numbers from 0 to 1, or from -1 to 1.

The latter, (x - 0.5) / 0.5, is what the codes of L2 Init, UPGD and weight clipping use.
"""

from __future__ import annotations

ZERO_ONE, MINUS_ONE_ONE = "zero_one", "minus_one_one"
INPUTS = (ZERO_ONE, MINUS_ONE_ONE)
