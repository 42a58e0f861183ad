"""Measure one cell in a process of its own."""
