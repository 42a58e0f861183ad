"""Workers that are a few lines of Python each: what a manager does about them is what is tested."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from tiebreak.bench.manager.interleave import run_interleaved
from tiebreak.bench.manager.worker_process import Worker

PRELUDE = """
import json, os, signal, subprocess, sys, time
def send(**message): os.write(int(sys.argv[1]), json.dumps(message).encode() + b"\\n")
def tell(text): os.write(int(sys.argv[2]), text.encode())
def event(when, cell="a", **about): tell(json.dumps({"when": when, "cell_id": cell, **about}))
def ask(cell="a", enough=False, spent=False):
    event("ready", cell, enough=enough, spent=spent)
    return os.read(int(sys.argv[2]), 64) == b"go"
def result(cell="a", steady=1.0, **other):
    good = {"status": "ok", "error": "", "flags": {}, "memory": {}, "work": {}, "settings": {}}
    good |= {"unit": "calls"}
    good |= {"samples_s": [1.0], "value_s": 1.0, "units_per_sample": 1, "calls_per_sample": 1}
    send(cell_id=cell, result={**good, "phases_s": {"steady": steady}, **other})
"""


class Scripted(Worker):
    """Runs its job's code in the place of a worker."""

    def _start(self, result_fd):
        fds = (result_fd, self._clock.worker_fd)
        return subprocess.Popen(
            [sys.executable, "-c", PRELUDE + self.job.code, *map(str, fds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            pass_fds=fds,
            start_new_session=True,
        )


def worker(folder, code, *cells):
    """A worker with the dict of its results; a cell is an id, which is its probe's name, too."""
    named = [SimpleNamespace(id=cell, probe=cell) for cell in cells or ("a",)]
    job = SimpleNamespace(code=code, cells=named, to_json=dict)
    results = {}
    return Scripted(job, folder, folder, results.__setitem__), results


def run(folder, *codes, timeout_s=20.0, probes=(), **options):
    """Workers of one cell each, or given as (code, cells…), made together: with their results."""
    asked = [code if isinstance(code, tuple) else (code,) for code in codes]
    made = [worker(folder, *one) for one in asked]
    run_interleaved([one for one, _ in made], timeout_s, probes, **options)
    return made
