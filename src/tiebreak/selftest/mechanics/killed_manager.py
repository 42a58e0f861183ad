"""Check `kills`: kill -9 the manager at random instants, then --resume; nothing may be lost.

The manager runs in a process of its own, as `tiebreak run` does. Finished visits are read from the
file without the store; started ones from notes that the workers leave.
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
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.mechanics.faults import SUBJECT, why_unavailable
from tiebreak.selftest.mechanics.process_tracking import Marked, why_untrackable

MODULE = "tiebreak.selftest.mechanics.killed_manager"
SCALE = "full"
AGAIN = 0.25
"""Probability that the resumed run is killed as well."""
LIMIT_S = 120.0
"""Time limit of a run that takes some seconds."""

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
"""Four visits that need no framework: an environment alone is measured once for all cells."""

ERRORS = (
    "lost", "unstored", "done again", "not resumed", "missing", "twice", "corrupt", "stuck",
    "survivors",
)  # fmt: skip
"""What may not happen, in order: a stored visit is missing later; a visit that was followed by
another was not stored; a finished visit was run again; a missing one was not run on resume; the
final folder lacks a visit, or has one twice, or has a damaged line; a run that was not killed
failed; a worker outlived its manager."""

Key = tuple[int, str]
"""(block, cell_id) of a visit."""


class Session(NamedTuple):
    """One process of the manager."""

    killed_at_s: float | None
    """Seconds after its start; None if it ended by itself."""
    code: int
    """Exit code."""
    before: Mapping[Key, str]
    """Hash of the record of each visit that was finished when it began."""
    after: Mapping[Key, str]
    """Hash of the record of each visit that was finished when it ended."""
    started: list[Key]
    """Visits in the order in which it started them."""
    survivors: list[str]
    """Commands of workers that outlived it."""

    def unfinished(self) -> int:
        """Return the number of visits that it started and did not store."""
        return len(set(self.started) - self.after.keys())


def kills(ctx: Context) -> Outcome:
    """Kill fresh runs at instants drawn uniformly over their length, then resume them."""
    if reason := why_untrackable() or why_unavailable():
        return Outcome(None, {}, reason)
    return check(ctx, ctx.count(2, 10, 100))


def check(ctx: Context, count: int) -> Outcome:
    """Run the check with this number of kills."""
    rng = random.Random(ctx.seed)
    totals: Counter[str] = Counter()
    rounds = []
    length_s = _length_s(ctx.folder / "whole")
    while totals["kills"] < count:
        folder = ctx.folder / f"round-{len(rounds)}"
        with Race(folder, rng.randrange(2**31)) as race:
            length_s = min(length_s, race.run(kill_at_s=rng.uniform(0, length_s)))
            while rng.random() < AGAIN:
                race.run(kill_at_s=rng.uniform(0, length_s))
            race.run(kill_at_s=None)
            counts = race.judge()
        rounds.append(race.session_counts())
        totals.update(counts)
        if not any(counts[name] for name in ERRORS):
            shutil.rmtree(folder)  # otherwise it is kept for inspection
        if len(rounds) % 10 == 0:
            ctx.say(f"{totals['kills']} of {count} kills")
    errors = ", ".join(f"{totals[name]} {name}" for name in ERRORS if totals[name])
    detail = (
        f"{totals['kills']} kills, {totals['in_flight']} of them in a visit: "
        f"{errors or 'none lost, none done again, all resumed'}"
    )
    measured = {"length_s": round(length_s, 3), "rounds": len(rounds), **totals}
    return Outcome(not errors, measured, detail, {"rounds": rounds})


def drive(suite_file: str, folder: str, seed: str, resume: str) -> None:
    """Run a suite with our workload, as `tiebreak run` does: the process that is killed."""
    manager.run_suite(
        suite_file, Path(folder), SCALE, bool(resume), False, seed=int(seed), subject=SUBJECT
    )


def finished(folder: Path) -> dict[Key, str]:
    """Return the hash of each visit that has a whole line in the file, without using the store."""
    hashes = {}
    lines = (folder / RECORDS).read_bytes() if (folder / RECORDS).exists() else b""
    for line in lines.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if record["kind"] == "visit":
                hashes[record["block"], record["cell_id"]] = record["hash"]
    return hashes


def _length_s(folder: Path) -> float:
    """Return the seconds of a run that is not killed; raise RuntimeError if it goes wrong."""
    with Race(folder, 0) as race:
        seconds = race.run(kill_at_s=None)
        counts = race.judge()
    if errors := [name for name in ERRORS if counts[name]]:
        raise RuntimeError(f"a run that was not killed went wrong ({', '.join(errors)}): {folder}")
    shutil.rmtree(folder)
    return seconds


class Race:
    """One results folder, and the manager processes that filled it."""

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

    def run(self, kill_at_s: float | None) -> float:
        """Start the manager (resuming if there are results) and kill it after this many seconds.

        Returns the seconds that it took; infinity if it was killed.
        """
        timer = Timer()
        seconds = math.inf
        before = finished(self.out)
        noted = len(self.marked.notes())
        resume = "resume" if (self.out / SUITE).exists() else ""
        with open(self.folder / "errors.txt", "ab") as errors:
            arguments = (self.suite, self.out, self.seed, resume)
            process = self.marked.start(f"{MODULE}:drive", *arguments, stderr=errors)
            try:
                process.wait(LIMIT_S if kill_at_s is None else kill_at_s)
                kill_at_s, seconds = None, timer.elapsed_s()
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait()
        survivors = list(self.marked.survivors().values())
        started = [self._key(note) for note in self.marked.notes()[noted:]]
        self.sessions.append(
            Session(
                killed_at_s=kill_at_s,
                code=code,
                before=before,
                after=finished(self.out),
                started=started,
                survivors=survivors,
            )
        )
        return seconds

    def planned(self) -> set[Key]:
        """Return all planned visits."""
        blocks = range(self.plan.settings.blocks)
        return {(block, cell.id) for block in blocks for cell in self.plan.cells}

    def judge(self) -> dict[str, int]:
        """Count kills, and of everything that may not happen (ERRORS) how often it did."""
        log = read_log(self.out)
        stored = Counter((r["block"], r["cell_id"]) for r in log.records if r["kind"] == "visit")
        hashes = {r["hash"] for r in log.records}
        last = self.sessions[-1]
        killed = [s for s in self.sessions if s.killed_at_s is not None]
        return {
            "kills": len(killed),
            "in_flight": sum(s.unfinished() for s in killed),
            "lost": sum(h not in hashes for s in self.sessions for h in s.after.values()),
            "unstored": sum(s.unfinished() > (s in killed) for s in self.sessions),
            "done again": sum(len(s.before.keys() & set(s.started)) for s in self.sessions),
            "not resumed": len(self.planned() - last.before.keys() - set(last.started)),
            "missing": len(self.planned() - stored.keys()),
            "twice": sum(n - 1 for n in stored.values()),
            "corrupt": len(log.corrupt),
            "stuck": sum(s.killed_at_s is None and s.code != 0 for s in self.sessions),
            "survivors": sum(len(s.survivors) for s in self.sessions),
        }

    def session_counts(self) -> list[list[Any]]:
        """Return for each session [killed_at_s, finished before, finished after, started]."""
        return [
            [s.killed_at_s and round(s.killed_at_s, 3), len(s.before), len(s.after), len(s.started)]
            for s in self.sessions
        ]

    def _key(self, note: str) -> Key:
        seed, cell_id = note.split()
        task, blocks = self.plan.cells[0].task, range(self.plan.settings.blocks)
        block_of_seed = {str(derive(self.plan.seed, "visit", b, task)): b for b in blocks}
        return block_of_seed[seed], cell_id
