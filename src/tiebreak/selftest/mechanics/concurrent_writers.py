"""Check `writers`: many processes append to one results folder, and some of them are killed.

No record may be lost or torn. Every writer notes in a file of its own which records it has stored.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tiebreak.bench.clock import nap
from tiebreak.bench.manager.store import RECORDS, TORN, Store, read_log
from tiebreak.bench.record import seal
from tiebreak.selftest.base import Context, Outcome
from tiebreak.selftest.mechanics.process_tracking import Marked

MODULE = "tiebreak.selftest.mechanics.concurrent_writers"
LARGEST = 4096
"""Largest payload in hex digits: records of visits may fill several pages, too."""
UNLIMITED = 10**9
"""Records of a writer that runs until it is stopped or killed."""
STOP = "stop"
"""Name of a file that makes all writers stop."""


def writers(ctx: Context) -> Outcome:
    """Run 8 writers undisturbed, then again while others are killed in the middle of a write."""
    kills = ctx.count(1, 3, 20)
    calm = undisturbed(ctx.folder / "calm", writers=8, records=ctx.count(25, 100, 1000))
    ctx.say(f"{calm['found']} of {calm['written']} records stored")
    wild = disturbed(ctx.folder / "disturbed", writers=8, kills=kills, seed=ctx.seed)

    errors = {k: calm[k] + wild[k] for k in ("lost", "repeated", "altered", "unknown", "corrupt")}
    errors["unhealed"] = wild["torn_tails"] - wild["healed"]
    passed = not any(errors.values()) and wild["killed"] == kills == wild["torn_tails"]
    if passed:  # otherwise the folders are kept for inspection
        shutil.rmtree(ctx.folder / "calm")
        shutil.rmtree(ctx.folder / "disturbed")
    summary = ", ".join(f"{n} {k}" for k, n in errors.items() if n) or "none lost, none torn"
    detail = (
        f"{calm['written']} records of 8 writers, then {wild['written']} while {wild['killed']} "
        f"more were killed and {wild['torn_tails']} tails torn: {summary}"
    )
    return Outcome(passed, {"calm": calm, "disturbed": wild}, detail)


def undisturbed(folder: Path, writers: int, records: int) -> dict[str, int]:
    """Let processes write `records` each at the same time; count what was stored."""
    with Marked(folder) as marked:
        for process in _start(marked, folder, range(writers), records):
            process.wait()
    return _judge(folder, dict.fromkeys(range(writers), records))


def disturbed(folder: Path, writers: int, kills: int, seed: int) -> dict[str, int]:
    """Let processes write while others are killed at random instants or die within a line."""
    rng = random.Random(seed)
    names = range(writers + kills)
    victims = names[writers:]
    torn = 0
    with Marked(folder) as marked:
        running = _start(marked, folder, range(writers), UNLIMITED)
        for victim in victims:
            [process] = _start(marked, folder, [victim], UNLIMITED)
            _wait_for_first_record(process, _acknowledgements(folder, victim))
            nap(rng.uniform(0.0, 0.2))
            process.kill()
            process.wait()
            torn += marked.start(f"{MODULE}:tear", folder).wait() == -signal.SIGKILL
        (folder / STOP).touch()
        succeeded = sum(process.wait() == 0 for process in running)
    Store(folder).close()  # heals the last torn tail, which no writer comes after
    files = {name: _acknowledgements(folder, name) for name in names}
    written = {name: file.read_bytes().count(b"\n") for name, file in files.items()}
    torn_file = folder / TORN
    healed = torn_file.read_bytes().count(b"\n") if torn_file.exists() else 0
    counts = _judge(folder, written, victims)
    counts["lost"] += writers - succeeded  # a writer that failed cannot say what it lost
    return {**counts, "killed": kills, "torn_tails": torn, "healed": healed}


def write(folder: str, writer: str, records: str) -> None:
    """Append records and note each in the writer's own file; runs in a process of its own."""
    store, number = Store(folder), 0
    with open(_acknowledgements(Path(folder), int(writer)), "ab", buffering=0) as acknowledged:
        while number < int(records) and not (Path(folder) / STOP).exists():
            store.append(record(int(writer), number))
            acknowledged.write(b"%d\n" % number)
            number += 1
    store.close()


def tear(folder: str) -> None:
    """Write half a record as the store does, then die; runs in a process of its own."""
    file = os.open(Path(folder) / RECORDS, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(file, fcntl.LOCK_EX)
    line = seal(record(-1, os.getpid()))
    os.write(file, line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def record(writer: int, number: int) -> dict[str, Any]:
    """Return record `number` of a writer; its length is random, up to some pages."""
    rng = random.Random(f"{writer}/{number}")
    payload = f"{rng.getrandbits(4 * rng.randint(1, LARGEST)):x}"
    return {"kind": "writer", "writer": writer, "number": number, "payload": payload}


def _start(
    marked: Marked, folder: Path, writers: Iterable[int], records: int
) -> list[subprocess.Popen[bytes]]:
    return [marked.start(f"{MODULE}:write", folder, writer, records) for writer in writers]


def _wait_for_first_record(process: subprocess.Popen[bytes], acknowledged: Path) -> None:
    """Wait until the writer has stored a record: an earlier kill would only hit its imports."""
    while process.poll() is None and not (acknowledged.exists() and acknowledged.stat().st_size):
        nap(0.01)


def _acknowledgements(folder: Path, writer: int) -> Path:
    return folder / f"acknowledged-{writer}"


def _judge(folder: Path, written: dict[int, int], killed: Iterable[int] = ()) -> dict[str, int]:
    """Compare the stored records with the written ones.

    Args:
      folder: the results folder.
      written: number of records that each writer noted as stored.
      killed: writers that may have stored one record more than they could note.
    """
    log = read_log(folder)
    known = {(writer, n): 0 for writer, count in written.items() for n in range(count)}
    optional = {(writer, written[writer]) for writer in killed}
    found = Counter((r["writer"], r["number"]) for r in log.records)
    altered = sum(
        any(r.get(k) != v for k, v in record(r["writer"], r["number"]).items()) for r in log.records
    )
    return {
        "written": len(known),
        "found": sum(found[key] > 0 for key in known),
        "lost": sum(found[key] == 0 for key in known),
        "repeated": sum(n - 1 for n in found.values()),
        "altered": altered,
        "unknown": len(found.keys() - known.keys() - optional),
        "corrupt": len(log.corrupt),
    }
