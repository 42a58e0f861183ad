"""A subject that computes nothing, and misbehaves as its row's label says; workers import it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import tiebreak
from tiebreak.bench.probes.base import Probe
from tiebreak.core.errors import MissingDevice

SUITE = """
algorithm = "ppo"
[scales.smoke]
share_process = true
blocks = 2
certificate = false
sample_s = 0.001
samples = 3
steady_s = 0.001
warmup_s = 0.01
silent_calls = 2
timeout_s = {timeout_s}
[[races]]
task = "gymnasium/CartPole-v1"
num_envs = 2
probes = {probes}
rows = [{rows}]
"""


def suite(folder: Path, *labels: str, probes=("update", "train"), timeout_s=20) -> str:
    """A suite file with one row per label; every row is a fake of linen."""
    rows = ", ".join(f'{{framework = "linen", label = "{label}"}}' for label in labels)
    path = folder / "fake.toml"
    path.write_text(SUITE.format(rows=rows, probes=list(probes), timeout_s=timeout_s))
    return str(path)


def python_path() -> str:
    """PYTHONPATH for processes that have to find this package, as imported here, and this file."""
    here = Path(__file__).resolve().parents[1]
    return os.pathsep.join([str(Path(tiebreak.__file__).resolve().parents[1]), str(here)])


def make_subject(job):
    label = job.cells[0].label.partition(" ")[0]  # `fine 2` is another row that is fine
    return {"fine": Fine, "wrong": Wrong, "no-device": Blind}.get(label, Bad)(job)


class Fine:
    """Counts its calls, changes its weights, compiles nothing."""

    per_call = 4

    def __init__(self, job):
        self.label, self.job = job.cells[0].label, job
        self.calls, self.compiled, self.value, self.more_threads = 0, 1, 1.0, 0

    def load(self):
        pass

    def build(self):
        pass

    def call(self):
        time.sleep(0.0005)
        self.calls += 1
        return self.value

    def probe(self, name):
        return Probe(
            "gradient steps",
            4,
            self.call,
            expected={"updates": 4},
            counted=lambda: {"updates": self.per_call * self.calls},
            weights=lambda: {"w": np.array(self.calls)},
            learns=True,
            numbers=lambda output: {"loss": output},
        )

    def sync(self, tree):
        pass

    def compile_count(self):
        return self.compiled

    def settings(self):
        return {"threads": self.job.threads + self.more_threads, "precision": "float32"}

    def memory(self):
        return {"live_bytes": 8}

    def close(self):
        pass


class Wrong(Fine):
    """Reports more work than it did."""

    per_call = 5


class Blind(Fine):
    """Asks for a device that its framework does not see."""

    def build(self):
        raise MissingDevice("torch sees no device 'gpu' here")


class Bad(Fine):
    """Does what its label says, when its first probe is asked for."""

    def probe(self, name):
        getattr(self, self.label.replace("-", "_"))()
        return super().probe(name)

    def nan(self):
        self.value = float("nan")

    def other_threads(self):
        self.more_threads = 1

    def raises(self):
        raise ValueError("this row\nraises")

    def raises_once(self):
        if self.calls == 0:
            self.calls = 1
            raise ValueError("this probe raises")

    def exits(self):
        print("last words", file=sys.stderr)
        os._exit(3)

    def segfaults(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def hangs(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    def leaves_a_child(self):
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", deaf])
        time.sleep(0.5)  # until it is deaf
        print(f"child {child.pid}")
        self.hangs()

    def floods(self):
        for _ in range(400):
            print("x" * 10_000)
        os._exit(4)

    def floods_results(self):
        line = b"x" * 100_000
        while True:
            os.write(self.fd, line)

    def garbage(self):
        os.write(self.fd, b"\xff\x00garbage\n[1, 2]\n")
        os._exit(0)

    def half(self):
        os.write(self.fd, b'{"cell_id": "' + self.job.cells[0].id.encode())
        os._exit(0)

    def not_finite(self):
        cell_id = self.job.cells[0].id.encode()
        os.write(
            self.fd,
            b'{"cell_id": "' + cell_id + b'", "result": {"status": "ok", "flags": {},'
            b' "samples_s": [NaN], "value_s": NaN}}\n',
        )
        os._exit(0)

    def recompiles(self):
        call = self.call

        def compiling():
            self.compiled += self.calls >= 2
            return call()

        self.call = compiling

    @property
    def fd(self):
        return int(sys.argv[2])
