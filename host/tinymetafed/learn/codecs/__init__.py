"""Weights as bytes: sparse deltas from the device, whole weights to it."""
