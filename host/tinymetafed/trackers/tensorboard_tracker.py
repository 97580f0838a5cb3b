"""Logs a run for TensorBoard: an event file in the run's folder, written with tensorboardX."""

from __future__ import annotations

import time
from collections.abc import Callable

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

from ..runs.run_folder import require_plain
from .csv_tracker import own_folder
from .tracker import State, TrackedEnd, TrackedRound, TrackedRun

SUFFIX = ".tinymetafed"  # of the file that a resumed run replaces
TESTS = ("test/before", "test/after", "test/after_ci95")
_STATUS: dict[State, str] = {"finished": "STATUS_SUCCESS", "interrupted": "STATUS_UNKNOWN", "failed": "STATUS_FAILURE"}


class TensorBoardTracker:
    """Writes an event file below RUN/tensorboard; each number by round, and again by bytes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._events: EventsWriter | None = None

    def start(self, run: TrackedRun) -> int:
        """Begins the file anew, for the rounds of all sessions, as a file that lost its end could not be continued."""
        folder = own_folder(run.folder, "tensorboard")
        for file in folder.glob(f"*{SUFFIX}"):
            require_plain(file)
            file.unlink()
        self._run = run
        self._events = EventsWriter(str(folder / "events"), SUFFIX)
        keys, begin, _ = summary.hparams(dict(run.parameters), dict.fromkeys(TESTS, 0.0))
        self._write(keys, 0)
        self._write(begin, 0)
        self._text("run", [("name", run.name), *run.parameters.items()], 0)
        self._events.flush()
        return 0

    def round(self, round: TrackedRound) -> None:
        """Writes the round's numbers."""
        assert self._events is not None
        for name, value in round.scalars.items():
            self._write(summary.scalar(f"{name}/by_round", value), round.round)
            self._write(summary.scalar(f"{name}/by_bytes", value), round.bytes)
        self._write(summary.scalar("bytes/total/by_round", round.bytes), round.round)
        self._events.flush()

    def finished(self, end: TrackedEnd) -> None:
        """Writes the test's scores and how the session ended."""
        assert self._events is not None
        for name, value in end.scalars.items():
            self._write(summary.scalar(name, value), end.round)
        said = [
            ("state", end.state),
            ("error", end.error),
            ("weights_sha256", end.weights_sha256),
            ("report", end.report or ""),
            ("metric", end.metric),
        ]
        self._text("end", [*said, *end.scalars.items()], end.round)
        closed = SessionEndInfo(status=Status.Value(_STATUS[end.state]), end_time_secs=time.time())
        plugin = SummaryMetadata.PluginData(
            plugin_name="hparams", content=HParamsPluginData(session_end_info=closed, version=0).SerializeToString()
        )
        value = Summary.Value(tag="_hparams_/session_end_info", metadata=SummaryMetadata(plugin_data=plugin))
        self._write(Summary(value=[value]), end.round)
        self._events.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._events is not None:
            self._events.close()

    def _text(self, tag: str, rows: list[tuple[str, object]], step: int) -> None:
        """Writes a table of keys and values as text."""
        lines = ["| key | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)]
        self._write(summary.text(tag, "\n".join(lines)), step)

    def _write(self, content: Summary, step: int) -> None:
        assert self._events is not None
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=content))
