"""Code generation: turns an experiment's model into C++ training code for a board."""
