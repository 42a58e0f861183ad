"""JAX: arithmetic, runtime and replay, and the networks of Linen, NNX and Equinox."""
