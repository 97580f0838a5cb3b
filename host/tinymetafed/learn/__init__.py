"""Federated meta-learning without devices: tasks, random numbers, codecs of weights and deltas, aggregation, strategies."""
