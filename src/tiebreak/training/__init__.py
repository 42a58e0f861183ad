"""Training runs: one folder each, from `config.json` to the evaluated policy.

train.py drives a loop to its budget, evaluate.py runs a stored policy greedily in any framework,
checkpoints.py is what lies on disk, trackers.py what is shown and logged meanwhile.
Importing these imports no framework.
"""
