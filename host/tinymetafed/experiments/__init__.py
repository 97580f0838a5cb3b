"""Experiments of many runs: sweeps over options and seeds, and a reproduction of the papers' tables."""
