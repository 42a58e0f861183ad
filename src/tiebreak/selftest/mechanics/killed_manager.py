"""kill -9 of the manager at random instants, then --resume: nothing finished is lost.

The manager runs in a process of its own, as `tiebreak run` does. What was finished is read from
the file without the store's help; what was started, from notes that the workers leave.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tiebreak.bench.clock import Timer
from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import RECORDS, SUITE, read_log
from tiebreak.bench.suite import suite
from tiebreak.bench.suite.plan import Plan
from tiebreak.core.seeding import derive
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.mechanics.faults import SUBJECT, lacking
from tiebreak.selftest.mechanics.process_tracking import Marked, watched

MODULE = "tiebreak.selftest.mechanics.killed_manager"
SCALE = "full"
AGAIN = 0.25
"""How often the resumed run is killed as well."""
LIMIT_S = 120.0
"""For a run of some seconds: one that takes longer hangs."""

RACES = """
[scales.full]
blocks = 2
certificate = false
sample_s = 0.001
samples = 3
steady_s = 0.4
warmup_s = 0.01
silent_calls = 2
memory_calls = 0
timeout_s = 60
[[races]]
task = "gymnasium/CartPole-v1"
num_envs = [1, 2]
probes = ["env"]
rows = [{ framework = "torch" }]
"""
"""Four visits, which need no framework: an environment alone is measured once for all."""

WRONG = (
    "lost", "unstored", "done again", "not resumed", "missing", "twice", "corrupt", "stuck",
    "survivors",
)  # fmt: skip
"""What may not happen: a stored visit is not there later; one was started and a later one too, but
it was not stored; a finished one was done again, or a missing one was not; the folder in the end
lacks one, holds one twice, or a damaged line; a run that was let be failed; a worker lives on."""

Key = tuple[int, str]
"""(block, cell) of a visit."""


class Session(NamedTuple):
    """One start of the manager."""

    killed_at_s: float | None
    """None if it was let be, or was done before."""
    code: int
    before: Mapping[Key, str]
    """Finished visits, and the hash of each record, when it began,"""
    after: Mapping[Key, str]
    """and when it was over."""
    started: list[Key]
    """Visits in the order in which it started them."""
    survivors: list[str]

    def unfinished(self) -> int:
        """Visits that it started and did not store."""
        return len(set(self.started) - self.after.keys())


def kills(ctx: Context) -> Outcome:
    """Fresh runs, each killed at an instant drawn over its whole length, then resumed."""
    if reason := watched() or lacking():
        return Outcome(None, {}, reason)
    return check(ctx, ctx.count(2, 10, 100))


def check(ctx: Context, count: int) -> Outcome:
    """The row, with so many kills."""
    rng, found, rounds = random.Random(ctx.seed), Counter(), []
    length_s = _length_s(ctx.folder / "whole")
    while found["kills"] < count:
        folder = ctx.folder / f"round-{len(rounds)}"
        with Race(folder, rng.randrange(2**31)) as race:
            length_s = min(length_s, race.go_on(rng.uniform(0, length_s)))
            while rng.random() < AGAIN:
                race.go_on(rng.uniform(0, length_s))
            race.go_on(None)
            judged = race.judge()
        rounds.append(race.told())
        found.update(judged)
        if not any(judged[name] for name in WRONG):
            shutil.rmtree(folder)  # else it stays, to be looked at
        if len(rounds) % 10 == 0:
            ctx.say(f"{found['kills']} of {count} kills")
    wrong = ", ".join(f"{found[name]} {name}" for name in WRONG if found[name])
    detail = (
        f"{found['kills']} kills, {found['in_flight']} of them in a visit: "
        f"{wrong or 'none lost, none done again, all resumed'}"
    )
    measured = {"length_s": round(length_s, 3), "rounds": len(rounds), **found}
    return Outcome(not wrong, measured, detail, {"rounds": rounds})


def drive(suite_file: str, folder: str, seed: str, resume: str) -> None:
    """What is killed: `tiebreak run SUITE --out FOLDER [--resume]`, with another subject."""
    manager.run_suite(
        suite_file, Path(folder), SCALE, bool(resume), False, seed=int(seed), subject=SUBJECT
    )


def finished(folder: Path) -> dict[Key, str]:
    """Visits with a whole line in the file, and its hash; read without the store."""
    out = {}
    lines = (folder / RECORDS).read_bytes() if (folder / RECORDS).exists() else b""
    for line in lines.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["kind"] == "visit":
                out[record["block"], record["cell_id"]] = record["hash"]
    return out


def _length_s(folder: Path) -> float:
    """Seconds that a run takes which nobody kills; its visits are as planned, or nothing is."""
    with Race(folder, 0) as race:
        seconds = race.go_on(None)
        judged = race.judge()
    if wrong := [name for name in WRONG if judged[name]]:
        raise RuntimeError(f"a run that nobody killed went wrong ({', '.join(wrong)}): {folder}")
    shutil.rmtree(folder)
    return seconds


class Race:
    """One results folder, and the sessions that filled it."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.out, self.seed = folder, folder / "out", seed
        self.marked = Marked(folder)
        self.suite = folder / "races.toml"
        self.suite.write_text(RACES, encoding="utf-8")
        self.plan: Plan = suite.load(str(self.suite), SCALE, seed)
        self.sessions: list[Session] = []

    def __enter__(self) -> Race:
        self.marked.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.marked.__exit__()

    def go_on(self, kill_at_s: float | None) -> float:
        """Start the manager, on what is there if anything is; kill it then, or let it be.

        Returns the seconds that it took; infinity if it was killed.
        """
        timer, seconds = Timer(), math.inf
        before, noted = finished(self.out), len(self.marked.notes())
        resume = "resume" if (self.out / SUITE).exists() else ""
        with open(self.folder / "errors.txt", "ab") as errors:
            arguments = (self.suite, self.out, self.seed, resume)
            process = self.marked.start(f"{MODULE}:drive", *arguments, stderr=errors)
            try:
                process.wait(LIMIT_S if kill_at_s is None else kill_at_s)
                kill_at_s, seconds = None, timer.elapsed_s()
            except subprocess.TimeoutExpired:
                process.kill()
        code, survivors = process.wait(), list(self.marked.outliving().values())
        started = [self._key(note) for note in self.marked.notes()[noted:]]
        after = finished(self.out)
        self.sessions.append(Session(kill_at_s, code, before, after, started, survivors))
        return seconds

    def planned(self) -> set[Key]:
        """Every visit that there has to be."""
        blocks = range(self.plan.settings.blocks)
        return {(block, cell.id) for block in blocks for cell in self.plan.cells}

    def judge(self) -> dict[str, int]:
        """How many kills there were, and of everything that may not happen, how often it did."""
        log = read_log(self.out)
        there = Counter((r["block"], r["cell_id"]) for r in log.records if r["kind"] == "visit")
        hashes = {r["hash"] for r in log.records}
        last, killed = self.sessions[-1], [s for s in self.sessions if s.killed_at_s is not None]
        return {
            "kills": len(killed),
            "in_flight": sum(s.unfinished() for s in killed),
            "lost": sum(h not in hashes for s in self.sessions for h in s.after.values()),
            "unstored": sum(s.unfinished() > (s in killed) for s in self.sessions),
            "done again": sum(len(s.before.keys() & set(s.started)) for s in self.sessions),
            "not resumed": len(self.planned() - last.before.keys() - set(last.started)),
            "missing": len(self.planned() - there.keys()),
            "twice": sum(n - 1 for n in there.values()),
            "corrupt": len(log.corrupt),
            "stuck": sum(s.killed_at_s is None and s.code != 0 for s in self.sessions),
            "survivors": sum(len(s.survivors) for s in self.sessions),
        }

    def told(self) -> list[list[Any]]:
        """Of each session: when it was killed, visits finished before it, after it, started."""
        return [
            [s.killed_at_s and round(s.killed_at_s, 3), len(s.before), len(s.after), len(s.started)]
            for s in self.sessions
        ]

    def _key(self, note: str) -> Key:
        seed, cell_id = note.split()
        task, blocks = self.plan.cells[0].task, range(self.plan.settings.blocks)
        named = {str(derive(self.plan.seed, "visit", block, task)): block for block in blocks}
        return named[seed], cell_id
