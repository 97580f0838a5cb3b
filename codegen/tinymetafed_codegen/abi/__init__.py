"""The interface of the compiled simulation, for C++ and for ctypes."""
