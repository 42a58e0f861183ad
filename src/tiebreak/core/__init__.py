"""Framework-free words that every other folder speaks: types, config, seeds, noise, weights, fence.

Nothing here imports an array library other than NumPy.
"""
