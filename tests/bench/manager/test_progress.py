"""What a running suite shows: a line per visit, or a bar with the time that is left."""

from __future__ import annotations

import io

import pytest

from tiebreak.bench import clock
from tiebreak.bench.manager.progress import Progress
from tiebreak.bench.suite import suite


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def visits():
    return [visit for part in suite.load("quick", "quick", 0).block(1) for visit in part]


@pytest.fixture
def clock_s(monkeypatch):
    """The clock that everything reads, in seconds; it stands still."""
    now = [0.0]
    monkeypatch.setattr(clock.Clock, "now_ns", lambda self: int(now[0] * 1e9))
    return now


def shown(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_elsewhere_than_on_a_terminal_each_visit_is_a_line(monkeypatch, visits):
    said = shown(monkeypatch, io.StringIO())
    progress = Progress(3)
    failed = {"status": "crash", "error": "ended by [SIGSEGV]"}
    progress.start(visits[0], 125.0)
    progress.finish(visits[0], [(None, {"status": "ok"})])
    progress.add(2)
    progress.start(visits[1], None)
    progress.finish(visits[1], [(None, failed), (None, failed)])
    progress.close()
    first, second, third = said.getvalue().splitlines()
    cell = visits[0].cells[0]
    probes = ", ".join(sorted(c.probe for c in visits[0].cells))
    about = f"{cell.label} · ppo · {cell.task} · {probes} · num_envs 4"
    assert first == f"[1/3, 2 min left] block 2 · {about}"
    assert second.startswith("[2/5] block 2 · ")
    assert third.endswith(": crash: ended by [SIGSEGV]")


def test_what_cannot_be_made_here_is_said_once_and_not_counted(monkeypatch, visits):
    said = shown(monkeypatch, io.StringIO())
    progress = Progress(1)
    missing = {"status": "missing", "error": "nvidia-smi is missing"}
    for block in range(3):
        progress.finish(visits[0]._replace(block=block), [(None, missing)])
    progress.start(visits[1], None)
    progress.finish(visits[1], [(None, {"status": "ok"})])
    progress.close()
    first, second = said.getvalue().splitlines()
    assert first.endswith(": left out: nvidia-smi is missing")
    assert "block" not in first
    assert second.startswith("[1/1] ")
    assert progress.finished == 1


def test_on_a_terminal_there_is_a_bar_with_the_time_left(monkeypatch, visits, clock_s):
    said = shown(monkeypatch, Terminal())
    progress = Progress(12)
    progress.start(visits[0], 700.0)
    progress.bar.refresh()
    assert "12 min left" in said.getvalue()
    assert visits[0].cells[0].label in said.getvalue()
    assert "0/12" in said.getvalue()
    progress.finish(visits[0], [])
    progress.add(4)
    progress.say("above the bar")
    progress.bar.refresh()
    assert "1/16" in said.getvalue()
    assert "above the bar" in said.getvalue()
    progress.close()


def test_the_time_left_counts_down_within_a_visit_and_not_below_nothing(visits, clock_s):
    progress = Progress(1, shown=False)
    assert progress.left_now() == ""
    progress.start(visits[0], 60.0)
    assert progress.left_now() == "60 s left"
    clock_s[0] += 45
    assert progress.left_now() == "15 s left"
    clock_s[0] += 45
    assert progress.left_now() == "0 s left"
    progress.start(visits[0])
    assert progress.left_now() == ""


def test_nothing_is_shown_to_who_wants_nothing(monkeypatch, visits):
    said = shown(monkeypatch, Terminal())
    progress = Progress(1, shown=False)
    progress.start(visits[0], 10.0)
    progress.finish(visits[0], [(None, {"status": "crash", "error": "x"})])
    progress.say("x")
    progress.close()
    assert said.getvalue() == ""
