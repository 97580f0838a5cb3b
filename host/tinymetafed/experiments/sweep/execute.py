"""Runs a sweep in several processes; runs of one model share vector units; finished runs are not repeated."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tinymetafed_codegen.files import LockedError, locked
from tinymetafed_codegen.spec import TooFewClients, dump, parse

from ...federation.clients import TrainingFailed
from ...federation.meta_test import Collapsed
from ...federation.observer import Observer
from ...learn.strategies import StrategyError
from ...learn.tasks.own_data.kept_tables import tables_kept
from ...runs import training
from ...runs.foreign_parts import of_experiment, python_of, remember
from ...runs.setup import design_of, set_up
from ...runs.sites import InSimulation
from ...simulation.kernels import open_kernels
from ...simulation.lock_step import LockStep
from ...simulation.vector_units import choose
from .. import SweepFailed
from .finished_runs import is_done, opened, set_changed_aside
from .process_start import start
from .sweep_file import Run, Sweep

_STOPPED = 3  # exit code of a run whose sweep has ended
_LOOK_SECONDS = 1.0  # between two looks whether the time is over


def execute(
    sweep: Sweep,
    out: Path,
    jobs: int,
    data: Path | None,
    observer: Observer,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[Path, str]:
    """Runs all runs of a sweep that are not finished; after an interruption the same call continues.

    A run whose data, strategy, model or initial weights have changed is repeated; its old folder is renamed and kept.

    Args:
        sweep: The sweep.
        out: Its folder.
        jobs: Runs at a time.
        data: Folder of the task's data; None for the usual place.
        observer: Is told of progress.
        is_over: Asked now and then; once it is true, runs are stopped, and are continued by the next call.

    Returns:
        For runs that diverged or have too few clients what happened, by folder.

    Raises:
        SweepFailed: The folder belongs to another sweep, a run failed, or no run has enough clients.
        DataError: The data cannot be read.
        BuildError: The simulation cannot be compiled.
    """
    with _claimed(out):
        with tables_kept():
            set_changed_aside(sweep.runs, out, data, observer)
            waiting = [run for run in sweep.runs if not is_done(run, out)]
            short = _short_of_clients(waiting, data)
        if len(short) == len(sweep.runs):
            raise SweepFailed(f"{sweep.path}: {next(iter(short.values()))}")
        for folder, reason in short.items():
            observer.event(f"{folder.parent.name}, {folder.name}: {reason}")
        missing = [run for run in waiting if run.folder not in short]
        if not missing:
            return short
        _compile(missing, jobs, observer)
        observer.stage("runs", len(missing))
        # The longest runs first, so that all cores finish at nearly the same time.
        queue = sorted(together(missing, jobs, choose(None).lanes), key=lambda runs: sum(map(_work, runs)))
        return short | _all(queue, out, jobs, data, observer, is_over)


def is_sweep(out: Path) -> bool:
    """Whether a folder is that of a sweep: it has both ``runs`` (as a project) and a ``lock`` (as a run)."""
    return (out / "runs").is_dir() and (out / "lock").is_file()


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Locks the sweep's folder against other processes. Raises SweepFailed if it is in use or has other content.

    If no run was begun in it, the folder is removed at the end.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not is_sweep(out) and any(path.name != "lock" for path in out.iterdir()):
            raise SweepFailed(f"{out}: exists already and is not the folder of a sweep; choose another folder with -o")
        with locked(out / "lock", wait=False):
            (out / "runs").mkdir(exist_ok=True)
            try:
                yield
            finally:
                with suppress(OSError):  # there are runs
                    (out / "runs").rmdir()
                    (out / "lock").unlink()
                    out.rmdir()
    except LockedError as taken:
        raise SweepFailed(
            f"{out}: process {taken.holder or '(starting)'} is running a sweep in this folder; wait for its end"
        ) from None


def _work(run: Run) -> float:
    """Sort key that puts runs with more work first: the negative of the estimated work."""
    experiment = run.experiment
    weights: int = run.cell.manifest.n_parameters
    return -weights * experiment.run.rounds * experiment.run.devices_per_round * experiment.strategy.global_passes


def together(runs: Sequence[Run], jobs: int, lanes: int) -> list[list[Run]]:
    """Groups of runs that one process simulates in lock-step: of one model, as many as fill the lanes and all jobs.

    A call takes as long for one client as for all lanes. Where more than a quarter of the lanes would be empty, each run stays
    alone, as a single client's sums fill the lanes, too. So does a run of a user's own Python code: code of several runs in
    one process might share its variables.
    """
    groups: list[list[Run]] = []
    for _, alike in itertools.groupby(runs, key=_lock_step_key):
        same = list(alike)
        experiment = same[0].experiment
        per_round = experiment.run.devices_per_round
        size = max(1, min(lanes // per_round, math.ceil(len(runs) / jobs)))
        # A model's statistics may differ between seeds.
        alone = experiment.data.is_unmeasured or bool(python_of(dump(experiment)))
        for at in range(0, len(same), size):
            group = same[at : at + size]
            groups += [[run] for run in group] if alone or 4 * len(group) * per_round < 3 * lanes else [group]
    return groups


def _lock_step_key(run: Run) -> tuple[str, int, int]:
    """What runs in lock-step have in common: model, devices and rounds, as the longest one keeps its process."""
    asked = run.experiment.run
    return run.cell.manifest.model_hash, asked.devices_per_round, asked.rounds


def _short_of_clients(runs: Sequence[Run], data: Path | None) -> dict[Path, str]:
    """Checks each task's data before the first run; the runs that have fewer clients than a round needs, by folder."""
    tasks: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        task = json.dumps(dump(run.experiment)["task"], sort_keys=True)
        tasks.setdefault((task, run.experiment.run.devices_per_round), []).append(run)
    short: dict[Path, str] = {}
    for same in tasks.values():
        try:
            opened(same[0], data)
        except TooFewClients as error:
            short |= {run.folder: f"left out: {error}" for run in same}
    return short


def _compile(runs: Sequence[Run], jobs: int, observer: Observer) -> None:
    """Compiles each model's kernels, before the first run."""
    # The normalisation may differ between seeds, which hold out other clients; such runs compile their own kernels.
    models = {run.cell.manifest.model_hash: run for run in runs if not run.experiment.data.is_unmeasured}
    observer.stage("compiling simulations", len(models))
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda run: open_kernels(run.cell.design, 1), models.values()):
            observer.advance()


def _all(
    queue: list[list[Run]], out: Path, jobs: int, data: Path | None, observer: Observer, is_over: Callable[[], bool]
) -> dict[Path, str]:
    """Runs the queue in order until it ``is_over``. Raises SweepFailed after the first failure and stops the other runs."""
    # A fork server that has all modules imported starts processes fast, and without threads of this process.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    running: dict[int, tuple[BaseProcess, Connection, list[Run]]] = {}
    diverged: dict[Path, str] = {}
    try:
        while (queue or running) and not is_over():
            while queue and len(running) < jobs:
                runs = queue.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                # As plain values: another process has not imported the modules of a user's own classes.
                asked = [_Asked(json.dumps(dump(run.experiment)), str(run.cell.source), out / run.folder, data) for run in runs]
                process = context.Process(target=_simulate, args=(asked, theirs))
                start(process)
                theirs.close()
                running[process.sentinel] = (process, ours, runs)
            for sentinel in wait(list(running), _LOOK_SECONDS):
                process, answers, runs = running.pop(sentinel)  # type: ignore[arg-type]
                process.join()
                for run, (kind, text) in zip(runs, _answers(answers, process, len(runs)), strict=True):
                    if kind == "failed":
                        raise SweepFailed(f"{run.name}: {text}\nThe same command continues with what is finished.")
                    if kind == "diverged":
                        diverged[run.folder] = f"diverged: {text}"
                        observer.event(f"{run.name}: {text}")
                    observer.note(f"finished: {run.name}")
                    observer.advance()
    finally:
        for process, answers, _ in running.values():
            process.terminate()  # rounds are stored in transactions, so no finished round is lost
            process.join()
            answers.close()
    return diverged


def _answers(answers: Connection, process: BaseProcess, count: int) -> list[tuple[str, str]]:
    """The outcome of each of a process's runs: what happened, and its text."""
    with answers:
        try:
            return [(str(kind), str(text)) for kind, text in answers.recv()]
        except EOFError:
            return [("failed", f"its process ended with exit code {process.exitcode} without an answer")] * count


class _Quiet:
    """Shows no progress of a single run."""

    def stage(self, text: str, total: int = 0) -> None:
        """Nothing."""

    def advance(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def event(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Asked:
    """A run that a process simulates: its experiment in JSON, the file's name, its folder and that of the data."""

    experiment: str
    source: str
    folder: Path
    data: Path | None


def _simulate(asked: Sequence[_Asked], answer: Connection) -> None:
    """Main function of a process: starts or resumes runs of one model in lock-step, and sends the outcome of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the sweep, which ends this process
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    if len(asked) == 1:
        answer.send([_outcome(asked[0], InSimulation())])
        return
    first = asked[0]
    try:
        kernels = open_kernels(design_of(parse(json.loads(first.experiment), first.source), first.source), 1)
    except Exception as error:
        answer.send([("failed", f"{type(error).__name__}: {error}")] * len(asked))
        return
    lock_step = LockStep(kernels, len(asked))

    def run(one: _Asked) -> tuple[str, str]:
        with lock_step.member() as shared:
            return _outcome(one, InSimulation(shared=shared))

    with tables_kept(), ThreadPoolExecutor(len(asked)) as threads:  # a thread for each run, as each waits for the others
        answer.send(list(threads.map(run, asked)))


def _outcome(asked: _Asked, place: InSimulation) -> tuple[str, str]:
    """Simulates one run; whether it is done, has diverged or has failed, and the reason."""
    try:
        named = parse(json.loads(asked.experiment), asked.source)
        remember(of_experiment(named, asked.source))  # in this process, too
        if (asked.folder / "run.db").exists():
            training.resume_at(place, asked.folder, _Quiet(), data=asked.data)
        else:
            training.simulate_at(place, set_up(named, asked.source, asked.data), asked.folder, _Quiet())
    except Collapsed:
        return "done", ""  # it ran to its end, and the store has its figures
    except (TrainingFailed, StrategyError) as error:
        return "diverged", str(error)  # a repetition would diverge too
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    return "done", ""


def _end_with_the_sweep() -> None:
    sweep = multiprocessing.parent_process()
    assert sweep is not None
    sweep.join()
    os._exit(_STOPPED)
