"""Checks of timing with real processes."""
