"""The stopwatch: a suite becomes cells, cells become visits of fresh processes, visits records.

The manager's side, in the order in which a run passes through it:
suite.py (suite_*.py, toml_lines.py)   a suite file -> plan.py: cells, groups, the order of visits
manager.py   what was asked, what is on the disk;  run.py  blocks and stages, by schedule.py
visits.py    one visit -> its records;  process.py  one worker: started, listened to, ended
             (variables.py its environment, reaper.py its end, out_of_memory.py why)
store.py, record.py   what is written, and how it survives
estimate.py, progress.py   how long it will take, how far it is
The worker's side:
worker.py    the fresh process: fence, import, build, measure
probes.py (environment.py, rebuild.py)   what is measured;  probe.py  what a probe is
steady.py    how, clock.py  with what;  memory.py, proof.py  what was held, and done
Both:
machine.py   where: its canary, contention.py, fingerprint.py (gpu.py, kernel.py)

The manager's side imports no framework, and numbers travel from the worker as JSON only.
"""
