"""Hold what every other folder uses: types, configurations, seeds, noise, errors, files.

Nothing here imports an array library other than NumPy.
"""
