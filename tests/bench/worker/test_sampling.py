"""The stopwatch against a simulated clock: what it reads is known to the nanosecond."""

from __future__ import annotations

import itertools

import pytest

from tiebreak.bench.clock import KEPT, Clock, time_calls
from tiebreak.bench.suite.plan import Effort
from tiebreak.bench.worker import sampling
from tiebreak.bench.worker.sampling import Timed
from tiebreak.bench.worker.turns import Turns

MS = 1_000_000


class Simulated(Clock):
    """Time passes only when work says so."""

    now = 0
    cpu = 0

    def now_ns(self):
        return self.now

    def cpu_ns(self):
        return self.cpu

    def pause(self, seconds):
        for _ in range(round(seconds * 1000)):
            self.now += MS
            self.cpu += int(self.busy(self.now / MS) * MS)

    def busy(self, ms):
        """CPUs in use at this millisecond."""
        return 0.004


class Device:
    """Work that is queued by a call and done when somebody waits, as JAX does it."""

    def __init__(self, clock, dispatch_ns, work_ns):
        self.clock, self.dispatch, self.work = clock, dispatch_ns, work_ns
        self.queued = 0

    def call(self):
        self.clock.now += self.dispatch
        self.queued += self.work if isinstance(self.work, int) else next(self.work)

    def sync(self, _):
        self.clock.now += self.queued
        self.queued = 0


def timed(work_ns, dispatch_ns=0):
    clock = Simulated()
    device = Device(clock, dispatch_ns, work_ns)
    return Timed(device.call, tuple, device.sync, clock), device


def sampled(one, effort, **options):
    samples = []
    sampling.sample(one, 1, effort, samples, Turns(), **options)
    return samples


def test_work_that_is_still_under_way_is_waited_for():
    one, _ = timed(56 * MS, dispatch_ns=MS // 8)
    assert one.seconds(1) == pytest.approx(0.056125)


def test_what_was_queued_before_is_not_charged():
    one, device = timed(10 * MS)
    device.call()
    assert one.seconds(1) == pytest.approx(0.010)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_time_is_proportional_to_the_calls(n):
    one, _ = timed(3 * MS)
    assert one.seconds(n) == pytest.approx(0.003 * n)


def test_every_output_is_waited_for_and_the_state_too():
    waited = []
    outputs = itertools.count()
    time_calls(lambda: next(outputs), 3, waited.append, lambda: "state", Simulated())
    assert waited == ["state", ([0, 1, 2], "state")]


class Output:
    """Counts how many of its kind are alive."""

    alive = most = 0

    def __init__(self):
        Output.alive += 1
        Output.most = max(Output.most, Output.alive)

    def __del__(self):
        Output.alive -= 1


def test_a_long_sample_keeps_no_more_outputs_alive_than_a_short_one():
    Output.most = 0
    waited = []
    count = lambda tree: waited.append(len(tree[0]) if tree else 0)  # noqa: E731
    time_calls(Output, 8000, count, tuple, Simulated())
    assert Output.most <= 50
    assert waited == [0, KEPT]  # the pipeline is not drained in between
    assert Output.alive == 0


@pytest.mark.parametrize("call_ms", [0.01, 0.3, 1, 7, 250])
def test_a_calibrated_sample_is_long_enough_and_not_much_longer(call_ms):
    one, _ = timed(int(call_ms * MS))
    n = sampling.calibrate(one, Effort(sample_s=0.1))
    assert 0.1 <= n * call_ms / 1e3 <= max(0.15, call_ms / 1e3)


def test_calibration_stops_at_the_most_calls():
    one, _ = timed(1)
    assert sampling.calibrate(one, Effort(most_calls=500)) == 500


def test_warm_up_lasts_until_the_compile_counter_is_silent():
    compiles = [0, 3, 3, 4, 4, 4, 4, 4, 4]
    one, _ = timed(MS)
    out = sampling.warm_up(one, iter(compiles).__next__, Effort(silent_calls=5))
    assert (out.calls, out.silent) == (8, 5)
    assert out.first_call_s == pytest.approx(0.001)
    assert out.rest_s == pytest.approx(0.007)


def test_the_first_eight_calls_are_kept_one_by_one():
    one, _ = timed(iter([900 * MS, 5 * MS, *[2 * MS] * 20]))
    out = sampling.warm_up(one, lambda: 1, Effort(silent_calls=2))
    assert out.calls_s == pytest.approx([0.9, 0.005, *[0.002] * 6])


def test_calls_that_are_not_short_are_not_repeated_to_complete_the_first_eight():
    one, _ = timed(300 * MS)
    out = sampling.warm_up(one, lambda: 1, Effort(silent_calls=3, warmup_s=2.0))
    assert out.calls == 3


def test_slow_calls_bound_the_warm_up():
    one, _ = timed(500 * MS)
    out = sampling.warm_up(one, lambda: 1, Effort(silent_calls=5, warmup_s=0.9))
    assert out.calls == 3


def test_a_counter_that_is_never_silent_ends_the_warm_up_unsilenced():
    one, _ = timed(MS)
    out = sampling.warm_up(one, itertools.count().__next__, Effort(silent_calls=5))
    assert out.silent == 0
    assert out.calls == 100


def test_samples_are_enough_in_number_and_in_time():
    fast, _ = timed(10 * MS)
    assert len(sampled(fast, Effort(samples=20, steady_s=2.0))) == 200
    slow, _ = timed(400 * MS)
    assert len(sampled(slow, Effort(samples=20, steady_s=2.0))) == 20


def test_sampling_that_takes_too_long_ends_and_is_flagged():
    slow, _ = timed(400 * MS)
    effort = Effort(samples=20, longest_s=2.0)
    samples = sampled(slow, effort)
    assert len(samples) == 5
    assert sampling.flags(samples, effort) == {"too_short": 5.0}


@pytest.mark.parametrize(
    ("busy", "running"),
    [
        (lambda ms: 0.004, False),  # what an idle interpreter uses
        (lambda ms: 1.0 * (ms <= 12), False),  # OpenMP's threads spin
        (lambda ms: 15.0 * (ms <= 12), False),  # on sixteen cores
        (lambda ms: 0.2 * (ms <= 90), False),  # the same on a busy machine
        (lambda ms: 0.055 * (ms % 40 < 20), False),  # now and then, less than 30 ms in a second
        (lambda ms: 1.0, True),
        (lambda ms: 0.1, True),  # work that hardly gets a CPU
        (lambda ms: 1.0 * (ms <= 80), True),  # a tail
        (lambda ms: 0.2 * (ms % 25 < 8), True),  # by fits and starts
    ],
)
def test_work_that_goes_on_after_the_clock_is_seen(busy, running):
    clock = Simulated()
    clock.busy = busy
    assert bool(sampling.still_running(clock)) is running


def test_the_cpus_of_what_goes_on_are_measured():
    clock = Simulated()
    clock.busy = lambda ms: 1.5
    assert sampling.still_running(clock) == pytest.approx(1.5)


EFFORT = Effort(sample_s=0.1, samples=20)


@pytest.mark.parametrize(
    ("samples", "flags"),
    [
        ([0.1, 0.101, 0.099, 0.1] * 5, set()),
        ([0.08, 0.1, 0.12, 0.14] * 5, {"noisy"}),
        ([0.1, 0.101] * 5 + [0.12, 0.121] * 5, {"unsteady", "noisy"}),
        ([0.1, 0.101] * 5 + [0.107, 0.108] * 5, set()),
        ([0.01, 0.0101] * 10, {"too_short"}),
        ([0.1] * 19 + [3.0], set()),  # one outlier moves no median
        ([0.1] * 18 + [0.3] * 2, {"heavy_tail"}),
        ([0.1, 0.105] * 9 + [0.118] * 2, set()),  # late, but within the spread of the rest
        ([0.1] * 58 + [0.3] * 2, set()),  # 3 %
        ([0.1] * 7 + [0.3], {"too_short"}),
    ],
)
def test_flags(samples, flags):
    assert set(sampling.flags(samples, EFFORT)) == flags


def test_flags_of_samples_have_four_digits():
    found = sampling.flags([0.1, 0.101] * 5 + [0.12, 0.1215] * 5, EFFORT)
    # The second half's median is 0.12075, the first one's 0.1005: 20.149 % more.
    assert found["unsteady"] == 0.2015
    # 1.4826 times the median deviation from 0.1105, 0.01, is 13.417 % of it.
    assert found["noisy"] == 0.1342
    assert sampling.flags([0.1] * 26 + [0.3] * 2, EFFORT) == {"heavy_tail": 0.0714}
