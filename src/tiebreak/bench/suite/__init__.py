"""Read a suite file and expand it into benchmark cells."""
