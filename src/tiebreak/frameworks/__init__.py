"""Everything that belongs to an array library and does not vary by algorithm."""
