"""JAX: arithmetic, runtime and replay, and the networks of each framework on it."""
