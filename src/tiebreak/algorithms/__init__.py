"""One folder per algorithm: README (the spec), config, data, a NumPy oracle, all frameworks.

The sibling files define the same names in the same order, so that their diff is the
difference between the frameworks. No algorithm imports another.
"""
