"""A subject for the self-test's real rows that needs no framework: its work is to sleep."""

from __future__ import annotations

import time
from dataclasses import replace

from tiebreak.bench.probes.base import Probe
from tiebreak.selftest.workloads.planted_work import Repeated
from tiebreak.selftest.workloads.sample_lengths import Lengths


class Sleeps:
    """Stands in for an agent; a call takes as long as it sleeps, and a bit."""

    done = 0

    def load(self):
        pass

    def build(self):
        pass

    def sync(self, tree):
        pass

    def compile_count(self):
        return 0

    def lock(self):
        import contextlib

        return contextlib.nullcontext()

    def fallbacks(self):
        return {}

    def settings(self):
        return {}

    def memory(self):
        return {}

    def close(self):
        pass

    def _sleep(self):
        time.sleep(0.0004)
        self.done += 1
        return 1.0

    def _nap(self):
        return Probe(
            "naps",
            1,
            self._sleep,
            expected={"naps": 1},
            counted=lambda: {"naps": self.done},
            numbers=lambda output: {"one": output},
        )

    probes = dict.fromkeys(("forward", "interact", "update", "train", "rebuild"), _nap)


class Sleeper(Sleeps, Repeated):
    """Repeats naps."""


class SampledSleeper(Sleeps, Lengths):
    """Takes samples of naps, and of calls that get slower as long as nobody waits for them."""

    waiting = 0

    def sync(self, tree):
        self.waiting = 0

    def _grow(self):
        def call():
            self.waiting += 1
            time.sleep(0.0002 * (1 + 0.05 * self.waiting))
            return 1.0

        return replace(self._nap(), call=call, counted=dict, expected={})

    probes = Sleeps.probes | {"grows": _grow}


def make_sampled_subject(job):
    return SampledSleeper(job)


def make_subject(job):
    return Sleeper(job)
