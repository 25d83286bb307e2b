"""Initialisation laws: the bound B of uniform(-B, B), for initial weights and for the weights of new units.

| law          | hidden layer             | output layer | biases            | source in the authors' code           |
|--------------|--------------------------|--------------|-------------------|---------------------------------------|
| kaiming      | gain sqrt(3/fan_in)      | gain 1       | 0                 | deep_ffnn.py; new units in gnt.py     |
| kaiming_ffnn | the same, other gains    | gain 1       | 0                 | ffnn.py (regression)                  |
| lecun        | sqrt(3/fan_in)           | the same     | 0                 | PPO's networks                        |
| xavier       | gain sqrt(6/(in + out))  | gain 1       | 0                 | gnt.py's option                       |
| default      | sqrt(1/fan_in)           | the same     | uniform(-B, B)    | PyTorch's layers; conv_net.py         |

Gains are the roots of `Activation.variance`: PyTorch's recommended ones, with swish and elu as relu. The authors'
regression network takes leaky_relu's gain with slope 0 (sqrt 2) and PyTorch's default for selu's initial weights;
`kaiming_ffnn` does so, for new units too. In kaiming and xavier selu has lecun's bound, as new units have in gnt.py.
A new unit's bias is 0 under every law. Where units have two features, fan_in counts both.
"""

from __future__ import annotations

import math

from lop_sweeps import checks
from lop_sweeps.networks.activations import Activation

LAWS = ("kaiming", "kaiming_ffnn", "lecun", "xavier", "default")


def weight_bound(law: str, activation: Activation, fan_in: int, fan_out: int, *, output: bool = False) -> float:
    """Bound of the weights of a layer with `fan_in` inputs and `fan_out` units that feeds `activation`."""
    checks.choice("init", law, LAWS)
    name = activation.name
    if law == "default" or (law == "kaiming_ffnn" and name == "selu" and not output):
        return math.sqrt(1.0 / fan_in)
    if law == "lecun" or (name == "selu" and not output):
        return math.sqrt(3.0 / fan_in)
    gain = 1.0 if output else math.sqrt(activation.variance)
    if law == "kaiming_ffnn" and name == "leaky_relu" and not output:
        gain = math.sqrt(2.0)
    if law == "xavier":
        return gain * math.sqrt(6.0 / (fan_in + fan_out))
    return gain * math.sqrt(3.0 / fan_in)


def bias_bound(law: str, fan_in: int) -> float:
    """Bound of the initial biases; 0 except for PyTorch's default."""
    return math.sqrt(1.0 / fan_in) if law == "default" else 0.0
