"""Code generation: turns an experiment's model into C++ training code for a board."""

__version__ = "0.2.0"  # of the whole package, including host and firmware
