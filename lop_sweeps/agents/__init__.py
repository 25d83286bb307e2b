"""Agents: how experience in an environment becomes updates of a network."""
