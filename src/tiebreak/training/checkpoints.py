"""Checkpoints: all that a run needs to continue exactly, in one file without compression.

`checkpoints/<steps>.npz` is written to a temporary file, synced and renamed: a process killed at
any instant leaves the one before. Two are kept during a run, the last one after it.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np

from tiebreak import registry
from tiebreak.core.config import to_dict
from tiebreak.core.errors import UsageError
from tiebreak.core.files import open_atomic, remove_leftovers
from tiebreak.core.prefixes import Arrays
from tiebreak.core.schema import check
from tiebreak.core.text import one_line
from tiebreak.envs.task import Task
from tiebreak.training.run_logs import RESULT, read_object

FOLDER, SCHEMA, KEPT = "checkpoints", 1, 2
RUN_SETTINGS = (
    "algorithm", "framework", "task", "mode", "loop", "seed", "precision", "device",
    "eval_episodes", "eval_every", "eval_max_steps", "init_from",
    "altered",
)  # fmt: skip
"""Settings that must be equal when a run resumes, beside the algorithm's; not all are in every
config.json."""
READ_ERRORS = (
    OSError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, TypeError,
    ValueError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""Errors that reading a damaged file can raise."""


class Extension(TypedDict):
    """A point from which a run was to have more steps than before."""

    steps: int
    """Environment steps at that point."""
    total_steps: int
    """The setting before."""
    config_hash: str
    """Hash of all settings before."""


class RunConfig(TypedDict):
    """The fields of `config.json` that are read again; those of older versions may be fewer."""

    config: dict[str, Any]
    algorithm: NotRequired[str]
    framework: NotRequired[str]
    task: NotRequired[str]
    mode: NotRequired[str]
    loop: NotRequired[str]
    seed: NotRequired[int]
    precision: NotRequired[str]
    device: NotRequired[str]
    eval_episodes: NotRequired[int]
    eval_every: NotRequired[int]
    eval_max_steps: NotRequired[int]
    init_from: NotRequired[str]
    altered: NotRequired[str]
    command: NotRequired[str]
    config_hash: NotRequired[str]
    extended: NotRequired[list[Extension]]
    threads: NotRequired[int]
    ranks: NotRequired[int]
    versions: NotRequired[dict[str, Any]]


@dataclasses.dataclass
class Marks:
    """Progress of a run outside its loop; stored with every checkpoint."""

    wall_s: float = 0.0
    first_s: float = 0.0
    first_steps: int = 0
    """Seconds and steps of the intervals that are not steady (`train_loop.Interval`)."""
    evaluated_at: int = 0
    last_return: float | None = None
    """Mean return of the evaluation at `evaluated_at`."""
    saved_at: int = 0
    metrics: tuple[int, int] = (0, 0)
    """Lines and bytes of metrics.jsonl up to here."""
    evaluations: tuple[int, int] = (0, 0)
    """Lines and bytes of eval.jsonl up to here."""
    other_positions: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Where the output of other trackers ends, by the name that they chose."""
    resumed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Steps at which the run was resumed, and whether exactly."""

    def positions(self) -> dict[str, tuple[int, int]]:
        """Return where each tracker's output ends (see `Tracker.position`)."""
        return {
            "metrics": self.metrics,
            "evaluations": self.evaluations,
            **self.other_positions,
        }

    def with_positions(self, positions: Mapping[str, tuple[int, int]]) -> Marks:
        """Return a copy with new positions of the trackers' output."""
        others = dict(positions)
        return dataclasses.replace(
            self,
            metrics=others.pop("metrics", self.metrics),
            evaluations=others.pop("evaluations", self.evaluations),
            other_positions=others,
        )


class Restored(NamedTuple):
    """What a run goes on with, beside the state that its loop was given."""

    marks: Marks
    notes: list[str]
    """For the user."""
    config: Mapping[str, Any]
    """Contents of config.json from here on."""


def save(folder: Path, arrays: Arrays, config_hash: str, marks: Marks) -> None:
    """Write the checkpoint of `marks.saved_at` steps, and remove all but the one before."""
    header = {"schema": SCHEMA, "config_hash": config_hash, "marks": dataclasses.asdict(marks)}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open_atomic(folder / FOLDER / f"{marks.saved_at:012d}.npz") as file:
        np.savez(file, **{"about": text, **arrays})
    prune(folder, KEPT)


def prune(folder: Path, kept: int) -> None:
    """Remove all checkpoints but the last `kept`, and half-written ones of killed processes."""
    for path in _all(folder)[:-kept]:
        path.unlink(missing_ok=True)
    remove_leftovers(folder / FOLDER, "[0-9]*.npz")


def _all(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("[0-9]*.npz"))


def exists(folder: Path) -> bool:
    """Return whether there is a checkpoint to continue from."""
    return bool(_all(folder))


def newest_steps(folder: Path) -> int:
    """Return the steps of the newest checkpoint; 0 if there is none."""
    return max((int(path.stem) for path in _all(folder) if path.stem.isdecimal()), default=0)


def require_out(out: str | Path | None) -> Path:
    """Return the folder that is to be resumed; UsageError if none is named."""
    if out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run that is to go on")
    return Path(out)


def require_run(out: str | Path | None) -> Path:
    """Return the folder of a run that can be resumed; UsageError for anything else."""
    folder = require_out(out)
    stored = _read_run_config(folder)
    if "jobs" in stored:
        raise UsageError(
            f"the run in {str(out)!r} is of many agents; go on with: {stored.get('command')} "
            f"--out {shlex.quote(str(folder))} --resume"
        )
    if "seeds" in stored:
        raise UsageError(
            f"the run in {str(out)!r} is of many agents, of which no checkpoints are stored: start "
            "it again, in a new or an empty folder"
        )
    return folder


def require_more(folder: Path, total_steps: int) -> None:
    """Raise UsageError if the run in a folder is complete, and is to have no more steps."""
    if not _is_complete(folder):
        return
    stored = _read_run_config(folder)["config"].get("total_steps")
    if total_steps == stored:
        raise UsageError(
            f"the run in {str(folder)!r} is complete: there is nothing to resume; go on with more "
            f"than its {stored:,} steps by --set total_steps=N "
            f"(`tiebreak evaluate {shlex.quote(str(folder))}` runs its policy)"
        )
    if not exists(folder):
        raise UsageError(
            f"the run in {str(folder)!r} is complete and has no checkpoint (it was trained with "
            "--checkpoint-every 0): it cannot go on"
        )


def describe_resuming(run_config: Mapping[str, Any], folder: Path) -> str:
    """Return the command that goes on with a run, or what replaces it where there is none."""
    if str(run_config.get("task")).endswith("()"):  # a function of a Python program (envs/task.py)
        return f"the same tiebreak.train(…, env=…) with out={str(folder)!r}, resume=True"
    return f"{run_config.get('command')} --out {shlex.quote(str(folder))} --resume"


def describe_run(folder: Path) -> str:
    """Return how the run in a folder goes on, as part of a sentence; "" if there is none."""
    try:
        stored = _read_run_config(folder)
    except UsageError:
        return ""
    in_one_program = "seeds" in stored and "jobs" not in stored
    if in_one_program or "command" not in stored:
        return ""
    command = describe_resuming(stored, folder)
    result = _read_result(folder)
    if result.get("status") != "ok":
        return f"its training has not ended, and goes on with: {command}"
    if "stopped_at" in result:
        return f"its training has reached its --stop-at, and goes on with a higher one: {command}"
    more = "--trials N" if "search" in stored else "--set total_steps=N"
    return f"its training is complete, and goes on with: {command} {more}"


def _is_complete(folder: Path) -> bool:
    """Return whether the run in a folder has taken all its steps."""
    result = _read_result(folder)
    return result.get("status") == "ok" and "stopped_at" not in result


def _read_result(folder: Path) -> dict[str, Any]:
    """Return the contents of result.json; empty if there is none, or it cannot be read."""
    try:
        return read_object(folder / RESULT)
    except UsageError:
        return {}


def load(folder: Path, loop: Any, run_config: Mapping[str, Any]) -> Restored:
    """Restore the newest checkpoint into `loop`.

    `run_config`: contents of config.json as a new run with the present settings would have them;
    `total_steps` may be larger than the run had before. Raises UsageError if the folder has other
    settings, or the checkpoint is damaged or foreign.
    """
    stored = _read_run_config(folder)
    _require_same(folder, stored, run_config)
    paths = _all(folder)
    if not paths:
        note = "there is no checkpoint yet: starting again at step 0"
        return Restored(Marks(), [note], run_config)

    extended = stored.get("extended", [])
    hashes = {stored.get("config_hash"), run_config["config_hash"]}
    hashes |= {extension["config_hash"] for extension in extended}
    marks, exact = _read(paths, hashes, loop)
    marks.resumed.append({"steps": loop.steps, "exact": exact})
    notes = [f"going on at step {loop.steps:,}"]
    if not exact:
        task = Task.parse(run_config["task"])
        notes.append(
            f"NOT exactly: the environments of {str(task)!r} cannot be stored ({task.engine}), so "
            "new episodes start here"
        )
    notes += _what_has_changed(stored, run_config)
    if _settings(stored, run_config)["total_steps"] == run_config["config"]["total_steps"]:
        config = {**run_config, **stored, "command": run_config["command"]}
        return Restored(marks, notes, config)
    notes += _about_more_steps(stored, run_config)
    return Restored(marks, notes, _extend(stored, run_config, loop.steps))


def _extend(stored: Mapping[str, Any], run_config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Return the contents of config.json of a run that has more steps from here on."""
    before = {
        "steps": steps,
        "total_steps": _settings(stored, run_config)["total_steps"],
        "config_hash": stored.get("config_hash", ""),
    }
    changed = {name: run_config[name] for name in ("config", "config_hash", "command")}
    return {**run_config, **stored, **changed, "extended": [*stored.get("extended", []), before]}


def _about_more_steps(stored: Mapping[str, Any], run_config: Mapping[str, Any]) -> list[str]:
    """Return a line about the new number of steps, and what is spread over it."""
    was, now = _settings(stored, run_config)["total_steps"], run_config["config"]["total_steps"]
    line = f"total_steps {was:,} -> {now:,}"
    schedules = registry.ALGORITHMS[run_config["algorithm"]].schedules
    spread = [f"{what} ({name})" for name, what in schedules if run_config["config"][name]]
    if spread:
        line += (
            f": {' and '.join(spread)} is spread over them, from here on as in a run of {now:,} "
            f"steps, until here as in one of {was:,}"
        )
    return [line]


def _read(paths: list[Path], hashes: Collection[Any], loop: Any) -> tuple[Marks, bool]:
    path = paths[-1]
    advice = f"; remove it to go on from {paths[-2].name}" if len(paths) > 1 else ""
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"{damaged} does not match its checksum")
        with np.load(path) as arrays:  # refuses pickles
            header = json.loads(arrays["about"].tobytes())
            if header["schema"] != SCHEMA:
                raise ValueError(f"its schema is {header['schema']}, not {SCHEMA}")
            if header["config_hash"] not in hashes:
                raise ValueError("it belongs to a run with other settings")
            if problem := check(header["marks"], Marks):
                raise ValueError(f"its marks cannot be read: {problem}")
            marks = Marks(**header["marks"])
            return marks, loop.load(arrays)
    except READ_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise UsageError(f"cannot go on from {str(path)!r}: {reason}{advice}") from error


def _read_run_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        run_config = json.loads(path.read_text(encoding="utf-8"))
        if problem := check(run_config, RunConfig):
            raise ValueError(f"it describes no run: {problem}")
        return run_config
    except FileNotFoundError:
        raise UsageError(
            f"{str(folder)!r} holds no run to resume (no config.json): start one with the same "
            "command without --resume"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error}") from error


def _require_same(folder: Path, stored: Mapping[str, Any], run_config: Mapping[str, Any]) -> None:
    """Raise UsageError unless all settings are equal, but for more steps."""
    pairs = [(name, stored.get(name), run_config.get(name)) for name in RUN_SETTINGS]
    settings = _settings(stored, run_config)
    pairs += [
        (name, settings[name], now)
        for name, now in run_config["config"].items()
        if not (name == "total_steps" and _is_less(settings[name], now))
    ]
    others = [
        f"{name} {one_line(was)[:100]} (here {now})" for name, was, now in pairs if was != now
    ]
    if others:
        raise UsageError(
            f"the run in {str(folder)!r} has other settings: {', '.join(others)}; go on with: "
            f"{describe_resuming(stored, folder)}"
        )


def _is_less(was: Any, now: int) -> bool:
    """Return whether a stored number, which may be anything, is below another."""
    return isinstance(was, int) and was < now


def _settings(stored: Mapping[str, Any], run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the algorithm's settings in a stored config.json.

    A setting that an older version did not have is taken as its default, as policies are read.
    """
    defaults = to_dict(registry.config_module(run_config["algorithm"]).Config())
    return {**defaults, **stored["config"]}


def _what_has_changed(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line about versions and threads that differ; [] if none do."""
    was, new = stored.get("versions", {}), now["versions"]
    changed = [
        f"{name} {was[name]} -> {new.get(name)}" for name in was if was[name] != new.get(name)
    ]
    if "threads" in stored and stored["threads"] != now.get("threads"):
        changed.append(f"threads {stored['threads']} -> {now.get('threads', 'as they are')}")
    if stored.get("ranks", 1) != now.get("ranks", 1):
        changed.append(f"processes {stored.get('ranks', 1)} -> {now.get('ranks', 1)}")
    if not changed:
        return []
    return [f"perhaps not bit for bit: other than before are {', '.join(changed)}"]
