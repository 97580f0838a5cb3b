"""The trackers of a run as its observer: shows them the journal while it grows, and how the session ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tinymetafed_codegen.errors import Error

from ..federation.observer import Observer
from ..federation.result import Evaluation
from ..runs import report, store
from ..runs.journal import Entry, RoundEntry
from ..runs.run_data import RunData
from . import TrackerError
from .tracked_values import is_validation, tracked_end, tracked_round, tracked_run
from .tracker import State
from .tracker_thread import PATIENCE, TrackerThread
from .trackers_by_name import Named

COLLAPSED = "training collapsed: most adapted networks give the same answer whatever their input"


class RunLogs:
    """An observer that passes on the progress, and shows the run's journal to trackers.

    A round is shown when the next entry is stored, because an evaluation after it belongs to it. One whose evaluation runs
    beside the rounds that follow is shown with its scores, and these after it.
    """

    def __init__(
        self,
        observer: Observer,
        trackers: Sequence[Named],
        folder: Path,
        failed: Callable[[Named, str], None],
        patience: float = PATIENCE,
    ) -> None:
        """Starts the trackers.

        Args:
            observer: Is shown the progress.
            trackers: The trackers.
            folder: The run folder.
            failed: Is told which log has ended early and why; may be called from any thread.
            patience: As of TrackerThread.
        """
        self._observer, self._folder = observer, folder
        self._logs = [
            TrackerThread(partial(each.make, observer.event), each.explain, partial(failed, each), patience)
            for each in trackers
        ]
        self._held: list[RoundEntry] = []  # rounds that are not shown yet
        self._awaited: int | None = None  # the number of rounds after which the evaluation was begun whose entry is to come
        self._bytes = 0  # of the rounds shown
        self.is_open = False  # whether the trackers know the run

    def stage(self, text: str, total: int = 0) -> None:
        """Passed on."""
        self._observer.stage(text, total)

    def advance(self) -> None:
        """Passed on."""
        self._observer.advance()

    def note(self, text: str) -> None:
        """Passed on."""
        self._observer.note(text)

    def event(self, text: str) -> None:
        """Passed on."""
        self._observer.event(text)

    def opened(self, run: RunData) -> None:
        """Shows the run so far to the trackers, of which each takes the rounds that it has not."""
        self.is_open = True
        facts = tracked_run(run)
        for log in self._logs:
            log.show(facts)
        looked_at = {entry.round: entry for entry in run.evaluations if is_validation(entry)}
        for entry in run.rounds:
            self.stored(entry)
            if (found := looked_at.get(entry.round + 1)) is not None:
                self.stored(found)
            elif run.evaluating is not None and run.evaluating.round == entry.round + 1:
                self.evaluates(entry.round + 1)

    def evaluates(self, round_: int) -> None:
        """An evaluation after so many rounds has begun."""
        self._awaited = round_

    def stored(self, entry: Entry) -> None:
        """An entry that was added to the journal."""
        validation = entry if isinstance(entry, Evaluation) and is_validation(entry) else None
        if validation is not None:
            later = [each for each in self._held if each.round >= validation.round]
            self._show(len(self._held) - len(later), validation)
            self._awaited = None
            self._show(len(later) - 1)  # an evaluation may follow the last one
        elif self._awaited is None:
            self._show(len(self._held))
        if isinstance(entry, RoundEntry):
            self._held.append(entry)

    def _show(self, count: int, validation: Evaluation | None = None) -> None:
        """Shows trackers the first of the rounds that are held, the last of these with the evaluation after it."""
        shown, self._held = self._held[: max(0, count)], self._held[max(0, count) :]
        for entry in shown:
            found = validation if validation is not None and validation.round == entry.round + 1 else None
            tracked = tracked_round(entry, self._bytes, found)
            self._bytes = tracked.bytes
            for log in self._logs:
                log.show(tracked)

    def end(self, state: State, error: str = "") -> None:
        """Shows how the session ended and closes the trackers, waiting for them while they make progress."""
        with suppress(Error):  # without a store there is nothing to show
            run = store.read_run(self._folder)
            if not self.is_open and run.result is not None and state == "finished":  # there was nothing left to do
                self.opened(run)
            if self.is_open:
                self._show_end(run, state, error)
        for log in self._logs:
            log.end()

    def _show_end(self, run: RunData, state: State, error: str) -> None:
        self._show(len(self._held))  # no evaluation follows any more
        end = tracked_end(run, state, error, None if run.result is None else _report(run))
        for log in self._logs:
            log.show(end)


def _report(run: RunData) -> Path | None:
    """Writes the report of a finished run; None where that is impossible, which the command says itself."""
    with suppress(Error, OSError):
        return report.write(run)
    return None


@contextmanager
def logged(observer: Observer, trackers: Sequence[Named], folder: Path) -> Iterator[Observer]:
    """Shows a run to trackers for as long as its session lasts, and how it ends; a tracker that fails is an event.

    Args:
        observer: The observer of the run's progress.
        trackers: The trackers.
        folder: The run folder.

    Yields:
        The observer for the run.
    """
    if not trackers:
        yield observer
        return

    def warn(named: Named, why: str) -> None:
        later = "" if named.is_object else f"; tinymetafed log {folder} --log {named.name} writes it afterwards"
        observer.event(f"Warning: --log {named.name}: {why}; the run goes on without this log{later}")

    logs = RunLogs(observer, trackers, folder, warn)
    try:
        yield logs
    except KeyboardInterrupt:
        logs.end("interrupted")
        raise
    except BaseException as error:
        logs.end("failed", str(error) or type(error).__name__)
        raise
    logs.end("finished")


def write_logs(folder: Path, trackers: Sequence[Named], observer: Observer) -> None:
    """Shows trackers a run that is there already: finished, failed or interrupted.

    Args:
        folder: The run folder.
        trackers: The trackers.
        observer: Is told what trackers say.

    Raises:
        StoreError: The folder is not a run.
        TrackerError: A log cannot be written.
    """
    run, failures = store.read_run(folder), list[str]()
    logs = RunLogs(observer, trackers, folder, lambda named, why: failures.append(f"--log {named.name}: {why}"))
    logs.opened(run)
    if run.result is None:
        logs.end("interrupted")
    elif run.result.collapsed:
        logs.end("failed", COLLAPSED)
    else:
        logs.end("finished")
    if failures:
        raise TrackerError("; ".join(failures))
