"""Describe the machine, and measure what disturbs a run."""
