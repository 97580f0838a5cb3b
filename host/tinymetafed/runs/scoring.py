"""Scores a run's model on any data: every client adapts first, or has adapted weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import is_classification

from ..federation.clients import Adapted
from ..federation.observer import Observer
from ..federation.result import Adaptation
from ..learn.normalisation import require_fit
from ..learn.strategies import open_strategy
from ..learn.tasks import ANY_NUMBER, HELD_OUT, DataError, Task
from ..learn.tasks.task_registry import open_task, open_to_score
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from . import adapted, unchanged
from .adapted import AdaptedError
from .run_data import RunData
from .setup import Setup, design_of


def evaluate(
    run: RunData, data: Path | None, weights: Path | None, samples: int | None, threads: int, observer: Observer
) -> Adaptation:
    """Scores the model of a run on data, in the simulation.

    Args:
        run: The run.
        data: Path of the data to score on; None for the held-out clients of the run's own data.
        weights: A file of adapted weights for all clients, or a folder with the file of each; then nothing is trained. None to
            let each client adapt with samples of its own.
        samples: Samples to adapt with, in the unit of ``task.adapt``; None for the run's own number.
        threads: Threads to use.
        observer: Is told of progress.

    Returns:
        The scores of each client: before and after, by class and on average. With ``weights``, "before" is the run's model
        without adaptation. Where each client is a file, all clients of the data are scored, on all rows that they have not
        adapted to; where clients are drawn at random, as many as ``evaluation.tasks`` says. With ``weights`` the rows that
        these weights were adapted with are left out where the file says which they are; otherwise ``notes`` says so.

    Raises:
        Error: DataError, SpecError, StoreError, AdaptedError or BuildError.
    """
    experiment = run.experiment(adapt=samples)
    names = run.header.asked.class_names
    if not names and is_classification(experiment.model.loss):  # a run of an earlier version
        names = tuple(open_task(experiment, run.data).class_names)
    source = str(run.path / "experiment.toml")
    designed = design_of(experiment, source)
    task = open_task(experiment, run.data) if data is None else open_to_score(experiment, data, names)
    require_fit(experiment.data, task, source)
    setup = Setup(designed, task, open_strategy(experiment, designed.manifest), data)
    unchanged.same_model(setup, run)
    observer.stage("compiling the simulation")
    streamed = design(experiment.streamed, designed.board, source, designed.boards)
    clients = SimulatedClients(open_kernels(streamed, threads), setup.strategy, task)
    counted = task.unseen_clients != ANY_NUMBER
    numbers = [HELD_OUT + i for i in range(task.unseen_clients if counted else experiment.evaluation.tasks)]
    observer.stage("scoring clients", len(numbers))
    known, notes = ({}, []) if data is None or not counted else _trained_on(run, task, numbers)
    if weights is not None:
        done = [_scored(clients, run, designed, task, client, weights, notes) for client in numbers]
        return adapted.scores(task, done, 0, [None] * len(done), known, notes)
    count = experiment.task.count(SampleSet.ADAPT)
    for client in numbers:
        _require_enough(task, client, count)
    done = clients.adapt_and_score(run.kept, numbers, count, observer.advance)
    return adapted.scores(task, done, count, [None] * len(done), known, notes)


def _trained_on(run: RunData, task: Task, clients: Sequence[int]) -> tuple[dict[int, bool | None], list[str]]:
    """Whether the run has trained on each client of other data, found by comparing samples; and a note about it."""
    try:
        own = open_task(run.experiment(), run.data)
    except Error as error:
        reason = f"the run's own data cannot be read ({error})"
    else:
        if own.data_sha256 == run.header.asked.data_sha256:
            known: dict[int, bool | None] = {client: task.trained_with(client, own) for client in clients}
            if trained := sum(map(bool, known.values())):
                return known, [f"the run has trained on {trained} of these {len(clients)} clients, which are not unseen"]
            return known, ["other data than the run has trained on: no client has the samples of a training client"]
        reason = "the run's own data have changed since it was begun"
    return dict.fromkeys(clients), [f"{reason}, so it is not known whether it has trained on these clients"]


def _require_enough(task: Task, client: int, count: int) -> None:
    """Raises DataError unless a client has the samples to adapt with, and one more to be scored on."""
    there = len(task.samples(client, 0, SampleSet.ADAPT, count))
    if there < count or not len(task.samples_to_score(client, count)):
        raise DataError(
            f"client '{task.client_name(client)}': too few samples to adapt with {count} and be scored on others; adapt with "
            "fewer (--samples), or score weights that are adapted already (--weights)"
        )


def _scored(
    clients: SimulatedClients, run: RunData, made: Design, task: Task, client: int, weights: Path, notes: list[str]
) -> Adapted:
    """The outputs of adapted weights on all samples of a client that they were not adapted with, and of the run's weights.

    ``notes`` takes which samples are left out, or why it is not known which.
    """
    file = weights
    if weights.is_dir():
        file = weights / adapted.file_name(task.client_name(client))
        if not file.is_file():
            raise AdaptedError(
                f"{file}: no such file, so client '{task.client_name(client)}' has no adapted weights; make it with "
                f"`tinymetafed adapt {run.path} --client … --save {weights}`, or name one file for all clients"
            )
    adapted_weights = adapted.read(file, made)
    record, name = adapted.read_record(file), task.client_name(client)
    untouched = record is not None and not record.samples
    test = task.samples_to_score(client, 0) if untouched else task.samples_not_adapted_with(client, record)
    if test is not None and record is not None and not len(test):
        raise DataError(
            f"client '{name}': {file} was adapted with all of its {record.samples} samples, none is left to be scored on; "
            "adapt with fewer (--samples), or give other data (--data)"
        )
    if test is None:
        test = task.samples_to_score(client, 0)
        if record is None:
            said = f"{file} does not say which samples it was adapted with; they count in the scores if they are in the data"
        else:
            said = f"client '{name}': its data are not those that {file} was adapted with, so all of its samples are scored"
        if (record is None or record.client == name) and said not in notes:
            notes.append(said)
    elif record is not None and record.samples and task.unseen_clients != ANY_NUMBER:
        notes.append(f"client '{name}': the {record.samples} samples that {file} was adapted with are left out")
    before = clients.predict(client, run.kept, test)
    return Adapted(client, test, before, clients.predict(client, adapted_weights, test))
