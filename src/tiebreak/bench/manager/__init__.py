"""Run cells in fresh processes and store their records."""
