"""A tracker that keeps every event: a new tracker is one module and one row of TRACKERS."""

from __future__ import annotations

from typing import Any

from tiebreak.training.trackers import TrackedRun, Tracker

EVENTS: list[tuple[str, Any]] = []


class Recorder(Tracker):
    def __init__(self, run: TrackedRun):
        EVENTS.append(("open", run.positions.get("recorder")))
        self._file = run.folder / "recorder.txt"

    def start(self, config, step=0):
        EVENTS.append(("start", (config["algorithm"], step)))

    def log_metrics(self, step, metrics):
        EVENTS.append(("metrics", (step, metrics)))

    def log_evaluation(self, step, evaluation):
        EVENTS.append(("evaluation", (step, evaluation["returns"])))

    def position(self):
        self._file.write_text("output of a tracker")
        return {"recorder": (len(EVENTS), 0)}

    def finish(self, result):
        EVENTS.append(("finish", result["status"]))

    def close(self):
        EVENTS.append(("close", None))


def make(run: TrackedRun) -> Recorder:
    return Recorder(run)
