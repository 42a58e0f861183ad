"""The memory series: what counts as growth, what is seen, and what is no leak."""

from __future__ import annotations

import numpy as np
import pytest

from tiebreak.bench.worker import memory
from tiebreak.bench.worker.memory import Meter, growth, leak_slope

KIB = 1024
rng = np.random.default_rng(0)
BASE = 10**8 + np.zeros(50)
QUIET = rng.normal(0, 3 * KIB, 50)
SPIKES = np.where(rng.random(50) < 0.2, 7e6, 0.0)


def flagged(series):
    return leak_slope(growth([int(x) for x in series]))


@pytest.mark.parametrize(
    ("series", "leaks"),
    [
        (BASE + 64 * KIB * np.arange(50), True),
        (BASE + 64 * KIB * np.arange(50) + QUIET + SPIKES, True),
        (BASE + 8 * KIB * np.arange(50) + QUIET, True),
        (BASE + 640 * KIB * (np.arange(50) // 10), True),  # now and then
        (BASE, False),
        (BASE + QUIET, False),
        (BASE + SPIKES, False),
        (BASE - 64 * KIB * np.arange(50), False),
        (BASE + 1e6 * (np.arange(50) >= 25), False),  # allocated once
        (BASE + 1e6 * np.minimum(np.arange(50), 18) + QUIET, False),  # filling up, then full
        (BASE + KIB * np.arange(50), False),  # too little
        ((BASE + 64 * KIB * np.arange(50))[:8], True),
        ((BASE + 64 * KIB * np.arange(50))[:7], False),  # too few
        ([], False),
    ],
)
def test_only_steady_growth_is_a_leak(series, leaks):
    assert bool(flagged(series)) is leaks


def test_what_compiles_may_keep_a_little_more():
    about = growth([8 * KIB * i for i in range(50)])
    assert leak_slope(about) == 8 * KIB
    assert not leak_slope(about, compiles=True)
    assert leak_slope(growth([24 * KIB * i for i in range(50)]), compiles=True)


def test_the_slope_is_per_call_and_robust():
    series = 64 * KIB * np.arange(50) + QUIET + SPIKES
    out = growth([int(x) for x in series])
    assert out["slope_bytes_per_call"] == pytest.approx(64 * KIB, rel=0.1)
    assert 0 < out["growth_low_bytes_per_call"] < out["slope_bytes_per_call"]
    assert set(growth([1, 2, 3])) == {"slope_bytes_per_call"}  # no bound


def test_noise_alone_is_flagged_once_in_two_thousand():
    """At the most: the threshold takes more out. A false alarm here would be a false accusation."""
    draw = np.random.default_rng(1).normal(0, 1e6, (2000, 20))
    assert sum(bool(flagged(series)) for series in draw) <= 4


needs_heap = pytest.mark.skipif(memory.heap_bytes() is None, reason="no glibc 2.33 here")


@needs_heap
def test_the_heap_sees_arrays_large_and_small_and_python_objects():
    before = memory.heap_bytes()
    kept = [np.ones(50_000_000 // 8), [np.ones(4000 // 8) for _ in range(1000)]]
    arrays = memory.heap_bytes()
    assert arrays - before == pytest.approx(54e6, rel=0.05)
    kept.append([(i,) for i in range(10**5)])
    assert memory.heap_bytes() - arrays > 5e6
    del kept
    assert memory.heap_bytes() - before < 1e6


def test_a_series_ends_when_its_time_is_up():
    assert len(meter().series(lambda: 1.0, 50, longest_s=4.0)) == 4


def meter(library=None):
    return Meter(lambda: library or {}, lambda seconds: None)


def test_the_source_is_the_best_there_is(monkeypatch):
    gpu = {"live_bytes": 7, "peak_bytes": 9}
    assert (meter(gpu).source, meter(gpu).read()) == ("library", 7)
    monkeypatch.setattr(memory, "heap_bytes", lambda: 5)
    assert (meter({"live_bytes": 7}).source, meter().read()) == ("heap", 5)
    monkeypatch.setattr(memory, "heap_bytes", lambda: None)
    assert meter({"live_bytes": 7}).source == "library"
    assert meter().source == "rss"
    assert meter().read() > 10**6


def test_what_is_given_back_late_is_waited_for(monkeypatch):
    left = [9 * 10**6, 8 * 10**6, 10**6, 0]
    monkeypatch.setattr(memory, "heap_bytes", lambda: left.pop(0) if len(left) > 1 else 0)
    one = meter()  # takes the first
    assert one.settled(10**6) == 10**6


LEAKS = {
    "64 KiB": lambda: np.ones(64 * KIB // 8),
    "small objects": lambda: [(i,) for i in range(200)],
    "malloc, many": lambda: [bytearray(600) for _ in range(20)],
}


@needs_heap
@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_leak_is_flagged_by_50_calls(leak):
    kept = []
    about = memory.summary(meter(), meter().series(lambda: kept.append(LEAKS[leak]()) or 0.0, 50))
    assert about["source"] == "heap"
    assert len(about["series_bytes"]) == 50
    assert leak_slope(about) > memory.GROWING


class Cycle:
    def __init__(self):
        self.me, self.array = self, np.ones(10**5)


def work():
    """Much memory that is all given back, a part of it in cycles."""
    return 0.0 * sum(Cycle().array.sum() for _ in range(3)) + np.ones(10**6).sum()


@pytest.mark.slow
@needs_heap
def test_no_clean_control_of_20_is_flagged():
    one = meter()
    assert [leak_slope(memory.summary(one, one.series(work, 50))) for _ in range(20)] == [0] * 20
