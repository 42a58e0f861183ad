"""Training runs: one folder each, from `config.json` to the evaluated policy.

driver.py drives a loop to its budget, session.py knows every way that can end, evaluate.py runs a
stored policy greedily in any framework. checkpoints.py is the policy on disk, resume.py what a run
goes on from, trackers.py what is shown and logged meanwhile.
Importing these imports no framework.
"""
