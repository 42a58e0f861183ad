"""Runs a suite: one visit at a time, block after block, each record stored the moment it arrives.

No framework is imported here. A worker that fails yields records that say so; the others go on.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiebreak import __version__
from tiebreak.bench import machine, store
from tiebreak.bench import suite as suites
from tiebreak.bench.clock import Timer, stamp, utc_now
from tiebreak.bench.plan import Plan, Visit
from tiebreak.bench.progress import Progress
from tiebreak.bench.record import finite
from tiebreak.bench.visits import CALIBRATION, Visitor
from tiebreak.core.errors import UsageError
from tiebreak.core.files import write_json

RESULTS = "bench-results"
"""Where a run goes that names no folder, below the current one."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the message says what is kept and how to go on."""


def run_suite(
    suite: str,
    out: Path | None = None,
    scale: str | None = None,
    resume: bool = False,
    progress: bool = True,
    *,
    seed: int | None = None,
    subject: str = "",
) -> Path:
    """Run a suite at a scale and return its results folder (None: bench-results/SUITE-DATE).

    `subject` ("module:function") replaces what the worker measures; tests use it.
    Raises UsageError before anything runs, and Interrupted on Ctrl-C.
    """
    plan, folder = _prepare(suite, out, scale, resume, seed)
    run = Run(plan, folder, subject, progress)
    try:
        run.everything()
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {len(run.visitor.done)} measurements are kept, go on with: "
            f"tiebreak run {suite} --scale {plan.scale} --out {folder} --resume"
        ) from None
    finally:
        run.close()
    return folder


def _prepare(
    suite: str, out: Path | None, scale: str | None, resume: bool, seed: int | None
) -> tuple[Plan, Path]:
    """Check the request against what is on the disk; write suite.json for a new run."""
    if resume:
        if out is None:
            raise UsageError("--resume needs the folder to go on with: --out DIR")
        there = store.read_suite(out)
        plan = suites.load(suite, scale or there.get("scale"), there.get("seed", 0))
        if (differs := _difference(_resolved(plan), there)) is not None:
            raise UsageError(f"{out} holds another run: its {differs} differs; use another --out")
        return plan, Path(out)
    plan = suites.load(suite, scale, secrets.randbelow(2**31) if seed is None else seed)
    folder = Path(out) if out else Path(RESULTS) / f"{plan.suite}-{stamp()}"
    store.check_name(folder.name)
    if (folder / store.RECORDS).exists() or (folder / store.SUITE).exists():
        raise UsageError(f"{folder} holds results already: add --resume, or use another --out")
    store.Store(folder).close()
    about = {"version": __version__, "commit": machine.commit(), "created_at": utc_now()}
    about["run_id"] = secrets.token_hex(8)
    command = f"tiebreak run {suite} --scale {plan.scale} --out {folder}"
    write_json(folder / store.SUITE, {**_resolved(plan), **about, "command": command})
    return plan, folder


def _resolved(plan: Plan) -> dict[str, Any]:
    """What of suite.json says which run this is."""
    return {
        "schema": 1,
        "suite": plan.suite,
        "scale": plan.scale,
        "seed": plan.seed,
        "settings": asdict(plan.settings),
        "cells": [{**asdict(cell), "id": cell.id} for cell in plan.cells],
        "groups": plan.groups(),
        "blocks_planned": plan.settings.blocks,
    }


def _difference(new: dict[str, Any], old: dict[str, Any]) -> str | None:
    return next((key for key in new if new[key] != old.get(key)), None)


class Run:
    """A results folder being filled: what is done, what comes next, and whether there is time."""

    def __init__(self, plan: Plan, folder: Path, subject: str, progress: bool):
        self.plan, self.timer = plan, Timer()
        self.visitor = Visitor(plan, folder, subject)
        self.progress = Progress(self._visits(), progress)

    def close(self) -> None:
        """Release everything; what is stored is stored."""
        self.progress.close()
        self.visitor.close()

    def everything(self) -> None:
        """Certificate, calibration, blocks."""
        settings = self.plan.settings
        self.visitor.append("machine", machine=self.visitor.machine)
        if settings.certificate and not self.visitor.certified:
            self._certify()
        if settings.calibration:
            self._block(CALIBRATION)
        for block in range(settings.blocks):
            if not self._in_time(block):
                self.progress.say(f"stopped after {block} blocks: the next would end too late")
                break
            self._block(block)

    def _visits(self) -> int:
        """Visits that are still to be made, the calibration included."""
        first = CALIBRATION if self.plan.settings.calibration else 0
        blocks = range(first, self.plan.settings.blocks)
        return sum(len(visits) for block in blocks for visits in self._pending(block))

    def _pending(self, block: int) -> Iterator[list[Visit]]:
        """What is left of a block: like Plan.block, without the cells that are done."""
        done = self.visitor.done
        for visits in self.plan.block(block):
            left = [
                v._replace(cells=tuple(c for c in v.cells if (block, c.id) not in done))
                for v in visits
            ]
            yield [visit for visit in left if visit.cells]

    def _in_time(self, block: int) -> bool:
        """Whether a block may start: the first always, the others if they will end in time."""
        settings = self.plan.settings
        limit = settings.limit_s if block < settings.least_blocks else settings.budget_s
        if limit is None or block == 0:
            return True
        needed = sum(self.visitor.expected_s(v) for set_ in self._pending(block) for v in set_)
        return needed == 0 or self.timer.elapsed_s() + needed <= limit

    def _block(self, block: int) -> None:
        for visits in self._pending(block):
            if not visits:
                continue
            self.visitor.append("canary", block=block, when="open", values_s=machine.canary())
            for visit in visits:
                self.progress.start(visit)
                self.progress.finish(visit, self.visitor.visit(visit))
            self.visitor.append("canary", block=block, when="close", values_s=machine.canary())

    def _certify(self) -> None:
        """Prove, before anything is timed, that the frameworks compute the same numbers."""
        from tiebreak import registry
        from tiebreak.verify.certify import certify

        raced = {c.framework for c in self.plan.cells} & set(registry.FRAMEWORKS)
        self.progress.say("verifying that the frameworks compute the same numbers")
        algorithms = sorted({c.algorithm for c in self.plan.cells})
        frameworks = [name for name in registry.FRAMEWORKS if name in raced]
        certificate = certify(algorithms, frameworks, quick=self.plan.scale != "full")
        self.visitor.append("certificate", certificate=finite(certificate))
