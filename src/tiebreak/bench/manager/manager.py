"""Runs a suite, or a plan made in code: asks, checks what is on the disk, fills the folder.

No framework is imported here. A worker that fails yields records that say so; the others go on.
"""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiebreak import __version__
from tiebreak.bench.machine import machine, nvidia_smi
from tiebreak.bench.manager import store
from tiebreak.bench.manager.record import dumps
from tiebreak.bench.manager.run import Run
from tiebreak.bench.suite import suite as suites
from tiebreak.bench.suite.plan import Plan
from tiebreak.bench.worker.clock import stamp, utc_now
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import write_json

RESULTS = "bench-results"
"""Where a run goes that names no folder, below the current one."""
DEVICES = ("cpu", "gpu", "cuda")
"""What a run can be asked to measure on, all of it; with a number where there are several."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
"""What a disk says with which a run cannot go on."""


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
    device: str | None = None,
    subject: str = "",
) -> Path:
    """Run a suite at a scale and return its results folder (None: bench-results/SUITE-DATE).

    `device` takes the place of those that the suite names. `subject` ("module:function") replaces
    what the worker measures; tests use it.
    Raises UsageError before anything runs, or when the disk is full, and Interrupted on Ctrl-C.
    """
    if resume:
        if out is None:
            raise UsageError("--resume needs the folder to go on with: --out DIR")
        there = store.read_suite(out)
        scale, seed = scale or there.get("scale"), there.get("seed", 0)
        device = device or there.get("device")
    _require(device)
    plan = suites.load(suite, scale, secrets.randbelow(2**31) if seed is None else seed, device)
    folder = Path(out) if out else Path(RESULTS) / f"{plan.suite}-{stamp()}"
    if not resume:
        _refuse_used(folder)
    command = f"tiebreak run {suite} --scale {plan.scale} --out {folder}"
    command += f" --device {device}" if device else ""
    with store.hold(folder):
        if resume:
            _check_same(plan, folder)
        else:
            _begin(plan, folder, command, device)
        _fill(plan, folder, subject, progress, f"{command} --resume")
    return folder


def run_plan(plan: Plan, folder: Path, *, subject: str = "", progress: bool = True) -> Path:
    """Run a plan made in code, in a new or empty folder, and return that: for the self-test.

    Raises UsageError as `run_suite` does.
    """
    _refuse_used(folder)
    with store.hold(folder):
        _begin(plan, folder, "")
        _fill(plan, folder, subject, progress, "")
    return folder


def _require(device: str | None) -> None:
    """Refuse a device that was asked for and is not here; cells of a suite's own are left out."""
    if device and device.partition(":")[0] not in DEVICES:
        raise unknown("device", device, DEVICES)
    if device and (reason := nvidia_smi.why_unavailable(device)):
        raise UsageError(f"{reason}; leave --device out, or use --device cpu")


def _refuse_used(folder: Path) -> None:
    store.check_name(folder.name)
    records = folder / store.RECORDS
    if (folder / store.SUITE).exists() or (records.exists() and records.stat().st_size):
        raise UsageError(f"{folder} holds results already: add --resume, or use another --out")


def _begin(plan: Plan, folder: Path, command: str, device: str | None = None) -> None:
    """Write suite.json, and only then make the records file: a folder with records can go on."""
    _refuse_used(folder)  # again, now that nobody else can write there
    about = {"version": __version__, "commit": machine.commit(), "created_at": utc_now()}
    about |= {"run_id": secrets.token_hex(8), "command": command, "device": device}
    about |= {"published": list(plan.published)}
    try:
        write_json(folder / store.SUITE, {**_resolved(plan), **about})
    except OSError as error:
        raise UsageError(f"cannot write results to {folder}: {error.strerror}") from error
    store.Store(folder).close()


def _check_same(plan: Plan, folder: Path) -> None:
    """UsageError unless the folder holds this very plan."""
    there = store.read_suite(folder)
    if (differs := _difference(_resolved(plan), there)) is not None:
        raise UsageError(f"{folder} holds another run: its {differs} differs; use another --out")


def _resolved(plan: Plan) -> dict[str, Any]:
    """What of suite.json says which run this is, as JSON has it."""
    about = {
        "schema": 1,
        "suite": plan.suite,
        "scale": plan.scale,
        "seed": plan.seed,
        "settings": asdict(plan.settings),
        "cells": [{**cell.facts(), "id": cell.id} for cell in plan.cells],
        "groups": plan.groups(),
        "blocks_planned": plan.settings.blocks,
    }
    return json.loads(dumps(about))


def _difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> str | None:
    return next((key for key in new if new[key] != old.get(key)), None)


def _fill(plan: Plan, folder: Path, subject: str, progress: bool, again: str) -> None:
    """Run what is missing; `again` is the command that would go on."""
    run = Run(plan, folder, subject, progress, again)
    try:
        run.everything()
    except (KeyboardInterrupt, OSError) as error:
        kept = f"{len(run.visitor.done)} measurements are kept"
        kept += f", go on with: {again}" if again else ""
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted; {kept}") from None
        if error.errno not in NO_ROOM:
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise UsageError(f"the run had to stop: {error.strerror}{where}; {kept}") from error
    finally:
        run.close()
