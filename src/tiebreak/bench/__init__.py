"""The stopwatch: a suite becomes cells, cells become visits of fresh processes, visits records.

plan.py      suite file -> cells, groups, the order of visits       (manager's side)
manager.py   one visit at a time, each record stored when it arrives (manager's side)
process.py   starts, listens to and ends one worker                  (manager's side)
store.py, record.py   what is written, and how it survives           (manager's side)
worker.py    the fresh process: fence, import, build, measure        (worker's side)
probes.py    what is measured;  steady.py  how;  clock.py  with what (worker's side)
machine.py   where: fingerprint, canary, contention                  (both)

The manager's side imports no framework, and numbers travel from the worker as JSON only.
"""
