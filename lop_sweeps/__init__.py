"""Experiment sweeps for research on loss of plasticity."""

__version__ = "0.1.0"
