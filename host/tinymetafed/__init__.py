"""Federated meta-learning on microcontrollers: the host's side."""

__version__ = "0.1.0"
