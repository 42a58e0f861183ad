"""One probe measured, in this process: each flag with what it is for, and a clean control."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque

import numpy as np
import psutil
import pytest

from tiebreak.bench.clock import process_age_s
from tiebreak.bench.probes.base import Probe
from tiebreak.bench.suite.plan import Effort
from tiebreak.bench.worker import main as worker
from tiebreak.bench.worker import memory
from tiebreak.bench.worker.turns import Turns
from tiebreak.frameworks.runtime import Retraced

EFFORT = Effort(0.002, 5, 0.01, silent_calls=3, warmup_s=0.5, memory_calls=8)
TIMING = {"noisy", "unsteady", "contended", "heavy_tail", "too_short"}
"""Flags that a busy machine may raise."""


class Subject:
    """Works a little, correctly."""

    learns = True

    def __init__(self):
        self.calls, self.compiled = 0, 1
        self.weights = np.zeros(3)
        self.probed = Probe(
            "calls",
            2,
            self.call,
            expected={"updates": 1},
            counted=lambda: {"updates": self.calls},
            weights=lambda: {"w": self.weights},
            learns=self.learns,
            numbers=lambda out: {"loss": float(out)},
            inputs=lambda: [np.arange(3.0), np.array([False]), np.zeros(1)],
        )

    def probe(self, name):
        return self.probed

    def call(self):
        self.calls += 1
        self.weights = self.weights + 1
        time.sleep(0.0002)
        return 0.5

    def sync(self, tree):
        pass

    def compile_count(self):
        return self.compiled

    def settings(self):
        return {}

    def memory(self):
        return {"live_bytes": 24}


def measured(subject, effort=EFFORT):
    result = worker.measure(subject, "x", effort, None)
    return result, set(result["flags"]) - TIMING


def failed(subject, flag, reason):
    result, flags = measured(subject)
    assert flags == {flag}
    assert (result["status"], result["value_s"]) == ("failed", None)
    assert reason in result["error"]
    assert "\n" not in result["error"]
    return result


@pytest.mark.slow
def test_no_clean_control_of_20_is_flagged():
    for _ in range(20):
        result, flags = measured(Subject())
        assert (result["status"], result["error"], flags) == ("ok", "", set())
        assert result["value_s"] > 0
    assert result["work"]["inputs"] == 3


def test_a_lock_that_is_touched_fails_the_visit_and_says_what_to_do():
    subject, inside = Subject(), []
    call = subject.call

    @contextlib.contextmanager
    def lock():
        inside.append("lock")
        yield

    def retracing():
        inside.extend(["call"] * len(inside[:1]))
        if inside.count("call") == 5:
            raise Retraced("step was\n traced anew")
        return call()

    subject.lock, subject.probed.call = lock, retracing
    result = worker.measure(subject, "x", EFFORT, 2)
    assert result["flags"]["recompiled"] == 1
    assert (result["status"], len(result["samples_s"])) == ("failed", 2)  # those before it
    assert result["error"].startswith("step was traced anew. Give every call the same shapes")
    assert result["phases_s"]["steady"] > 0


def test_any_other_exception_goes_on_to_be_reported():
    subject = Subject()
    subject.probed.call = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        measured(subject)


def test_a_compilation_in_the_steady_phase_ends_it():
    subject = Subject()
    subject.compile_count = lambda: 1 + (subject.calls >= 50)  # nothing raises
    effort = Effort(0.002, 1000, 0.01, silent_calls=3, memory_calls=0)
    result = worker.measure(subject, "x", effort, 10)
    assert result["flags"]["recompiled"] == 1
    assert result["status"] == "failed"
    assert "compiled 1 times after warm-up" in result["error"]
    assert 0 < len(result["samples_s"]) <= 6


def test_what_compiles_in_every_call_is_never_timed():
    subject = Subject()
    subject.compile_count = lambda: subject.calls
    result = failed(subject, "recompiled", "still compiling in call")
    assert result["samples_s"] == []
    assert result["warmup_calls"] > 1


def test_a_probe_whose_work_is_compiling_is_not_locked():
    subject = Subject()
    subject.compile_count = lambda: subject.calls
    subject.lock = lambda: 1 / 0
    subject.probed.compiles = True
    assert measured(subject)[1] == set()


def test_work_hidden_from_the_clock_is_seen():
    subject, stop = Subject(), threading.Event()
    call = subject.call

    def hiding():
        if subject.calls == 2:  # in the warm-up
            threading.Thread(target=deque, args=(iter(stop.is_set, True), 0)).start()
        return call()

    subject.probed.call = hiding
    try:
        result, flags = measured(subject)
    finally:
        stop.set()
    assert flags == {"still_running"}
    assert result["flags"]["still_running"] > 0.03
    assert result["status"] == "ok"


def test_fallbacks_are_flagged_with_their_number():
    subject = Subject()
    subject.fallbacks = lambda: {"fell_to_eager": 2, "graph_break": 0}
    result, flags = measured(subject)
    assert flags == {"fell_to_eager"}
    assert result["flags"]["fell_to_eager"] == 2


@pytest.mark.skipif(memory.heap_bytes() is None, reason="no glibc 2.33 here")
def test_a_leak_is_flagged_with_its_slope():
    subject, kept = Subject(), []
    call = subject.call
    subject.probed.call = lambda: kept.append(bytearray(65536)) or call()
    result, flags = measured(subject)
    assert flags == {"memory_growing"}
    assert result["flags"]["memory_growing"] == pytest.approx(65536, rel=0.1)
    assert result["memory"]["live_bytes"] == 24


@pytest.mark.parametrize("array", [np.zeros(4), np.full((2, 3), 7.0), np.ones(2, bool)])
def test_inputs_of_one_number_are_no_work(array):
    subject = Subject()
    subject.probed.inputs = lambda: [np.arange(3.0), array]
    result = failed(subject, "work_mismatch", "1 of its 2 inputs are zeros")
    assert result["samples_s"]


def test_outputs_that_depend_on_nothing_are_dead_code():
    subject = Subject()
    subject.probed.varies = lambda: False
    failed(subject, "work_mismatch", "do not depend on its inputs and weights")


def test_weights_that_stay_and_steps_that_are_skipped():
    still = Subject()
    still.probed.weights = lambda: {"w": np.ones(3)}
    failed(still, "work_mismatch", "left the weights as they were")
    skips = Subject()
    skips.probed.counted = lambda: {"updates": skips.calls // 2}
    result = failed(skips, "work_mismatch", "updates differ by -")
    assert result["flags"]["work_mismatch"] == -((result["work"]["calls"] + 1) // 2)


def test_the_parents_clock_sees_the_samples_and_nothing_else():
    seen = []
    subject = Subject()
    call = subject.call
    subject.probed.call = lambda: seen.append("call") or call()
    result = worker.measure(subject, "x", EFFORT, 7, Turns(lambda when: seen.append(when)))
    start, end = seen.index("start"), seen.index("end")
    assert end - start - 1 == 7 * len(result["samples_s"])
    assert set(seen[end + 1 :]) == {"call"}  # the memory series


class Once(Subject):
    """Is one call, timed from the start of the process."""

    def __init__(self):
        super().__init__()
        self.probed.once = self.probed.compiles = True


def test_a_probe_that_is_one_call_is_timed_from_the_start_of_the_process(monkeypatch):
    monkeypatch.setattr(worker, "process_age_s", lambda: 100.0)
    subject = Once()
    result = worker.measure(subject, "x", EFFORT, None, stretch=5)
    assert (result["status"], subject.calls) == ("ok", 1)
    assert result["work"]["calls"] == result["calls_per_sample"] == 1
    (seconds,) = result["samples_s"]
    assert 100.0 < seconds < 101.0
    assert result["value_s"] == seconds / 2
    assert "too_short" not in result["flags"]


def test_it_makes_no_call_before_its_turn():
    replies = deque([b"go", b"enough"])
    turns = Turns(answer=replies.popleft)
    subject = Once()
    result = worker.measure(subject, "x", EFFORT, None, turns=turns)
    assert (subject.calls, len(result["samples_s"])) == (1, 1)


def test_the_age_of_a_process_is_that_of_the_system():
    age_s = time.time() - psutil.Process().create_time()
    assert process_age_s() == pytest.approx(age_s, abs=1.5)  # its start there is in whole seconds
