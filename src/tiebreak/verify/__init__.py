"""Check every framework against the float64 oracle, and the frameworks against each other.

`<algorithm>_cases.py` draws specifications and settings; case.py makes weights and batches for
them; compare.py defines the error measure and the bounds. parity.py, with off_policy_checks.py and
on_policy_checks.py, checks rungs L0 (single settings) and L1 (one step); lockstep.py checks L2 (a
hundred updates). worker.py runs all checks of one framework in a process of its own; certify.py
starts the workers and merges their results into the certificate. docs/measuring.md explains the
rungs.
"""
