"""A worker's end of taking turns: what it says, what it waits for, and what counts as its time."""

from __future__ import annotations

import time

import pytest

from tiebreak.bench.clock import Clock
from tiebreak.bench.manager import reaper
from tiebreak.bench.suite.plan import Effort
from tiebreak.bench.worker import sampling
from tiebreak.bench.worker.turns import SPIN_S, Dismissed, Turns, settle


class Words:
    """A manager who lets a worker take so many samples."""

    def __init__(self, samples):
        self.said, self.left = [], samples

    def tell(self, when, **about):
        self.said.append((when, about.get("enough")))

    def answer(self):
        self.left -= 1
        return b"go" if self.left >= 0 else b"enough"


def test_a_turn_is_asked_for_begun_and_ended():
    manager = Words(2)
    turns = Turns(manager.tell, manager.answer)
    while turns.next(enough=len(manager.said) > 1):
        time.sleep(0.02)
    assert [when for when, _ in manager.said] == [
        "ready", "start", "end", "ready", "start", "end", "ready",
    ]  # fmt: skip
    assert [enough for when, enough in manager.said if when == "ready"] == [False, True, True]
    assert 0.04 <= turns.steady_s < 0.2
    assert set(turns.contention()) >= {"run_queue"} or not reaper.LINUX


@pytest.mark.parametrize(("reply", "is_last"), [(b"enough", False), (b"last", True)])
def test_the_manager_can_end_a_worker_after_a_probe(reply, is_last):
    turns = Turns(lambda when, **about: None, lambda: reply)
    assert turns.next(enough=True) is False
    assert turns.is_last is is_last


def test_a_worker_that_is_sent_home_before_its_first_sample_has_no_result():
    turns, samples = Turns(lambda when, **about: None, lambda: b"last"), []
    probe = sampling.Timed(lambda: None, tuple, lambda tree: None)
    with pytest.raises(Dismissed):
        sampling.sample(probe, 1, Effort(), samples, turns)


def waits(work):
    """Turns of a worker in whose waiting time something is done."""
    manager = Words(3)
    turns = Turns(manager.tell, lambda: (work(), manager.answer())[1])
    while turns.next(enough=False):
        time.sleep(0.05)
    return turns


def test_what_happens_between_two_turns_is_no_contention():
    turns = waits(lambda: time.sleep(0.3))
    assert 0.14 < turns._contention.seconds < 0.6
    assert turns._contention.windows == 3
    assert turns.busy_cpus == 0.0


def test_work_that_goes_on_while_it_waits_is_found():
    def run_on():
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

    assert 0.05 < waits(run_on).busy_cpus <= 4.0


def test_alone_the_phase_is_one_window():
    said = []
    turns = Turns(lambda when: said.append(when))
    assert turns.next(enough=False)
    assert turns.next(enough=False)
    assert not turns.next(enough=True)
    turns.finish()
    turns.finish()
    assert said == ["start", "end"]
    assert not turns.next(enough=False, spent=True)


class Spinning(Clock):
    """Threads that use a whole CPU until `rest_s`."""

    def __init__(self, rest_s):
        self.now, self.rest = 0, rest_s * 1e9

    def now_ns(self):
        return self.now

    def cpu_ns(self):
        return int(min(self.now, self.rest))

    def pause(self, seconds):
        self.now += int(seconds * 1e9)


@pytest.mark.parametrize(("rest_s", "waited_s"), [(0.0, 0.004), (0.01, 0.016), (9.0, SPIN_S)])
def test_a_pool_that_spins_is_waited_for_and_not_for_ever(rest_s, waited_s):
    clock = Spinning(rest_s)
    settle(clock)
    assert clock.now / 1e9 == pytest.approx(waited_s, abs=1e-6)


class Cold:
    """A probe whose first call after a pause is slow."""

    once = False

    def __init__(self, call_s):
        self.call_s, self.now, self.cold = call_s, 0.0, True

    def seconds(self, n=1):
        took = n * self.call_s + 0.005 * self.cold
        self.cold = False
        return took

    def answer(self):
        self.cold = True
        return b"go"


@pytest.mark.parametrize(("call_s", "calls"), [(0.01, 10), (0.1, 1), (0.06, 2)])
def test_no_sample_begins_cold(call_s, calls):
    probe, samples, left = Cold(call_s), [], iter(range(6))
    turns = Turns(answer=lambda: probe.answer() if next(left, None) is not None else b"enough")
    sampling.sample(probe, calls, Effort(samples=6), samples, turns)
    assert samples == pytest.approx([calls * call_s] * 6)


def test_calls_so_long_that_it_is_no_matter_are_not_made_twice():
    made, left = [], iter(range(3))
    probe = Cold(5.0)
    turns = Turns(answer=lambda: probe.answer() if next(left, None) is not None else b"enough")
    seconds = probe.seconds
    probe.seconds = lambda n=1: made.append(n) or seconds(n)
    sampling.sample(probe, 1, Effort(samples=3), [], turns)
    assert len(made) == 4  # before the first sample it is not known how long they are
