"""Rounds and meta-tests, independent of whether clients are on devices or simulated."""
