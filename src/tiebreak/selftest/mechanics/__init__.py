"""Checks of what the stopwatch survives: crashes, kills, damaged files."""
