"""FastSAC: configuration, losses, oracle and implementations; README.md is the spec."""
