"""Is it the same algorithm? Every framework against the float64 oracle, and against each other.

case.py makes weights and batches of the
shapes and settings that `<algorithm>_cases.py` draws; compare.py states the error measure and the
bounds; parity.py climbs the first two rungs (L0 knobs, L1 one step), lockstep.py the third (L2, a
hundred updates); worker.py does so for one framework in its own process; certify.py starts the
workers and puts their rows together into the certificate. docs/measuring.md explains the rungs.
"""
