"""The stopwatch's own tests: `tiebreak run self-test` measures the measuring, and keeps the proof.

rows.py        the table of rows: what is tested, and when it passes
run.py         runs rows, stores one record each;  show.py  prints them
simulate.py, false_alarms.py, planted.py    rows judged on a simulated machine
timing.py, real_slowdown.py, hogs.py        rows of real visits through the ordinary manager
subjects.py    what those visits measure: the real thing, made slower by a known share

Every row uses the stopwatch's own code: its manager, worker, store and statistics. The rows of
traps, leaks, faults, kills, damage and writers are in the files of these names.
"""
