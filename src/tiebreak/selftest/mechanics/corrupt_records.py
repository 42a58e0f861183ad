"""Damaged records: what is intact loads, what is not is set aside and counted, nothing crashes.

All of it is done to copies of the folder of a real run of the `kills` row's races.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tiebreak.bench.manager import manager
from tiebreak.bench.manager.store import RECORDS, TORN, Log, Store, read_log
from tiebreak.bench.record import SCHEMA, Record, seal
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.mechanics import killed_manager, unwritable
from tiebreak.selftest.mechanics.faults import SUBJECT, lacking
from tiebreak.selftest.mechanics.process_tracking import Marked
from tiebreak.stats.ratios import summarize

Check = Iterator[str]
"""One item for each case: what went wrong in it, or nothing."""

GARBAGE = (
    b"", b"\x00", b"\xff\xfe", b"[]", b"null", b"{}", b'{"hash": null}', b"[" * 100_000,
    b'{"hash":"0","a":1e999}', b'{"a":NaN,"hash":"0"}', b'{"kind":"visit"', b"x" * 1_000_000,
)  # fmt: skip
"""Lines that nobody should write; the first, an empty one, is no line at all."""


def damage(ctx: Context) -> Outcome:
    """Every kind of damage, on a run's own records; then folders that cannot be written."""
    if reason := lacking():
        return Outcome(None, {}, reason)
    run = Original(ctx.folder / "original", ctx.seed)
    flips = ctx.count(30, 100, 1000)
    parts: dict[str, Check] = {
        "cut": cut(run, ctx.count(20, 1, 1)),
        "flipped": flipped(run, flips, ctx.seed),
        "newer": newer(run),
        "garbage": garbage(run),
        "reported": reported(run, ctx.count(1, 2, 10), ctx.seed),
        "resumed": resumed(run, ctx.count(1, 2, 10), ctx.seed),
        "disk full": unwritable.full(run),
        "read-only": unwritable.read_only(run),
    }
    return outcome(ctx, parts)


def outcome(ctx: Context, parts: dict[str, Check]) -> Outcome:
    """The row's, from the cases of its parts."""
    measured: dict[str, Any] = {}
    wrong, skipped = [], []
    for name, cases in parts.items():
        seen = list(cases)
        skipped += [f"{name}: {why}" for why in seen if why.startswith(unwritable.SKIPPED)]
        bad = [why for why in seen if why and not why.startswith(unwritable.SKIPPED)]
        measured[name] = {"cases": len(seen), "wrong": len(bad)}
        wrong += [f"{name}: {why}" for why in bad]
        ctx.say(f"{name}: {len(seen)} cases, {len(bad)} wrong")
    cases = ", ".join(f"{name} {part['cases']}" for name, part in measured.items())
    detail = f"{len(wrong)} of {sum(p['cases'] for p in measured.values())} cases wrong ({cases})"
    detail = "; ".join([detail, *wrong[:1], *skipped])
    if not wrong:
        shutil.rmtree(ctx.folder / "original")
    return Outcome(not wrong, measured, detail, {"wrong": wrong[:100]})


COMMAND = "from tiebreak.cli import main; raise SystemExit(main())"
"""The command line, in a process of its own: it lies above this floor."""


class Original:
    """A run's folder, and copies of it with other records."""

    def __init__(self, folder: Path, seed: int):
        folder.mkdir(parents=True)
        self.suite, self.folder = folder / "races.toml", folder / "out"
        self.copy = folder / "copy"
        self.suite.write_text(killed_manager.RACES, encoding="utf-8")
        self.seed = seed
        self.run(self.folder, resume=False)
        self.lines = (self.folder / RECORDS).read_bytes().splitlines(keepends=True)
        self.records = read_log(self.folder).records
        self.by_hash = {record["hash"]: record for record in self.records}
        if len(self.records) != len(self.lines):
            raise RuntimeError(f"a run that nobody damaged does not load: {self.folder}")

    def run(self, folder: Path, resume: bool) -> None:
        """What made the original, again, or the rest of it."""
        manager.run_suite(
            str(self.suite),
            folder,
            killed_manager.SCALE,
            resume,
            False,
            seed=self.seed,
            subject=SUBJECT,
        )

    def with_records(self, data: bytes) -> Path:
        """A copy of the folder whose records are `data`."""
        shutil.rmtree(self.copy, ignore_errors=True)
        self.copy.mkdir()
        for file in (f for f in self.folder.iterdir() if f.is_file()):
            shutil.copy(file, self.copy)
        (self.copy / RECORDS).write_bytes(data)
        return self.copy

    def strange(self, records: Iterable[Record]) -> str:
        """Whether something was accepted that this run did not write, or twice."""
        seen = set()
        for record in records:
            if self.by_hash.get(record["hash"]) != record or record["hash"] in seen:
                return f"accepted a record that was never written: {str(record)[:200]}"
            seen.add(record["hash"])
        return ""


def cut(run: Original, every: int) -> Check:
    """The last line cut after each of its bytes, read, then written to."""
    head, last = b"".join(run.lines[:-1]), run.lines[-1]
    extra = {"kind": "damage"}
    for kept in range(0, len(last) + 1, every):
        folder = run.with_records(head + last[:kept])
        whole = kept >= len(last) - 1  # only the newline is gone
        wanted = run.records if whole else run.records[:-1]
        log = read_log(folder)
        store = Store(folder)
        store.append(extra)
        store.close()
        healed = read_log(folder)
        tail = (folder / TORN).read_bytes() if (folder / TORN).exists() else b""
        if log.records != wanted or len(log.corrupt) != (not whole and kept > 0):
            yield f"{kept} bytes of the last line: {len(log.records)} records"
        elif healed.corrupt or healed.records[:-1] != wanted:
            yield f"{kept} bytes of the last line, then another: {len(healed.records)} records"
        elif tail != (b"" if whole or not kept else last[:kept] + b"\n"):
            yield f"{kept} bytes of the last line are not in {TORN}"
        else:
            yield ""


def flip(run: Original, rng: random.Random) -> tuple[bytes, set[int]]:
    """The records with one bit turned over, and the lines that it touches."""
    data = bytearray(b"".join(run.lines))
    at = rng.randrange(len(data))
    line = bytes(data[:at]).count(b"\n")
    touched = {line, line + 1} if data[at] == ord("\n") else {line}
    data[at] ^= 1 << rng.randrange(8)
    return bytes(data), touched


def flipped(run: Original, count: int, seed: int) -> Check:
    """One bit anywhere: only the line that it is in may be missing, and then it is counted."""
    rng = random.Random(seed)
    for number in range(count):
        data, touched = flip(run, rng)
        log = read_log(run.with_records(data))
        wrong = run.strange(log.records) or _lost(run, log, touched)
        if not wrong and number % 10 == 0:
            summarize(log.records)
        yield wrong


def _lost(run: Original, log: Log, touched: set[int]) -> str:
    """What of the untouched lines did not load, or of the touched ones was not counted."""
    loaded = {record["hash"] for record in log.records}
    intact = [r for i, r in enumerate(run.records) if i not in touched]
    if lost := [r for r in intact if r["hash"] not in loaded]:
        return f"{len(lost)} intact records did not load"
    uncounted = len(loaded) < len(run.records) and not log.corrupt and not log.newer
    return "a damaged line was not counted" if uncounted else ""


def newer(run: Original) -> Check:
    """Intact records of a schema to come, among ours and at the end."""
    future = seal({**run.records[-1], "schema": SCHEMA + 1})
    data = b"".join([*run.lines[:2], future, *run.lines[2:], future])
    log = read_log(run.with_records(data))
    right = log.records == run.records and log.newer == 2 and not log.corrupt
    yield "" if right else f"{len(log.records)} records, {log.newer} newer, {len(log.corrupt)} bad"


def garbage(run: Original) -> Check:
    """A line of something else, in the middle and at the end."""
    for line in GARBAGE:
        data = b"".join([*run.lines[:3], line + b"\n", *run.lines[3:], line])
        log = read_log(run.with_records(data))
        right = log.records == run.records and len(log.corrupt) == (2 if line else 0)
        yield "" if right else f"{line[:20]!r}: {len(log.records)} records, {log.corrupt}"[:200]


def reported(run: Original, count: int, seed: int) -> Check:
    """`tiebreak report` of damaged folders ends well."""
    rng = random.Random(seed)
    for _ in range(count):
        data, _ = flip(run, rng)
        folder = run.with_records(data[: len(data) - rng.randrange(len(run.lines[-1]))])
        command = [sys.executable, "-c", COMMAND, "report", str(folder)]
        with Marked(run.folder.parent) as marked:
            page = marked.folder / "report.html"
            done = subprocess.run(
                [*command, "-o", str(page)], env=marked.environment(), capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            right = done.returncode == 0 and page.stat().st_size > 0
        yield "" if right else f"status {done.returncode}: {done.stderr[-200:]}"


def resumed(run: Original, count: int, seed: int) -> Check:
    """A run that lost a record to a flipped bit measures that visit again, and no other."""
    rng = random.Random(seed)
    visits = [i for i, record in enumerate(run.records) if record["kind"] == "visit"]
    for _ in range(count):
        data, touched = flip(run, rng)
        while not touched & set(visits) or len(touched) > 1:
            data, touched = flip(run, rng)
        folder = run.with_records(data)
        before = read_log(folder).records
        run.run(folder, resume=True)
        after = read_log(folder).records
        keys = [(r["block"], r["cell_id"]) for r in after if r["kind"] == "visit"]
        right = after[: len(before)] == before and len(set(keys)) == len(keys) == len(visits)
        yield "" if right else f"{len(keys)} visits, {len(set(keys))} different, of {len(visits)}"
