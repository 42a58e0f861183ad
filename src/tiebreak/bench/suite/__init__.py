"""Read a suite file and expand it into a plan of benchmark cells."""
