"""The benchmark harness tests itself: `tiebreak run self-test`.

checks.py     the table of checks: what each one tests, and when it passes
base.py       what a check receives (Context) and returns (Outcome)
run.py        runs checks and stores one record each; show.py prints them
simulated/    statistics on a simulated machine, thousands of benchmark runs at once
real/         timing of real worker processes, through the ordinary manager
mechanics/    crashes, kills, damaged files, concurrent writers, cheating and leaking workloads
workloads/    what the workers of these checks measure

Checks use the harness's own code: its manager, worker, store and statistics.
"""
