"""Checks of the statistics on simulated machines."""
