"""A script with a loop of its own goes on for one turn at a time."""

from __future__ import annotations

import sys
import threading

import pytest

from tiebreak.peers.script import Script, stand_in


def looping(script_of, steps, seen):
    for step in range(1, steps + 1):
        seen.append(step)
        script_of[0].pause(10 * step)


def make(steps):
    script_of, seen = [], []
    script_of.append(Script(lambda: looping(script_of, steps, seen)))
    return script_of[0], seen


def test_it_takes_the_steps_of_a_turn_and_waits():
    script, seen = make(100)
    assert (seen, script.counts()) == ([], {"env_steps": 0})
    script.train(10)
    assert (seen, script.counts()) == ([1], {"env_steps": 10})
    script.train(25)  # to the next pause
    assert (seen, script.counts()) == ([1, 2, 3, 4], {"env_steps": 40})
    script.train(10)
    assert script.counts() == {"env_steps": 50}
    script.close()
    assert threading.active_count() == 1 or not script._thread.is_alive()
    assert seen == [1, 2, 3, 4, 5]


def test_an_error_in_the_script_is_raised_where_its_turn_was_given():
    def broken():
        raise ValueError("no such task")

    script = Script(broken)
    with pytest.raises(RuntimeError, match="the script failed: no such task"):
        script.train(10)
    script.close()


def test_a_script_that_ends_too_early_says_so():
    script, _ = make(2)
    script.train(20)
    script.train(10)  # the loop is over
    with pytest.raises(RuntimeError, match="the script has ended already"):
        script.train(10)
    script.close()


def test_one_that_never_ran_can_be_closed():
    script, seen = make(2)
    script.close()
    assert seen == []


def test_a_module_stands_in_for_another(monkeypatch):
    monkeypatch.delitem(sys.modules, "not_installed", raising=False)
    stand_in("not_installed", run=None)
    import not_installed

    assert not_installed.run is None
