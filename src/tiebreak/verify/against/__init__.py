"""Hold a user's own implementation against the oracle: `tiebreak verify --against`.

problem.py makes the weights, batches and noise that an agent is given; rules.py names the terms of
an update and their order; worker.py runs the agent in a process of its own, with user_arrays.py
between its arrays and ours; trace.py runs the oracle on the same numbers; comparison.py finds the
term that differs first; explanation.py finds the known deviations that explain it, which
`<algorithm>.py` lists; check.py puts it together and show.py prints it. docs/verify-yours.md is
the user's side.
"""
