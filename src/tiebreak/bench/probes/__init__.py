"""Build the callables that a worker times, and what checks their work."""
