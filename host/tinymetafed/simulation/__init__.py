"""Simulated clients: the generated kernels, compiled for this machine's vector unit, with one client per lane."""
