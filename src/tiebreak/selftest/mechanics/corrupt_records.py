"""Check `damage`: intact records load, damaged ones are set aside and counted, nothing crashes.

Records are damaged in copies of the folder of a real run, of the same races as the check `kills`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tiebreak.bench.manager.store import TORN, Log, Store, read_log
from tiebreak.bench.record import SCHEMA, seal
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.mechanics import unwritable
from tiebreak.selftest.mechanics.faults import why_unavailable
from tiebreak.selftest.mechanics.original_run import COMMAND, OriginalRun
from tiebreak.selftest.mechanics.process_tracking import Marked
from tiebreak.stats.ratios import summarize

Cases = Iterator[str]
"""One text for each case: what went wrong, or empty."""

GARBAGE = (
    b"", b"\x00", b"\xff\xfe", b"[]", b"null", b"{}", b'{"hash": null}', b"[" * 100_000,
    b'{"hash":"0","a":1e999}', b'{"a":NaN,"hash":"0"}', b'{"kind":"visit"', b"x" * 1_000_000,
)  # fmt: skip
"""Invalid lines; the first, an empty one, does not count as a line."""


def damage(ctx: Context) -> Outcome:
    """Try every kind of damage on a run's records, then folders that cannot be written."""
    if reason := why_unavailable():
        return Outcome(None, {}, reason)
    run = OriginalRun(ctx.folder / "original", ctx.seed)
    flips = ctx.count(30, 100, 1000)
    parts: dict[str, Cases] = {
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


def outcome(ctx: Context, parts: dict[str, Cases]) -> Outcome:
    """Run the cases of all parts, and count those that went wrong."""
    measured: dict[str, Any] = {}
    wrong: list[str] = []
    skipped: list[str] = []
    for name, cases in parts.items():
        results = list(cases)
        skipped += [f"{name}: {why}" for why in results if why.startswith(unwritable.SKIPPED)]
        errors = [why for why in results if why and not why.startswith(unwritable.SKIPPED)]
        wrong += [f"{name}: {why}" for why in errors]
        measured[name] = {"cases": len(results), "wrong": len(errors)}
        ctx.say(f"{name}: {len(results)} cases, {len(errors)} wrong")
    cases = ", ".join(f"{name} {part['cases']}" for name, part in measured.items())
    detail = f"{len(wrong)} of {sum(p['cases'] for p in measured.values())} cases wrong ({cases})"
    detail = "; ".join([detail, *wrong[:1], *skipped])
    if not wrong:
        shutil.rmtree(ctx.folder / "original")
    return Outcome(not wrong, measured, detail, {"wrong": wrong[:100]})


def cut(run: OriginalRun, every: int) -> Cases:
    """Cut the last line at every `every`-th byte, read the file, then append to it."""
    head, last = b"".join(run.lines[:-1]), run.lines[-1]
    extra = {"kind": "damage"}
    for kept in range(0, len(last) + 1, every):
        folder = run.with_records(head + last[:kept])
        is_whole = kept >= len(last) - 1  # only the newline is missing
        expected = run.records if is_whole else run.records[:-1]
        log = read_log(folder)
        store = Store(folder)
        store.append(extra)
        store.close()
        healed = read_log(folder)
        tail = (folder / TORN).read_bytes() if (folder / TORN).exists() else b""
        if log.records != expected or len(log.corrupt) != (not is_whole and kept > 0):
            yield f"{kept} bytes of the last line: {len(log.records)} records"
        elif healed.corrupt or healed.records[:-1] != expected:
            yield f"{kept} bytes of the last line, then another: {len(healed.records)} records"
        elif tail != (b"" if is_whole or not kept else last[:kept] + b"\n"):
            yield f"{kept} bytes of the last line are not in {TORN}"
        else:
            yield ""


def flip(run: OriginalRun, rng: random.Random) -> tuple[bytes, set[int]]:
    """Return the records with one bit flipped, and the numbers of the lines that it affects."""
    data = bytearray(b"".join(run.lines))
    at = rng.randrange(len(data))
    line = bytes(data[:at]).count(b"\n")
    touched = {line, line + 1} if data[at] == ord("\n") else {line}
    data[at] ^= 1 << rng.randrange(8)
    return bytes(data), touched


def flipped(run: OriginalRun, count: int, seed: int) -> Cases:
    """Flip one bit anywhere: only its line may be missing, and then it must be counted."""
    rng = random.Random(seed)
    for number in range(count):
        data, touched = flip(run, rng)
        log = read_log(run.with_records(data))
        wrong = run.unknown_record(log.records) or _lost(run, log, touched)
        if not wrong and number % 10 == 0:
            summarize(log.records)
        yield wrong


def _lost(run: OriginalRun, log: Log, touched: set[int]) -> str:
    """Return which untouched lines did not load, or touched ones were not counted; or empty."""
    loaded = {record["hash"] for record in log.records}
    intact = [r for i, r in enumerate(run.records) if i not in touched]
    if lost := [r for r in intact if r["hash"] not in loaded]:
        return f"{len(lost)} intact records did not load"
    uncounted = len(loaded) < len(run.records) and not log.corrupt and not log.newer
    return "a damaged line was not counted" if uncounted else ""


def newer(run: OriginalRun) -> Cases:
    """Add intact records of a future schema, in the middle and at the end."""
    future = seal({**run.records[-1], "schema": SCHEMA + 1})
    data = b"".join([*run.lines[:2], future, *run.lines[2:], future])
    log = read_log(run.with_records(data))
    right = log.records == run.records and log.newer == 2 and not log.corrupt
    yield "" if right else f"{len(log.records)} records, {log.newer} newer, {len(log.corrupt)} bad"


def garbage(run: OriginalRun) -> Cases:
    """Add an invalid line in the middle and at the end."""
    for line in GARBAGE:
        data = b"".join([*run.lines[:3], line + b"\n", *run.lines[3:], line])
        log = read_log(run.with_records(data))
        right = log.records == run.records and len(log.corrupt) == (2 if line else 0)
        yield "" if right else f"{line[:20]!r}: {len(log.records)} records, {log.corrupt}"[:200]


def reported(run: OriginalRun, count: int, seed: int) -> Cases:
    """Run `tiebreak report` on damaged folders; it must write a page."""
    rng = random.Random(seed)
    for _ in range(count):
        data, _ = flip(run, rng)
        folder = run.with_records(data[: len(data) - rng.randrange(len(run.lines[-1]))])
        command = [sys.executable, "-c", COMMAND, "report", str(folder)]
        with Marked(run.folder.parent) as marked:
            page = marked.folder / "report.html"
            done = subprocess.run(
                [*command, "-o", str(page)],
                env=marked.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            right = done.returncode == 0 and page.stat().st_size > 0
        yield "" if right else f"status {done.returncode}: {done.stderr[-200:]}"


def resumed(run: OriginalRun, count: int, seed: int) -> Cases:
    """Resume a run that lost a record to a flipped bit: it must repeat that visit and no other."""
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
