"""Weights as bytes: sparse deltas on their way up, whole weights on their way down."""
