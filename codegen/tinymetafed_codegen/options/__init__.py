"""The facts of parts that firmware has only if an experiment asks for them."""
