"""Model description in, C++ training kernels out."""
