"""MLflow: to the server of MLFLOW_TRACKING_URI, else to a database in the run's folder.

A training that goes on keeps its run, and logs no step of a metric that the run has already.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from tiebreak.training.scalars import Scalar, ScalarTracker
from tiebreak.training.trackers import TrackedRun

EXPERIMENT = "tiebreak"
"""Experiment of the runs, unless MLFLOW_EXPERIMENT_NAME names one."""
FOLDER_TAG = "tiebreak.folder"
MOST = 100
"""Parameters in one call."""


class MLflow(ScalarTracker):
    """Logs to one run of MLflow, through a client that leaves MLflow's global state alone."""

    def __init__(self, run: TrackedRun):
        self._folder, self._name = run.folder.resolve(), run.name
        self._uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self._client: Any = None
        self._run_id = ""
        self._goes_on = False
        self._last_steps: dict[str, int] = {}
        if not self._uri:
            self._uri = f"sqlite:///{self._folder / 'mlflow.db'}"
            self.about = f"MLflow: mlflow ui --backend-store-uri {quote(self._uri)}"

    def start(self, config: Mapping[str, Any], step: int = 0) -> None:
        """Begin a run, or go on with the one of this folder."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        experiment_id = self._experiment_id()
        if step:
            self._run_id = self._find(experiment_id)
        self._goes_on = bool(self._run_id)
        if self._goes_on:
            self._client.update_run(self._run_id, status="RUNNING")
            return
        tags = {FOLDER_TAG: str(self._folder)}
        run = self._client.create_run(experiment_id, run_name=self._name, tags=tags)
        self._run_id = run.info.run_id
        self._log_parameters(config)

    def write(self, step: int, scalars: Sequence[Scalar]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(scalar.full_name, scalar.value, now, step)
            for scalar in scalars
            if step > self._last_step(scalar.full_name)
        ]
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(self._run_id, metrics=metrics[first : first + MOST])

    def finish(self, result: Mapping[str, Any]) -> None:
        statuses = {"ok": "FINISHED", "interrupted": "KILLED"}
        self._client.set_terminated(self._run_id, statuses.get(result["status"], "FAILED"))

    def _experiment_id(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(name)
        return experiment.experiment_id if experiment else self._client.create_experiment(name)

    def _find(self, experiment_id: str) -> str:
        """Return the id of this folder's newest run; empty if it has none."""
        runs = self._client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{FOLDER_TAG}` = '{self._folder}'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return runs[0].info.run_id if runs else ""

    def _last_step(self, name: str) -> int:
        """Return the last step of a metric from before the training went on; -1 without one."""
        if not self._goes_on:
            return -1
        if name not in self._last_steps:
            history = self._client.get_metric_history(self._run_id, name)
            self._last_steps[name] = max((metric.step for metric in history), default=-1)
        return self._last_steps[name]

    def _log_parameters(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        settings = {name: value for name, value in config.items() if _is_plain(value)}
        settings |= config.get("config", {})
        params = [Param(name, str(value)) for name, value in settings.items()]
        for first in range(0, len(params), MOST):
            self._client.log_batch(self._run_id, params=params[first : first + MOST])


def make(run: TrackedRun) -> MLflow:
    """Choose where `run` is logged; `start` connects."""
    return MLflow(run)


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))
