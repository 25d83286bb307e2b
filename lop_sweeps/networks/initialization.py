"""Initialisation laws: the bound B of uniform(-B, B), for initial weights and for the weights of new units.

| law          | hidden layer             | output layer | biases            | source in the authors' code           |
|--------------|--------------------------|--------------|-------------------|---------------------------------------|
| kaiming      | gain sqrt(3/fan_in)      | gain 1       | 0                 | deep_ffnn.py; new units in gnt.py     |
| kaiming_ffnn | the same, other gains    | gain 1       | 0                 | ffnn.py (regression)                  |
| lecun        | sqrt(3/fan_in)           | the same     | 0                 | PPO's networks                        |
| xavier       | gain sqrt(6/(in + out))  | gain 1       | 0                 | gnt.py's option                       |
| default      | sqrt(1/fan_in)           | the same     | uniform(-B, B)    | PyTorch's layers; conv_net.py         |

Gains are PyTorch's recommended ones, with swish and elu as relu and the slope 0.01 for leaky_relu. The authors'
regression network takes leaky_relu's gain with slope 0 (sqrt 2) and PyTorch's default for selu's initial weights;
`kaiming_ffnn` does so, for new units too. In kaiming and xavier selu has lecun's bound, as new units have in gnt.py.
A new unit's bias is 0 under every law.
"""

from __future__ import annotations

import math

from lop_sweeps import checks

LAWS = ("kaiming", "kaiming_ffnn", "lecun", "xavier", "default")

_RELU = math.sqrt(2.0)
GAINS = {
    "relu": _RELU,
    "leaky_relu": math.sqrt(2.0 / (1 + 0.01**2)),
    "tanh": 5.0 / 3.0,
    "sigmoid": 1.0,
    "elu": _RELU,
    "selu": 1.0,
    "swish": _RELU,
    "identity": 1.0,
}


def weight_bound(law: str, activation: str, fan_in: int, fan_out: int, *, output: bool = False) -> float:
    """Bound of the weights of a layer with `fan_in` inputs and `fan_out` units that feeds `activation`."""
    checks.choice("init", law, LAWS)
    if law == "default" or (law == "kaiming_ffnn" and activation == "selu" and not output):
        return math.sqrt(1.0 / fan_in)
    if law == "lecun" or (activation == "selu" and not output):
        return math.sqrt(3.0 / fan_in)
    gain = 1.0 if output else GAINS[activation]
    if law == "kaiming_ffnn" and activation == "leaky_relu" and not output:
        gain = _RELU
    if law == "xavier":
        return gain * math.sqrt(6.0 / (fan_in + fan_out))
    return gain * math.sqrt(3.0 / fan_in)


def bias_bound(law: str, fan_in: int) -> float:
    """Bound of the initial biases; 0 except for PyTorch's default."""
    return math.sqrt(1.0 / fan_in) if law == "default" else 0.0
