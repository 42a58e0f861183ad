"""Measure the cells of one run in a process of its own."""
