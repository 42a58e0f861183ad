"""TensorBoard: the run's numbers as an event file in its folder (`tensorboard --logdir runs`).

Numbers are those of metrics.jsonl and eval.jsonl in float32, the precision of event files.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from tiebreak.training.scalars import Scalar, ScalarTracker
from tiebreak.training.trackers import TrackedRun

AGENT_FOLDER = "agent_{:03d}"
"""Folder of an agent of a population: TensorBoard draws folders as lines of one chart."""
FLUSH_S = 5.0
"""Most seconds until a TensorBoard that is running sees a number."""


class TensorBoard(ScalarTracker):
    """Writes event files, in the run's folder or in one for each agent of a population.

    It writes when it is called, not in a thread as tensorboardX's SummaryWriter does: a checkpoint
    has to know where the file ends.
    """

    def __init__(self, run: TrackedRun):
        self._folder = run.folder
        self._writers: dict[int | None, Any] = {}
        self._config: Mapping[str, Any] = {}
        self._step, self._flushed_s = 0, 0.0
        self.about = f"TensorBoard: tensorboard --logdir {quote(str(run.folder.parent))}"
        _truncate(run.folder, run.positions)

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        self._config, self._step = config, step

    def write(self, step: int, scalars: Sequence[Scalar]) -> None:
        from tensorboardX.summary import scalar as summarize

        for scalar in scalars:
            summary = summarize(scalar.name, scalar.value)
            self._add(scalar.agent, step, summary=summary)
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self._flush()

    def position(self) -> Mapping[str, tuple[int, int]]:
        """Sync to disk, and return the bytes of every event file."""
        self._flush()
        files = _event_files(self._folder)
        return {name: (0, path.stat().st_size) for name, path in files.items()}

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        for writer in self._writers.values():
            writer.flush()

    def _add(self, agent: int | None, step: int, **event: Any) -> None:
        """Append an event to an agent's file, which begins with the first one."""
        from tensorboardX.proto.event_pb2 import Event  # type: ignore

        if agent not in self._writers:
            self._writers[agent] = self._open(agent)
            self._add(agent, step, file_version="brain.Event:2")
            self._add_beginning(agent)
        self._writers[agent].write(
            Event(wall_time=time.time(), step=step, **event).SerializeToString()
        )

    def _open(self, agent: int | None) -> Any:
        from tensorboardX import RecordWriter

        folder = self._folder if agent is None else self._folder / AGENT_FOLDER.format(agent)
        folder.mkdir(exist_ok=True)
        # A run that goes on within the same second must not replace its file.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.from-{self._step}"
        return RecordWriter(str(folder / name))

    def _add_beginning(self, agent: int | None) -> None:
        from tensorboardX.proto.event_pb2 import SessionLog  # type: ignore
        from tensorboardX.summary import text

        if self._step:  # a TensorBoard that is running forgets what it has read beyond here
            log = SessionLog(status=SessionLog.START)
            self._add(agent, self._step + 1, session_log=log)
        config = json.dumps(self._config, indent=1, default=str)
        self._add(agent, self._step, summary=text("config", f"```\n{config}\n```"))


def make(run: TrackedRun) -> TensorBoard:
    """Prepare the event files of `run`, cut to where the run continues."""
    return TensorBoard(run)


def _event_files(folder: Path) -> dict[str, Path]:
    """Return the event files of a run by their names in positions."""
    paths = [*folder.glob("events.out.tfevents.*"), *folder.glob("agent_*/events.out.tfevents.*")]
    return {f"tensorboard {path.relative_to(folder)}": path for path in paths}


def _truncate(folder: Path, positions: Mapping[str, tuple[int, int]]) -> None:
    """Cut event files to their length at the checkpoint; remove those that came later.

    Where the part before the checkpoint was not tracked to its end, leave files as they are.
    """
    files = _event_files(folder)
    was_tracked = not files.keys().isdisjoint(positions)
    starts_again = positions.get("metrics", (0, 0))[0] == 0
    if not was_tracked and not starts_again:
        return
    for name, path in files.items():
        if name not in positions:
            path.unlink()
            continue
        _, size = positions[name]
        os.truncate(path, min(size, path.stat().st_size))
