"""Logs a run with MLflow, where its own environment variables say."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from tinymetafed_codegen.files import replace

from ..runs.run_folder import require_plain
from .tracker import State, TrackedEnd, TrackedRound, TrackedRun

EXPERIMENT = "tinymetafed"  # unless MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID says otherwise
_MOST_METRICS = 1000  # that MLflow takes at once
_MOST_PARAMS = 100
_LONGEST = 500  # characters of a value that every version takes
_SECONDS = 2.0  # after which what has gathered is sent
_STATUS: dict[State, str] = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class MlflowTracker:
    """Writes into MLflow's tracking store; RUN/mlflow.run keeps the id of the run there, so that it is continued."""

    def __init__(self, say: Callable[[str], None]) -> None:
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # it reports the creation of a database, among our progress
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
        self._client = MlflowClient()
        self._gathered: list[Metric] = []
        self._id = ""
        self._sent = time.monotonic()

    def start(self, run: TrackedRun) -> int:
        """Begins a run in MLflow, or continues the one that there is; returns how many rounds it has."""
        file = run.folder / "mlflow.run"
        require_plain(file)
        self._id = _known(self._client, file.read_text(encoding="utf-8").strip() if file.exists() else "")
        if not self._id:
            made = self._client.create_run(_experiment(self._client), run_name=run.name)
            self._id = made.info.run_id
            replace(file, f"{self._id}\n".encode())
        self._client.set_terminated(self._id, "RUNNING")
        there = self._client.get_run(self._id).data
        new = [
            Param(name, str(value)[:_LONGEST])
            for name, value in run.parameters.items()
            if name not in there.params and value != ""
        ]
        for first in range(0, len(new), _MOST_PARAMS):
            self._client.log_batch(self._id, params=new[first : first + _MOST_PARAMS])
        self._client.set_tag(self._id, "tinymetafed.folder", str(run.folder.resolve()))
        self._client.set_tag(self._id, "tinymetafed.rounds", str(run.rounds))
        return int(there.metrics.get("round", 0))

    def round(self, round: TrackedRound) -> None:
        """Gathers the round's numbers, of which many are sent at once."""
        now = int(time.time() * 1000)
        by_round = [Metric(name, value, now, round.round) for name, value in round.scalars.items()]
        by_bytes = [Metric(f"by_bytes/{name}", value, now, round.bytes) for name, value in round.scalars.items()]
        last = [Metric("bytes/total", round.bytes, now, round.round), Metric("round", round.round, now, round.round)]
        made = [*by_round, *by_bytes, *last]  # "round" at the end: it says up to where the log is complete
        if len(self._gathered) + len(made) > _MOST_METRICS:
            self._send()
        self._gathered += made
        if time.monotonic() - self._sent >= _SECONDS:
            self._send()

    def finished(self, end: TrackedEnd) -> None:
        """Sends the rest, the test's scores, the report, and how the session ended."""
        self._send()
        known = self._client.get_run(self._id).data
        now = int(time.time() * 1000)
        for name, value in end.scalars.items():
            if known.metrics.get(name) != value:
                self._client.log_metric(self._id, name, value, now, end.round)
        self._client.set_tag(self._id, "tinymetafed.weights_sha256", end.weights_sha256)
        self._client.set_tag(self._id, "tinymetafed.metric", end.metric)
        self._client.set_tag(self._id, "tinymetafed.state", end.state)
        self._client.set_tag(self._id, "tinymetafed.error", end.error)
        if end.report is not None:
            self._client.log_artifact(self._id, str(end.report))
        self._client.set_terminated(self._id, _STATUS[end.state])

    def close(self) -> None:
        """Sends what is left of a run whose end was not seen."""
        if self._gathered:
            self._send()

    def _send(self) -> None:
        gathered, self._gathered = self._gathered, []
        self._client.log_batch(self._id, metrics=gathered)
        self._sent = time.monotonic()


def _experiment(client: MlflowClient) -> str:
    """The id of the experiment that MLflow's variables name, or of ours, which is created where it is missing."""
    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _known(client: MlflowClient, run_id: str) -> str:
    """The id of a run if MLflow has it where it writes now, else ""."""
    if not re.fullmatch(r"[0-9a-f]{32}", run_id):
        return ""
    try:
        return str(client.get_run(run_id).info.run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # written elsewhere, or deleted there
            return ""
        raise
