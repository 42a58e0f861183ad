"""Turn benchmark records into statements: paired ratios, verdicts, and learning results.

visits.py             group and reduce the records of runs, cell by cell
sample_flags.py       flag samples that scatter, step or have a heavy tail
interleaved_pairs.py  compare runs whose samples were taken in turns, round by round
intervals.py          Student's t, Welch's t, bootstrap, Holm, verdicts, power: on plain arrays
ratios.py             all of the above, as one summary per group (summaries.py)
machine_drift.py      how much the machine changed, from its canaries
compare.py            two results folders: a baseline and a candidate
result_set.py         one of these folders; hardware_diff.py compares their machines
regression_limit.py   does any cell slow down by more than a limit?
curves.py             learning curves: interquartile means over seeds
equivalence.py        do two programs learn the same? two one-sided tests over seeds

Nothing here prints, imports a framework, or pools iterations of different processes.
"""
