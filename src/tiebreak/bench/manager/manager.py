"""Run a suite: check the request and the results folder, then fill the folder with records.

No framework is imported here. A worker that fails yields records that say so; the others go on.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from tiebreak import __version__
from tiebreak.bench.clock import Timer, stamp, utc_now
from tiebreak.bench.machine import environment, nvidia_smi
from tiebreak.bench.machine.canary import canary
from tiebreak.bench.manager import store
from tiebreak.bench.manager.budget import Budget
from tiebreak.bench.manager.certificates import (
    CERTIFICATES,
    find_certificate,
    make_certificate,
    raced,
)
from tiebreak.bench.manager.learn import keep_durations, known_durations
from tiebreak.bench.manager.pending import (
    Stage,
    contended_runs,
    count_repeats,
    narrow_groups,
    pending_runs,
    split_by_device,
    stages,
    that_take_time,
)
from tiebreak.bench.manager.progress import Progress
from tiebreak.bench.manager.runner import Runner
from tiebreak.bench.record import dumps
from tiebreak.bench.suite import estimate
from tiebreak.bench.suite import suite as suites
from tiebreak.bench.suite.plan import CALIBRATION, Plan, Run
from tiebreak.bench.suite.share import Share, take_share
from tiebreak.core.errors import UsageError, unknown
from tiebreak.core.files import DISK_ERRORS, remove_leftovers, write_json
from tiebreak.core.git import commit
from tiebreak.core.seeding import derive
from tiebreak.core.text import duration, nan_to_null, plural

RESULTS = "bench-results"
"""Folder of results below the current one, where no folder is named."""

DEVICES = ("cpu", "gpu", "cuda")
"""Devices that can be asked for; with a number where there are several."""

LONGEST_BLOCK_S = 600.0
"""Duration of a block above which a warning is shown: machines change, so that cells which are
compared should be measured within this time."""


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
    share: str | None = None,
    subject: str = "",
) -> Path:
    """Run a built-in suite, or a .toml file, and return its results folder.

    Args:
        out: Results folder; None: bench-results/SUITE-DATE.
        scale: Name of a scale; None: quick, or that of the folder with `resume`.
        resume: Run what is missing in `out`.
        seed: Seed of the order of runs; None draws one.
        device: Replaces the devices named by the suite.
        share: Which part of the blocks to run, such as `1/2`; None: all, or with `resume` that of
            the folder. Each part draws an order of its own, of the same `seed` as well.
        subject: `module:function` that replaces what workers measure; for tests.

    Raises UsageError before anything runs, or when the disk is full, and Interrupted on Ctrl-C.
    """
    if resume:
        stored = _read_stored(out)
        scale, seed = scale or stored.get("scale"), stored.get("seed", 0)
        device, share = device or stored.get("device"), share or stored.get("share")
    _check_device(device)
    seed = secrets.randbelow(2**31) if seed is None else seed
    if share and not resume:
        seed = derive(seed, "share", share)
    plan = suites.load(suite, scale, seed, device)
    plan = take_share(plan, Share.parse(share)) if share else plan
    folder = Path(out) if out else Path(RESULTS) / f"{plan.suite}-{stamp()}"
    command = command_of(suite, plan, folder, device)
    _run(plan, folder, command, device, resume=resume, subject=subject, progress=progress)
    return folder


def command_of(suite: str, plan: Plan, folder: Path, device: str | None) -> str:
    """Return the command that runs a plan into a folder, to be gone on with by `--resume`."""
    command = f"tiebreak run {quote(suite)} --scale {plan.scale} --out {quote(str(folder))}"
    command += f" --device {device}" if device else ""
    return command + (f" --share {plan.share}" if plan.share else "")


def run_plan(plan: Plan, folder: Path, *, subject: str = "", progress: bool = True) -> Path:
    """Run a plan made in code, in a new or empty folder, and return the folder.

    Raises UsageError and Interrupted as `run_suite` does.
    """
    _run(plan, folder, resume=False, subject=subject, progress=progress)
    return folder


def _run(
    plan: Plan,
    folder: Path,
    command: str = "",
    device: str | None = None,
    *,
    resume: bool,
    subject: str,
    progress: bool,
) -> None:
    """Prepare or check the results folder, lock it and fill it."""
    environment.describe_all(plan.cells)  # each is usable, or nothing runs
    if not resume:
        refuse_used(folder)
    with store.hold(folder):
        remove_leftovers(folder, store.SUITE)
        if resume:
            check_same(plan, folder)
        else:
            _begin(plan, folder, command, device)
        _fill(plan, folder, subject, progress, f"{command} --resume" if command else "")


def _read_stored(out: Path | None) -> dict[str, Any]:
    """Return suite.json of the folder to resume."""
    if out is None:
        raise UsageError("--resume needs the folder to go on with: --out DIR")
    stored = store.read_suite(out)
    if "merged" in stored:
        on_hosts = "add --on with its hosts" if stored.get("hosts") else "resume one of those"
        raise UsageError(f"{out} holds the records of other folders: {on_hosts}")
    return stored


def _check_device(device: str | None) -> None:
    """Refuse a device that is not here. Cells of a suite on such a device are only left out."""
    if device is None:
        return
    if device.partition(":")[0] not in DEVICES:
        raise unknown("device", device, DEVICES)
    if reason := nvidia_smi.why_unavailable(device):
        raise UsageError(f"{reason}; leave --device out, or use --device cpu")


def refuse_used(folder: Path) -> None:
    """Raise UsageError for a folder that holds results, or whose name cannot be a run's."""
    store.check_name(folder.name)
    records = folder / store.RECORDS
    if (folder / store.SUITE).exists() or (records.exists() and records.stat().st_size):
        raise UsageError(f"{folder} holds results already: add --resume, or use another --out")


def _begin(plan: Plan, folder: Path, command: str, device: str | None = None) -> None:
    """Write suite.json, then make the records file: a folder with records can be resumed."""
    refuse_used(folder)  # again, now that nobody else can write there
    write_suite(folder, describe(plan, command, device))
    store.Store(folder).close()


def describe(plan: Plan, command: str, device: str | None = None) -> dict[str, Any]:
    """Return suite.json of a new results folder."""
    return {
        **_identity(plan),
        "version": __version__,
        "commit": commit(),
        "created_at": utc_now(),
        "run_id": secrets.token_hex(8),
        "command": command,
        "device": device,
        "published": list(plan.published),
        "differences": list(plan.differences),
    }


def write_suite(folder: Path, description: Mapping[str, Any]) -> None:
    """Write suite.json; raise UsageError where that is not possible."""
    try:
        write_json(folder / store.SUITE, description)
    except OSError as error:
        raise UsageError(f"cannot write results to {folder}: {error.strerror}") from error


def check_same(plan: Plan, folder: Path) -> None:
    """Raise UsageError unless the folder holds results of this plan."""
    stored = store.read_suite(folder)
    differs = _first_difference(_identity(plan), stored)
    if differs is not None:
        raise UsageError(f"{folder} holds another run: its {differs} differs; use another --out")


def _identity(plan: Plan) -> dict[str, Any]:
    """Return the fields of suite.json that have to be equal to resume a plan."""
    fields = {
        "schema": 1,
        "suite": plan.suite,
        "scale": plan.scale,
        "seed": plan.seed,
        "settings": asdict(plan.settings),
        "cells": [{**cell.to_json(), "id": cell.id} for cell in plan.cells],
        "groups": plan.groups(),
        "blocks_planned": plan.settings.blocks,
        "share": plan.share or None,
    }
    return json.loads(dumps(fields))


def _first_difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> str | None:
    return next((key for key in new if new[key] != old.get(key)), None)


def _fill(plan: Plan, folder: Path, subject: str, progress: bool, resume_command: str) -> None:
    """Run what is missing, and say after an interruption how to go on."""
    manager = Manager(plan, folder, subject, progress, resume_command)
    try:
        manager.run()
    except (KeyboardInterrupt, OSError) as error:
        kept = f"{plural(len(manager.runner.done), 'measurement')} kept"
        if resume_command:
            kept += f", go on with: {resume_command}"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted; {kept}") from None
        if error.errno not in DISK_ERRORS:
            raise
        file = f" ({error.filename})" if error.filename else ""
        raise UsageError(f"the run had to stop: {error.strerror}{file}; {kept}") from error
    finally:
        manager.close()


class Manager:
    """Fill a results folder with the runs of a plan that are missing in it.

    The protocol:

    - Append a record of kind `machine`. Unless the folder has one, append the `certificate` that
      was kept for this source and these packages, or make one: before the blocks or, where there
      is a time budget, after them. Calibrate, if the scale says so.
    - Then run blocks in stages. After each stage, repeat blocks in which others took CPU time, and
      close the groups whose intervals are narrow. Stop before a block that would exceed the time
      budget.
    - A block is a list of interleavings. Append a `canary` record, execute the interleaving, append
      a second one.
    - The manager starts the worker of each run with a job file, one after another or (after the
      first block) two at a time; each imports, builds, warms up and calibrates, and asks for a turn
      on its event socket. The manager replies `go` to one worker at a time, probe by probe and
      round by round, until all have enough samples, and `enough` after that, or `last` where no
      time is left for further probes. A run alone asks for no turns.
    - The worker sends one JSON line per cell on its result pipe, and `start` and `end` events that
      the kernel stamps: the second clock. The manager checks each result and appends its record at
      once. Cells without a result get a record with status timeout, oom or crash.
    - Ctrl-C, a full disk or a killed manager loses at most the runs in progress: the next manager
      reads the records and runs what is missing.
    """

    def __init__(
        self, plan: Plan, folder: Path, subject: str, progress: bool, resume_command: str = ""
    ):
        self.plan, self.folder = plan, folder
        self.resume_command = resume_command
        self.runner = Runner(plan, folder, subject)
        self.budget = Budget(plan.settings, len(self.runner.cpus), known_durations())
        self.budget.recall(plan, store.read_records(folder))
        self.progress = Progress(0, progress)
        self.closed: set[str] = set()
        """Groups whose intervals are narrow enough."""
        self.todo: list[list[Run]] = []
        """Interleavings left in this stage, as far as they are known."""
        self.later: list[Stage] = []
        """Stages after this one."""
        self.has_begun = any(block >= 0 for block, _ in self.runner.done)
        """A block has been measured: only the first is begun however long it will take."""

    def close(self) -> None:
        """Release all resources."""
        self.progress.close()
        self.runner.close()

    def run(self) -> None:
        """Certify, calibrate and run blocks, as far as these are missing.

        Where there is a time budget, blocks come first, unless a certificate is kept on the disk.
        """
        settings = self.plan.settings
        self.runner.append("machine", machine=self.runner.machine)
        if modules := self.plan.modules():
            self.progress.say(f"the suite imports: {', '.join(modules)}")
        self._find_certificate()
        if settings.budget_s is None:
            self._certify()
        if settings.calibration:
            self._run_stage(Stage(range(CALIBRATION, CALIBRATION + 1), repeats=False))
        self.later = stages(settings)
        while self.later:
            stage = self.later.pop(0)
            if settings.stages and stage.blocks.start and not self._close_groups(stage.blocks):
                break
            if not self._run_stage(stage):
                break
        self._certify()
        if not self.runner.subject:  # what a test measures in the place of a cell tells nothing
            keep_durations(store.read_records(self.folder))

    def _run_stage(self, stage: Stage) -> bool:
        """Run these blocks of the groups that are not closed; return whether to go on."""
        pending = {block: self._pending(block, stage.probes) for block in stage.blocks}
        self._add_todo([runs for part in pending.values() for runs in part])
        for block, interleavings in pending.items():
            in_time = self.budget.is_in_time(block, that_take_time(interleavings))
            if self.has_begun and not in_time:
                self._say_stopped(block)
                return False
            for runs in interleavings:
                self._run_interleaving(runs)
            self.has_begun |= block >= 0
        return not stage.repeats or self._repeat_contended(range(stage.blocks.stop))

    def _repeat_contended(self, blocks: range) -> bool:
        """Repeat blocks in which others took much; return False if no time is left for one."""
        if not self.plan.settings.repeat_contended:
            return True
        records = store.read_records(self.folder)
        for runs in contended_runs(self.plan, records, blocks):
            made = count_repeats(store.read_records(self.folder), runs)
            if made >= len(blocks) // 2:
                continue
            if not self.budget.is_in_time(blocks.stop, [runs]):
                self.progress.say("no time is left to repeat blocks in which others took CPU time")
                return False
            self._add_todo([runs])
            self.progress.say(f"others took CPU time in block {runs[0].block + 1}: once more")
            self._run_interleaving(runs)
        return True

    def _say_stopped(self, block: int) -> None:
        message = f"stopped after block {block}: the next would end too late"
        if block < self.plan.settings.least_blocks and self.plan.settings.first:
            message = "no time is left for the other probes"
        if self.resume_command:
            message += f"; for more: {self.resume_command}"
        self.progress.say(message)

    def _close_groups(self, blocks: range) -> int:
        """Close groups whose intervals are narrow before these blocks; return how many are left."""
        self.closed = narrow_groups(self.plan, store.read_records(self.folder), blocks.start)
        wide = len(self.plan.groups()) - len(self.closed)
        limit = f"±{100 * self.plan.settings.half_width:.3g} %"
        if wide:
            outcome = f"groups with intervals wider than {limit}: {wide}"
        else:
            outcome = f"all intervals are within {limit}"
        self.progress.say(f"after {blocks.start} blocks, {outcome}")
        return wide

    def _pending(self, block: int, probes: Sequence[str] = ()) -> list[list[Run]]:
        return pending_runs(self.plan, block, self.runner.done, self.closed, probes)

    def _add_todo(self, interleavings: list[list[Run]]) -> None:
        self.todo += interleavings
        self.progress.add(sum(map(len, that_take_time(interleavings))))

    def _left(self) -> list[list[Run]]:
        """Return the interleavings that are left in this stage, and in later ones.

        Stages that end on the width of intervals may never come: they are left out.
        """
        later = [] if self.plan.settings.stages else self.later
        further = [
            runs
            for stage in later
            for block in stage.blocks
            for runs in self._pending(block, stage.probes)
        ]
        return that_take_time(self.todo + further)

    def _must_follow(self, runs: list[Run]) -> list[list[Run]]:
        """Return the interleavings that are to be made in time after this one."""
        settings = self.plan.settings
        later = [other for other in self.todo if other is not runs]
        same_block = [other for other in later if other[0].block == runs[0].block]
        further = range(runs[0].block + 1, settings.least_blocks)
        return that_take_time(
            same_block
            + [other for block in further for other in self._pending(block, settings.first)]
        )

    def _run_interleaving(self, runs: list[Run]) -> None:
        """Execute an interleaving between two canaries."""
        block = runs[0].block
        groups = sorted({cell.group for run in runs for cell in run.cells})
        pace = self.budget.pace(runs, self._must_follow(runs))
        self._append_canary(block, groups, when="open")
        timer = Timer()
        for part in split_by_device(runs):
            on_start = self._show_start(len(part))
            at_once = self.budget.at_once(part)
            for run, results in self.runner.execute(part, on_start, at_once, pace):
                self.progress.finish(run, results)
        seconds = round(timer.elapsed_s(), 3)
        timing = self.budget.note(runs, seconds, pace)
        self._append_canary(block, groups, when="close", **timing)
        self.todo = [other for other in self.todo if other is not runs]
        if seconds > LONGEST_BLOCK_S:
            self._warn_of_length(groups[0], seconds)

    def _append_canary(self, block: int, groups: list[str], when: str, **fields: Any) -> None:
        self.runner.append(
            "canary", block=block, groups=groups, when=when, values_s=canary(), **fields
        )

    def _show_start(self, interleaved: int) -> Callable[[Run], None]:
        """Return a function that shows the start of a run, one of so many that are interleaved."""
        left_s, since = self.budget.left_s(self._left()), Timer()

        def show(run: Run) -> None:
            now_left_s = max(0.0, left_s - since.elapsed_s())
            self.progress.start(run, now_left_s, interleaved)

        return show

    def _warn_of_length(self, group: str, seconds: float) -> None:
        self.progress.say(
            f"a block of {group} took {duration(seconds)}: in more than "
            f"{duration(LONGEST_BLOCK_S)} a machine changes under the comparison; measure fewer "
            "rows at once, or less in each run"
        )

    def _find_certificate(self) -> None:
        """Store a certificate that an earlier run, or another host, has left on the disk."""
        given = self.folder / CERTIFICATES
        kept = find_certificate(*raced(self.plan), quick=self.plan.scale != "full", also=given)
        if self._needs_certificate() and kept is not None:
            self._store_certificate(kept)

    def _certify(self) -> None:
        """Verify, while nothing is timed, that the frameworks compute the same numbers.

        If the time budget does not allow it, store that the certificate is pending.
        """
        if not self._needs_certificate():
            return
        algorithms, frameworks = raced(self.plan)
        needed_s = estimate.certificate_s(algorithms, frameworks)
        budget_s = self.plan.settings.budget_s
        if budget_s is not None and self.budget.timer.elapsed_s() + needed_s > budget_s:
            self._store_pending(algorithms, frameworks)
            return
        self._store_certificate(make_certificate(self.plan, self.progress.say))

    def _needs_certificate(self) -> bool:
        return self.plan.settings.certificate and not self.runner.certified

    def _store_certificate(self, certificate: Mapping[str, Any]) -> None:
        self.runner.append("certificate", certificate=nan_to_null(certificate))
        self.runner.certified = True

    def _store_pending(self, algorithms: Sequence[str], frameworks: Sequence[str]) -> None:
        """Store that there is no certificate, and the command that makes it."""
        names = [*(f"--algorithm {name}" for name in algorithms)]
        names += [f"--framework {name}" for name in frameworks]
        command = f"tiebreak verify --quick {' '.join(names)}"
        self.progress.say(f"not yet proved equal, no time left; for that: {command}")
        self.runner.append("pending", what="certificate", command=command)
