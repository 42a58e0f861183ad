"""Makes visits and stores what comes of them: a record for each cell, whatever happens."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiebreak import registry
from tiebreak.bench.machine import machine, nvidia_smi
from tiebreak.bench.manager import interleave
from tiebreak.bench.manager.record import FAILED, Record
from tiebreak.bench.manager.store import Store, hold, read_records, read_suite
from tiebreak.bench.manager.worker_process import Worker
from tiebreak.bench.suite import estimate
from tiebreak.bench.suite.plan import Cell, Plan, Visit
from tiebreak.bench.worker.clock import utc_now
from tiebreak.bench.worker.turns import STRETCH
from tiebreak.core.errors import UsageError
from tiebreak.core.seeding import derive

Results = list[tuple[Cell, Record]]
CALIBRATION = -1
"""The number of the block whose visits only fix how many calls a sample has."""


class Visitor:
    """Holds the results folder, and what earlier visits have shown."""

    def __init__(self, plan: Plan, folder: Path, subject: str = ""):
        self.plan, self.subject = plan, subject
        self.fingerprint, self.machine = machine.fingerprint()
        self.cpus = machine.affinity()
        self.run_id = read_suite(folder)["run_id"]
        self.store = Store(folder)
        earlier = read_records(folder)
        self.certified = any(r["kind"] == "certificate" for r in earlier)
        measured = [r for r in earlier if r["kind"] in ("visit", "calibration")]
        self.done = {(r["block"], r["cell_id"]) for r in measured if r["status"] != "missing"}
        """(block, cell) of every measurement stored; a missing package is no measurement."""
        good = [r for r in measured if r["status"] == "ok"]
        self.calls = {r["cell_id"]: r["calls_per_sample"] for r in reversed(good)}
        """Calls in a sample, frozen for each cell by its first good visit."""
        self.wall_s: dict[str, float] = {}
        """Seconds that the last visit took, less what the next one is spared, by key."""
        self.temporary, self._release = _temporary(f"tiebreak-{self.run_id}-")

    def close(self) -> None:
        """Release the folder, remove the temporary one."""
        self.store.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self._release()

    def append(self, kind: str, **content: Any) -> None:
        """Store one record of this run."""
        about = {"run_id": self.run_id, "suite": self.plan.suite, "scale": self.plan.scale}
        where = {"fingerprint": self.fingerprint}
        self.store.append({"kind": kind, **about, **where, "at": utc_now(), **content})

    def visits(
        self, visits: Sequence[Visit], begin: Callable[[Visit], None] = lambda visit: None
    ) -> list[tuple[Visit, Results]]:
        """Make visits, in turns if there are several, or find that something is not there.

        `begin` is told each as it begins. Returns them with their cells' results.
        """
        asked = [(visit, absent(visit.cells[0])) for visit in visits]
        out = [(visit, self._missing(visit, reason)) for visit, reason in asked if reason]
        present = [visit for visit, reason in asked if not reason]
        turns = secrets.token_hex(4) if len(present) > 1 else ""
        with contextlib.ExitStack() as stack:
            made = []
            for visit in present:
                folders = stack.enter_context(self._folders(visit.cells[0].cache))
                made.append(_Making(self, visit, self._job(visit, turns), folders, begin))
            probes = present[0].probes if present else ()
            interleave.run([m.worker for m in made], self.plan.settings.timeout_s, probes)
            return out + [(m.visit, m.finish()) for m in made]

    def _missing(self, visit: Visit, reason: str) -> Results:
        result = {**FAILED, "status": "missing", "error": reason, "started_at": utc_now()}
        self.wall_s[self.key(visit)] = 0.0
        for cell in visit.cells:
            self.store_result(visit, cell, result)
        return [(cell, result) for cell in visit.cells]

    def _job(self, visit: Visit, turns: str) -> dict[str, Any]:
        """All that a worker is told."""
        seed = derive(self.plan.seed, "visit", visit.block, visit.cells[0].task)
        ids = [cell.id for cell in visit.cells]
        effort = asdict(self.plan.settings.effort)
        if visit.block != 0:  # one series tells; it takes no part in ratios, but its time
            effort["memory_calls"] = 0
        return {
            "cells": [{**cell.facts(), "id": cell.id} for cell in visit.cells],
            "calls": {i: self.calls[i] for i in ids if i in self.calls},
            "effort": effort,
            "packages": list(needs(visit.cells[0])[0]),
            "threads": len(self.cpus),
            "cpus": self.cpus,
            "seed": seed,
            "hash_seed": derive(seed, "hash", *ids),
            "subject": self.subject,
            "turns": turns,
            "stretch": STRETCH if turns and visit.block == 0 else 0,
        }

    def store_result(self, visit: Visit, cell: Cell, result: Record) -> None:
        self.append(
            "calibration" if visit.block == CALIBRATION else "visit",
            block=visit.block,
            position=visit.position,
            group=cell.group,
            cell_id=cell.id,
            cell=cell.facts(),
            shared_process=self.plan.settings.share_process,
            order=[c.probe for c in visit.cells],
            **result,
        )
        if result["status"] == "ok":
            self.calls.setdefault(cell.id, result["calls_per_sample"])
        if result["status"] != "missing":
            self.done.add((visit.block, cell.id))

    @contextlib.contextmanager
    def _folders(self, cache: str) -> Iterator[tuple[Path, Path]]:
        """A private folder for one visit, and the compile cache: the run's own if it is warm."""
        folder = Path(tempfile.mkdtemp(dir=self.temporary, prefix="visit-"))
        compiled = (self.temporary if cache == "warm" else folder) / "cache"
        compiled.mkdir(mode=0o700, exist_ok=True)
        try:
            yield folder, compiled
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep_log(self, visit: Visit, log: bytes) -> None:
        """What a failing worker printed, beside the records."""
        if not log:
            return
        folder = self.store.folder / "logs"
        folder.mkdir(exist_ok=True)
        name = f"block{visit.block}-{visit.position}-{visit.cells[0].framework}.log"
        (folder / name).write_bytes(log)

    def key(self, visit: Visit) -> str:
        """What its duration is remembered by: its row if probes share a process, or its cell."""
        cell = visit.cells[0]
        return cell.row if self.plan.settings.share_process else cell.id


class _Making:
    """One visit while it is made."""

    def __init__(
        self,
        visitor: Visitor,
        visit: Visit,
        job: Mapping[str, Any],
        folders: tuple[Path, Path],
        begin: Callable[[Visit], None],
    ):
        self.visitor, self.visit, self._begin = visitor, visit, begin
        self.results: Results = []
        self.cells = {cell.id: cell for cell in visit.cells}
        self.about = {"hash_seed": job["hash_seed"], "turns": job["turns"]}
        self.cache = folders[1]
        self.cached = 0
        """Files in the compile cache when this probe began."""
        self.worker = Worker(job, *folders, self.keep, self.begin)

    def begin(self) -> None:
        self.about["started_at"] = utc_now()
        self.cached = _files(self.cache)
        self._begin(self.visit)

    def keep(self, cell_id: str, result: Record) -> None:
        """Store a result the moment it is there."""
        cell = self.cells[cell_id]
        if cell.cache == "cold" and self.cached:
            result["flags"] = {**result["flags"], "cache_not_cold": self.cached}
        self.results.append((cell, {**result, **self.about, "cache_files": self.cached}))
        self.visitor.store_result(self.visit, *self.results[-1])
        self.cached = _files(self.cache)  # the next probe of this process finds these

    def finish(self) -> Results:
        """It is over: what it took, and what has to be said about cells without a result."""
        worker, visitor, key = self.worker, self.visitor, self.visitor.key(self.visit)
        found = [result for _, result in self.results]
        spared = estimate.once_s(self.visit.cells[0], found, first=key not in visitor.wall_s)
        visitor.wall_s[key] = worker.active_s - spared
        status, reason = worker.ending
        for cell_id in sorted(worker.waiting):
            flags = {status: round(worker.active_s, 3)}
            self.keep(cell_id, {**FAILED, "status": status, "error": reason, "flags": flags})
        if any(result["status"] != "ok" for _, result in self.results):
            visitor.keep_log(self.visit, worker.log)
        return self.results


def _temporary(prefix: str) -> tuple[Path, Callable[[], None]]:
    """A new private folder, and what lets go of it; those that a killed manager left are removed.

    Nobody holds those any more. A copy of a results folder that is being filled holds its own.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(UsageError), hold(old):
            shutil.rmtree(old, ignore_errors=True)
    folder, held = Path(tempfile.mkdtemp(prefix=prefix)), contextlib.ExitStack()
    held.enter_context(hold(folder))  # mkdtemp has made it with mode 0700
    return folder, held.close


def _files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def absent(cell: Cell) -> str:
    """Why this cell cannot be measured here, with what helps; empty if it can."""
    packages, extras = needs(cell)
    if missing := registry.missing_packages(packages):
        return f"{', '.join(missing)} not installed: {registry.install_command(*extras)}"
    return nvidia_smi.why_unavailable(cell.device) or registry.why_mode_unavailable(
        cell.framework, cell.mode
    )


def needs(cell: Cell) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(packages that a cell's process may and must import, the extras that install them)."""
    engine = registry.ENGINES[cell.task.partition("/")[0]]
    if cell.framework not in registry.FRAMEWORKS:  # an environment alone
        return engine.packages, (engine.extra,)
    row = registry.framework(cell.framework)
    extras = tuple(dict.fromkeys((row.extra, engine.extra)))
    return tuple(dict.fromkeys((*row.packages, *engine.packages))), extras
