"""Where tensors lie in memory, how activations wait for the backward pass, and what less memory costs."""
