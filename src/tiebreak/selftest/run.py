"""Runs the self-test: row after row, one record stored for each the moment it is known.

A row that raises has failed, with its reason; Ctrl-C keeps the rows that are done.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiebreak import __version__
from tiebreak.bench.clock import Timer, stamp, utc_now
from tiebreak.bench.machine.fingerprint import commit, fingerprint
from tiebreak.bench.manager import store
from tiebreak.bench.manager.manager import RESULTS, Interrupted
from tiebreak.bench.record import one_line
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import write_atomic, write_json
from tiebreak.core.seeding import derive
from tiebreak.core.text import duration, nan_to_null
from tiebreak.selftest.checks import ROWS, SCALES, Context, Outcome, Row
from tiebreak.selftest.show import mark

SUITE = "self-test"
SCALE = "quick"
"""What a run is that names no scale: minutes, not the hour of the published one."""


def run(
    out: Path | None = None,
    scale: str | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    *,
    rows: Sequence[Row] = ROWS,
) -> Path:
    """Run all rows, or those named in `only`, and return the results folder.

    Raises UsageError before anything runs, and Interrupted on Ctrl-C. Tests give their own `rows`.
    """
    chosen = _choose(rows, only)
    folder, about = _prepare(out, scale, resume)
    with store.hold(folder):
        done = {r["row"] for r in store.read_records(folder) if r["kind"] == "selftest"}
        session = Session(folder, about, progress)
        try:
            session.everything([row for row in chosen if row.name not in done])
        except KeyboardInterrupt:
            named = f" --only {','.join(only)}" if only else ""
            raise Interrupted(
                f"interrupted; {len(done) + session.finished} rows are kept, go on with: "
                f"tiebreak run {SUITE} --out {folder} --resume{named}"
            ) from None
        finally:
            session.store.close()
    return folder


def _choose(rows: Sequence[Row], only: Sequence[str] | None) -> list[Row]:
    names = [row.name for row in rows]
    for name in only or ():
        if name not in names:
            raise unknown("row of the self-test", name, names)
    return [row for row in rows if not only or row.name in only]


def _prepare(out: Path | None, scale: str | None, resume: bool) -> tuple[Path, dict[str, Any]]:
    """The results folder and its suite.json, made or found."""
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if resume:
        if out is None:
            raise UsageError("--resume needs the folder to go on with: --out DIR")
        there = store.read_suite(out)
        if there.get("suite") != SUITE or scale not in (None, there.get("scale")):
            raise UsageError(f"{out} holds another run (suite {there.get('suite')}, scale "
                             f"{there.get('scale')}); use another --out")  # fmt: skip
        return Path(out), there
    folder = Path(out) if out else Path(RESULTS) / f"{SUITE}-{stamp()}"
    store.check_name(folder.name)
    if (folder / store.RECORDS).exists() or (folder / store.SUITE).exists():
        raise UsageError(f"{folder} holds results already: add --resume, or use another --out")
    scale = scale or SCALE
    about = {
        "suite": SUITE, "scale": scale, "seed": secrets.randbelow(2**31), "cells": [],
        "version": __version__, "commit": commit(), "created_at": utc_now(),
        "run_id": secrets.token_hex(8),
        "command": f"tiebreak run {SUITE} --scale {scale} --out {folder}",
    }  # fmt: skip
    store.Store(folder).close()
    write_json(folder / store.SUITE, about)
    return folder, about


class Session:
    """A results folder being filled with rows."""

    def __init__(self, folder: Path, about: Mapping[str, Any], progress: bool):
        from rich.console import Console

        self.folder, self.about, self.timer = folder, about, Timer()
        self.console = Console(stderr=True, quiet=not progress, soft_wrap=True, highlight=False)
        self.store = store.Store(folder)
        self.fingerprint, self.machine = fingerprint()
        self.finished = 0

    def everything(self, rows: Sequence[Row]) -> None:
        """The machine, then each row."""
        self._append("machine", machine=self.machine)
        self.say(f"{len(rows)} rows, scale {self.about['scale']}{_expected(rows, self.about)}")
        for number, row in enumerate(rows, 1):
            self._row(row, f"[{number}/{len(rows)}] {row.name}")

    def say(self, text: str) -> None:
        """One line of progress, with the time since the start."""
        minutes, seconds = divmod(round(self.timer.elapsed_s()), 60)
        self.console.print(f"{minutes:3d}:{seconds:02d} {text}", markup=False)

    def _row(self, row: Row, name: str) -> None:
        self.say(f"{name}: {row.title}{_expected([row], self.about)}")
        timer = Timer()
        outcome = self._outcome(row, lambda text: self.say(f"{name}: {text}"))
        seconds = timer.elapsed_s()
        self._append(
            "selftest", row=row.name, title=row.title, rule=row.rule, seconds=round(seconds, 3),
            **nan_to_null(outcome._asdict()),
        )  # fmt: skip
        self.finished += 1
        self.say(f"{name}: {mark(outcome.passed)} in {duration(seconds)}: {outcome.detail}")

    def _outcome(self, row: Row, say: Callable[[str], None]) -> Outcome:
        folder = self.folder / row.name
        folder.mkdir(exist_ok=True)
        scale, seed = self.about["scale"], derive(self.about["seed"], row.name)
        try:
            return row.run(Context(folder, scale, seed, say))
        except Exception as error:  # the other rows go on; what happened lies beside the records
            write_atomic(folder / "error.txt", "".join(traceback.format_exception(error)))
            reason = one_line(f"{type(error).__name__}: {error}")
            return Outcome(False, {}, f"the row itself broke: {reason}")
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _append(self, kind: str, **content: Any) -> None:
        about = {key: self.about[key] for key in ("run_id", "suite", "scale")}
        where = {"fingerprint": self.fingerprint, "at": utc_now()}
        self.store.append({"kind": kind, **about, **where, **content})


def _expected(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """What the rows take together, going by the table; nothing where it does not know."""
    each = [row.seconds[SCALES.index(about["scale"])] for row in rows]
    if not any(each):
        return ""
    return f", {'about' if all(each) else 'at least'} {duration(sum(each))} on a quiet machine"
