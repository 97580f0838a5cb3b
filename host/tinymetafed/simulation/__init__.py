"""Clients in this process: the generated kernels compiled for its vector unit, one client per lane."""
