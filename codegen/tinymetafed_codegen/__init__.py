"""Model description in, C++ training kernels out."""

__version__ = "0.2.0"  # of the whole package, host and firmware included
