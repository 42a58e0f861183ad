"""FastTD3 in five frameworks, its oracle and its losses; README.md is the spec."""
