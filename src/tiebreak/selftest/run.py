"""Run the self-test: one check after the other, one record stored as soon as each has ended.

A check that raises has failed, and its record says why. Ctrl-C keeps the checks that are done.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote
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
from tiebreak.core.text import duration, nan_to_null, plural
from tiebreak.selftest.base import SCALES, Context, Outcome
from tiebreak.selftest.checks import CHECKS, Check
from tiebreak.selftest.show import mark

SUITE = "self-test"
SCALE = "quick"
"""Default scale: takes minutes, where the published one takes an hour."""


def run(
    out: Path | None = None,
    scale: str | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    *,
    checks: Sequence[Check] = CHECKS,
) -> Path:
    """Run all checks, or those named in `only`, and return the results folder.

    Raises UsageError before anything runs, and Interrupted on Ctrl-C. Tests pass their own
    `checks`.
    """
    chosen = _choose(checks, only)
    folder, suite = _prepare(out, scale, resume)
    with store.hold(folder):
        done = {r["row"] for r in store.read_records(folder) if r["kind"] == "selftest"}
        session = Session(folder, suite, progress)
        try:
            session.run_checks([check for check in chosen if check.name not in done])
        except KeyboardInterrupt:
            only_option = f" --only {','.join(only)}" if only else ""
            raise Interrupted(
                f"interrupted; {plural(len(done) + session.finished, 'check')} stored; continue "
                f"with: tiebreak run {SUITE} --out {quote(str(folder))} --resume{only_option}"
            ) from None
        finally:
            session.store.close()
    return folder


def _choose(checks: Sequence[Check], only: Sequence[str] | None) -> list[Check]:
    names = [check.name for check in checks]
    for name in only or ():
        if name not in names:
            raise unknown("check of the self-test", name, names)
    return [check for check in checks if not only or check.name in only]


def _prepare(out: Path | None, scale: str | None, resume: bool) -> tuple[Path, dict[str, Any]]:
    """Return the results folder and the content of its suite.json, new or (resume) existing."""
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if resume:
        return _existing(out, scale)
    folder = Path(out) if out else Path(RESULTS) / f"{SUITE}-{stamp()}"
    store.check_name(folder.name)
    if (folder / store.RECORDS).exists() or (folder / store.SUITE).exists():
        raise UsageError(f"{folder} holds results already: add --resume, or use another --out")
    scale = scale or SCALE
    suite = {
        "suite": SUITE,
        "scale": scale,
        "seed": secrets.randbelow(2**31),
        "cells": [],
        "version": __version__,
        "commit": commit(),
        "created_at": utc_now(),
        "run_id": secrets.token_hex(8),
        "command": f"tiebreak run {SUITE} --scale {scale} --out {quote(str(folder))}",
    }
    store.Store(folder).close()
    write_json(folder / store.SUITE, suite)
    return folder, suite


def _existing(out: Path | None, scale: str | None) -> tuple[Path, dict[str, Any]]:
    if out is None:
        raise UsageError("--resume needs the folder to continue in: --out DIR")
    suite = store.read_suite(out)
    if suite.get("suite") != SUITE or scale not in (None, suite.get("scale")):
        raise UsageError(
            f"{out} holds another run (suite {suite.get('suite')}, scale {suite.get('scale')}); "
            "use another --out"
        )
    return Path(out), suite


class Session:
    """One process that fills a results folder with checks."""

    def __init__(self, folder: Path, suite: Mapping[str, Any], progress: bool):
        from rich.console import Console

        self.folder = folder
        self.suite = suite
        self.timer = Timer()
        self.console = Console(stderr=True, quiet=not progress, soft_wrap=True, highlight=False)
        self.store = store.Store(folder)
        self.fingerprint, self.machine = fingerprint()
        self.finished = 0

    def run_checks(self, checks: Sequence[Check]) -> None:
        """Record the machine, then run the checks in turn."""
        self._append("machine", machine=self.machine)
        scale = self.suite["scale"]
        self.say(f"{plural(len(checks), 'check')}, scale {scale}{_expected(checks, scale)}")
        for number, check in enumerate(checks, 1):
            self._run_check(check, f"[{number}/{len(checks)}] {check.name}")

    def say(self, text: str) -> None:
        """Print one line of progress, with the time since the start."""
        minutes, seconds = divmod(round(self.timer.elapsed_s()), 60)
        self.console.print(f"{minutes:3d}:{seconds:02d} {text}", markup=False)

    def _run_check(self, check: Check, name: str) -> None:
        self.say(f"{name}: {check.title}{_expected([check], self.suite['scale'])}")
        timer = Timer()
        outcome = self._outcome(check, lambda text: self.say(f"{name}: {text}"))
        seconds = timer.elapsed_s()
        self._append(
            "selftest",
            row=check.name,
            title=check.title,
            rule=check.rule,
            seconds=round(seconds, 3),
            **nan_to_null(outcome),
        )
        self.finished += 1
        self.say(f"{name}: {mark(outcome.passed)} in {duration(seconds)}: {outcome.detail}")

    def _outcome(self, check: Check, say: Callable[[str], None]) -> Outcome:
        folder = self.folder / check.name
        folder.mkdir(exist_ok=True)
        seed = derive(self.suite["seed"], check.name)
        try:
            return check.run(Context(folder, self.suite["scale"], seed, say))
        except Exception as error:  # a broken check must not stop the others
            write_atomic(folder / "error.txt", "".join(traceback.format_exception(error)))
            reason = one_line(f"{type(error).__name__}: {error}")
            return Outcome(False, {}, f"the check itself broke: {reason}")
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _append(self, kind: str, **content: Any) -> None:
        record = {
            "kind": kind,
            "run_id": self.suite["run_id"],
            "suite": self.suite["suite"],
            "scale": self.suite["scale"],
            "fingerprint": self.fingerprint,
            "at": utc_now(),
        }
        self.store.append({**record, **content})


def _expected(checks: Sequence[Check], scale: str) -> str:
    """Return the estimated time of the checks as the end of a line; empty if unknown."""
    seconds = [check.seconds[SCALES.index(scale)] for check in checks]
    if not any(seconds):
        return ""
    word = "about" if all(seconds) else "at least"
    return f", {word} {duration(sum(seconds))} on a quiet machine"
