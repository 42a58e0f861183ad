"""Describe the machine, and notice what disturbs a measurement."""
