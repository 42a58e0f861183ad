"""Many writers in one results folder: none lost, none torn, even where some of them are killed."""

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
from tiebreak.selftest.checks import Context, Outcome
from tiebreak.selftest.mechanics.process_tracking import Marked

MODULE = "tiebreak.selftest.mechanics.concurrent_writers"
LARGEST = 4096
"""Hex digits in a record: short ones and some of several pages, as visits' records are."""
ENDLESS = 10**9
STOP = "stop"
"""A file that ends all writers."""


def writers(ctx: Context) -> Outcome:
    """8 writers, undisturbed; then again while others are killed in the middle of a write."""
    each, kills = ctx.count(25, 100, 1000), ctx.count(1, 3, 20)
    calm = undisturbed(ctx.folder / "calm", 8, each)
    ctx.say(f"{calm['found']} of {calm['written']} records there")
    wild = disturbed(ctx.folder / "disturbed", 8, kills, ctx.seed)
    bad = {k: calm[k] + wild[k] for k in ("lost", "repeated", "altered", "unknown", "corrupt")}
    bad["unhealed"] = wild["torn_tails"] - wild["healed"]
    passed = not any(bad.values()) and wild["killed"] == kills == wild["torn_tails"]
    if passed:  # else they stay, to be looked at
        shutil.rmtree(ctx.folder / "calm")
        shutil.rmtree(ctx.folder / "disturbed")
    wrong = ", ".join(f"{n} {k}" for k, n in bad.items() if n) or "none lost, none torn"
    detail = (
        f"{calm['written']} records of 8 writers, then {wild['written']} while {wild['killed']} "
        f"more were killed and {wild['torn_tails']} tails torn: {wrong}"
    )
    return Outcome(passed, {"calm": calm, "disturbed": wild}, detail)


def undisturbed(folder: Path, count: int, each: int) -> dict[str, int]:
    """`count` processes write `each` records at once; what became of them."""
    with Marked(folder) as marked:
        for process in _start(marked, folder, range(count), each):
            process.wait()
    return _judge(folder, dict.fromkeys(range(count), each))


def disturbed(folder: Path, count: int, kills: int, seed: int) -> dict[str, int]:
    """`count` write, while further ones are killed at random instants or die within a line."""
    rng, torn, names = random.Random(seed), 0, range(count + kills)
    with Marked(folder) as marked:
        running = _start(marked, folder, range(count), ENDLESS)
        for victim in names[count:]:
            [process] = _start(marked, folder, [victim], ENDLESS)
            _await_first(process, _acknowledgements(folder, victim))
            nap(rng.uniform(0.0, 0.2))
            process.kill()
            process.wait()
            torn += marked.start(f"{MODULE}:tear", folder).wait() == -signal.SIGKILL
        (folder / STOP).touch()
        ended = sum(process.wait() == 0 for process in running)
    Store(folder).close()  # the last tail has nobody after it to heal it
    files = {name: _acknowledgements(folder, name) for name in names}
    written = {name: file.read_bytes().count(b"\n") for name, file in files.items()}
    torn_file = folder / TORN
    healed = torn_file.read_bytes().count(b"\n") if torn_file.exists() else 0
    judged = _judge(folder, written, names[count:])
    judged["lost"] += count - ended  # a writer that broke could not say what it lost
    return {**judged, "killed": kills, "torn_tails": torn, "healed": healed}


def write(folder: str, writer: str, each: str) -> None:
    """In a process of its own: append `each` records, and acknowledge each once it is stored."""
    store, number = Store(folder), 0
    with open(_acknowledgements(Path(folder), int(writer)), "ab", buffering=0) as acknowledged:
        while number < int(each) and not (Path(folder) / STOP).exists():
            store.append(record(int(writer), number))
            acknowledged.write(b"%d\n" % number)
            number += 1
    store.close()


def tear(folder: str) -> None:
    """In a process of its own: write half a record, as the store does, and be killed."""
    file = os.open(Path(folder) / RECORDS, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(file, fcntl.LOCK_EX)
    line = seal(record(-1, os.getpid()))
    os.write(file, line[: len(line) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def record(writer: int, number: int) -> dict[str, Any]:
    """What writer `writer` writes as its record `number`; of any length up to some pages."""
    rng = random.Random(f"{writer}/{number}")
    payload = f"{rng.getrandbits(4 * rng.randint(1, LARGEST)):x}"
    return {"kind": "writer", "writer": writer, "number": number, "payload": payload}


def _start(
    marked: Marked, folder: Path, names: Iterable[int], each: int
) -> list[subprocess.Popen[bytes]]:
    return [marked.start(f"{MODULE}:write", folder, writer, each) for writer in names]


def _await_first(process: subprocess.Popen[bytes], acknowledged: Path) -> None:
    """Until the writer has written: a kill before that would only kill imports."""
    while process.poll() is None and not (acknowledged.exists() and acknowledged.stat().st_size):
        nap(0.01)


def _acknowledgements(folder: Path, writer: int) -> Path:
    return folder / f"acknowledged-{writer}"


def _judge(folder: Path, written: dict[int, int], killed: Iterable[int] = ()) -> dict[str, int]:
    """Compare what is there with what was written: writer -> records that it knows are stored.

    One that was killed may have stored a record more than it could say.
    """
    log = read_log(folder)
    known = {(writer, n): 0 for writer, count in written.items() for n in range(count)}
    spare = {(writer, written[writer]) for writer in killed}
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
        "unknown": len(found.keys() - known.keys() - spare),
        "corrupt": len(log.corrupt),
    }
