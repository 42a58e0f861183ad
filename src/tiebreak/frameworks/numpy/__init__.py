"""NumPy: the arithmetic of the float64 oracles."""
