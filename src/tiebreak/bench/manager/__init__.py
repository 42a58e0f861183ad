"""Run the cells of a suite in worker processes and store their records."""
