"""Visits that take turns: one at a time, as often as the others, whatever one of them does."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import fakes, scripted

from tiebreak.bench.manager import interleave, reaper, store
from tiebreak.bench.manager.manager import run_suite
from tiebreak.bench.manager.pending import split_by_device
from tiebreak.bench.suite.plan import Cell, Plan, Scale

NOTE = """
def note(text):
    with open("notes", "a") as file: file.write(text + " ")
"""


def taker(name, wanted, spent=10**9, cell="a", then="", work="time.sleep(0.01)"):
    """A worker that takes turns: it wants so many samples, and can take no more than `spent`."""
    return f"""{NOTE}
taken = 0
while ask({cell!r}, taken >= {wanted}, taken >= {spent}):
    note("{name}("); {work}; note(")")
    taken += 1
    {then or "pass"}
result({cell!r}, value_s=taken or 0.5)
"""


def notes(folder):
    return (folder / "notes").read_text().replace("( )", "").split()


def taken(made):
    return [{cell: found["value_s"] for cell, found in results.items()} for _, results in made]


def test_one_is_at_work_at_a_time_and_rounds_are_mirrored(tmp_path):
    scripted.run(tmp_path, taker("x", 4), taker("y", 4), taker("z", 4))
    assert notes(tmp_path) == [*"xyz", *"zyx"] * 2


def test_all_take_as_many_samples_as_the_one_that_needs_most(tmp_path):
    made = scripted.run(tmp_path, taker("x", 2), taker("y", 4))
    assert taken(made) == [{"a": 4}, {"a": 4}]


@pytest.mark.parametrize(("wanted", "taken_"), [(1, 1), (3, 4), (4, 4), (5, 6)])
def test_an_odd_number_of_rounds_is_made_even(tmp_path, wanted, taken_):
    made = scripted.run(tmp_path, taker("x", wanted), taker("y", 1))
    assert taken(made) == [{"a": taken_}, {"a": taken_}]


def test_one_that_has_no_time_left_sits_out(tmp_path):
    made = scripted.run(tmp_path, taker("x", 9, spent=3), taker("y", 6))
    assert taken(made) == [{"a": 3}, {"a": 6}]


def test_the_second_is_prepared_when_the_first_waits(tmp_path):
    code = 'note("p("); time.sleep(0.2); note(")")'
    scripted.run(tmp_path, *(NOTE + code + taker(name, 1) for name in "xy"))
    assert notes(tmp_path) == [*"ppxy"]


PREPARES = 'note("begins"); time.sleep(0.5); note("ready")\n'


@pytest.mark.parametrize(
    ("at_once", "order", "overlapped"),
    [
        (1, ["begins", "ready"] * 3, [False, False, False]),
        (2, ["begins", "begins", "ready"], [True, True]),
    ],
)
def test_some_are_prepared_at_the_same_time_and_sampled_apart(tmp_path, at_once, order, overlapped):
    codes = [NOTE + PREPARES + taker(name, 4) for name in "xyz"]
    made = scripted.run(tmp_path, *codes, at_once=at_once)
    assert notes(tmp_path)[: len(order)] == order
    assert sorted(notes(tmp_path)[:6]) == ["begins"] * 3 + ["ready"] * 3
    assert notes(tmp_path)[6:18] == [*"xyz", *"zyx"] * 2
    assert [one.overlapped for one, _ in made][: len(overlapped)] == overlapped


def test_phases_count_that_were_alone_though_processes_end_together(tmp_path):
    made = scripted.run(tmp_path, taker("x", 4), taker("y", 4), at_once=1, end_at_once=2)
    assert [one.overlapped for one, _ in made] == [False, False]


class Rounds(interleave.Pace):
    """Takes so many rounds of each probe, and no probe but the first."""

    def __init__(self, rounds, only_first=False):
        self.rounds, self.only_first, self.asked = rounds, only_first, []

    def wants_more(self, probe, rounds, seconds):
        self.asked.append((probe, rounds))
        return rounds < self.rounds

    def goes_on(self, probes):
        self.left = set(probes)
        return not self.only_first


def test_the_pace_asks_for_further_rounds(tmp_path):
    pace = Rounds(6)
    made = scripted.run(tmp_path, taker("x", 2), taker("y", 4), pace=pace)
    assert taken(made) == [{"a": 6}, {"a": 6}]
    assert pace.asked == [("a", 4), ("a", 5), ("a", 6)]


def test_probes_for_which_no_time_is_left_are_not_waited_for(tmp_path):
    dismissed = f"""{NOTE}
for cell in ("p", "q"):
    event("ready", cell, enough=False)
    while (reply := os.read(int(sys.argv[2]), 64)) == b"go":
        event("ready", cell, enough=True)
    note(reply.decode()); result(cell)
    if reply == b"last": break
"""
    late = f"{NOTE}ask('q'); note('sent home')"  # it has only the later probe, and no sample of it
    pace = Rounds(0, only_first=True)
    made = scripted.run(
        tmp_path,
        (dismissed, "p", "q"),
        (dismissed, "p", "q"),
        (late, "q"),
        probes=("p", "q"),
        pace=pace,
    )
    assert notes(tmp_path) == ["last", "last", "sent", "home"]
    assert [list(results) for _, results in made] == [["p"], ["p"], []]
    assert [one.outcome for one, _ in made] == [("ok", "")] * 3
    assert pace.left == {"q"}


@pytest.mark.parametrize(
    ("ends", "ending"),
    [
        ("os._exit(3)", ("crash", "ended with status 3 and no result")),
        ("os.kill(os.getpid(), 9)", ("crash", "ended by SIGKILL")),
        ("time.sleep(600)", ("timeout", "no result within 2 s")),
    ],
)
def test_one_that_ends_in_its_turn_is_missed_by_nobody(tmp_path, ends, ending):
    bad = taker("x", 4, then=f"{ends} if taken == 2 else None")
    made = scripted.run(tmp_path, bad, taker("y", 4), taker("z", 4), timeout_s=2.0)
    assert made[0][0].outcome == ending
    assert taken(made) == [{}, {"a": 4}, {"a": 4}]


def test_one_that_dies_while_it_waits_is_found_at_its_turn(tmp_path):
    dies = taker("x", 4, then="signal.setitimer(signal.ITIMER_REAL, 0.05)")  # SIGALRM ends it
    made = scripted.run(tmp_path, dies, taker("y", 4, work="time.sleep(0.3)"))
    assert made[0][0].outcome == ("crash", "ended by SIGALRM")
    assert taken(made) == [{}, {"a": 4}]


def test_a_result_in_the_middle_leaves_the_rounds(tmp_path):
    """A sample that raises is a result, too: the worker goes on to its next probe, or ends."""
    fails = "result('a', status='failed', error='no'); sys.exit()"
    made = scripted.run(tmp_path, taker("x", 4, then=fails), taker("y", 4))
    assert made[0][1]["a"]["status"] == "failed"
    assert made[0][0].outcome == ("ok", "")
    assert taken(made)[1] == {"a": 4}


def test_waiting_is_not_what_times_out(tmp_path):
    slow = taker("y", 6, work="time.sleep(0.4)")
    made = scripted.run(tmp_path, taker("x", 6), slow, timeout_s=5.0)
    assert [worker.outcome[0] for worker, _ in made] == ["ok", "ok"]
    assert made[0][0].active_s < 2.0 < made[1][0].active_s


def test_probes_are_measured_in_one_order_by_all_that_have_them(tmp_path):
    both = taker("x", 2, cell="p") + taker("X", 2, cell="q")
    late, early = taker("Y", 2, cell="q"), taker("z", 2, cell="p")
    made = scripted.run(
        tmp_path, (late, "q"), (both, "p", "q"), (early, "p"), probes=("p", "q")
    )  # fmt: skip
    assert notes(tmp_path) == ["x", "z", "z", "x", "Y", "X", "X", "Y"]
    assert taken(made) == [{"q": 2}, {"p": 2, "q": 2}, {"p": 2}]


@pytest.mark.parametrize("text", ['{"when": "ready"}', '{"when": "ready", "cell_id": "z"}', "{"])
def test_only_a_cell_of_its_own_is_asked_for(tmp_path, text):
    code = f"tell({text!r}); time.sleep(600)"
    made = scripted.run(tmp_path, code, taker("y", 2), timeout_s=1.0)
    assert made[0][0].outcome == ("timeout", "no result within 1 s")
    assert taken(made)[1] == {"a": 2}


def test_one_that_never_stops_asking_holds_nobody_up(tmp_path):
    flood = "\nwhile True: event('ready', enough=True, spent=True)"
    made = scripted.run(tmp_path, flood, taker("y", 4), timeout_s=1.0)
    assert made[0][0].outcome[0] == "timeout"
    assert taken(made)[1] == {"a": 4}


@pytest.mark.skipif(not reaper.LINUX, reason="orphans are found by /proc")
def test_what_one_leaves_behind_ends_with_it_and_the_others_stay(tmp_path):
    leaves = """
p = subprocess.Popen(['sleep', '600'], start_new_session=True)
open("left", "w").write(str(p.pid)); result()"""
    there = "os.path.exists('/proc/' + open('left').read())"
    looks = f"{NOTE}\nnote('there' if {there} else 'gone')\n"
    made = scripted.run(tmp_path, taker("y", 2), leaves, looks + taker("z", 2))
    assert notes(tmp_path)[0] == "gone"
    assert [worker.outcome for worker, _ in made] == [("ok", "")] * 3


def test_an_interrupt_ends_all_of_them(tmp_path, monkeypatch):
    made = [scripted.worker(tmp_path, taker(name, 10**6))[0] for name in "xy"]
    answers = iter(range(20))

    def reply(self, word, reply_=scripted.Scripted.reply):
        if next(answers, None) is None:
            raise KeyboardInterrupt
        reply_(self, word)

    monkeypatch.setattr(scripted.Scripted, "reply", reply)
    with pytest.raises(KeyboardInterrupt):
        interleave.run_interleaved(made, 60.0)
    assert not [one for one in made if Path(f"/proc/{one.process.pid}").exists()]


def test_records_name_those_that_took_turns(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", fakes.python_path())
    suite = fakes.suite(tmp_path, "fine", "exits", "wrong")
    folder = run_suite(
        suite, tmp_path / "out", "smoke", progress=False, subject="bench.fakes:make_subject"
    )
    records = [r for r in store.read_records(folder) if r["kind"] == "visit"]
    by_block = [{r["turns"] for r in records if r["block"] == block} for block in (0, 1)]
    assert [len(turns) for turns in by_block] == [1, 1]
    assert "" not in by_block[0] | by_block[1]
    assert by_block[0] != by_block[1]
    counts = {}
    for r in records:
        counts.setdefault((r["block"], r["cell"]["probe"]), set()).add(len(r["samples_s"]))
    assert all(len(found - {0}) == 1 for found in counts.values())


def test_on_an_accelerator_each_visit_is_alone():
    def plan(device):
        cells = tuple(
            Cell("ppo", f, "jit", "gymnax/CartPole-v1", "fused", "train", device=device)
            for f in ("linen", "nnx")
        )
        return Plan("x", "full", 0, Scale(), cells)

    (runs,) = plan("cpu").block(0)
    assert [len(part) for part in split_by_device(runs)] == [2]
    (runs,) = plan("gpu").block(0)
    assert [len(part) for part in split_by_device(runs)] == [1, 1]
