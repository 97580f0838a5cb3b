"""The weights that an export writes: those of the run, or those that a client or the user's own samples have adapted."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.protocol import Phase, Recipe, SampleSet, Status
from tinymetafed_codegen.temporary import temporary_folder

from ..learn.codecs import downlink
from ..learn.normalisation import require_fit
from ..learn.strategies import Strategy
from ..learn.tasks import HELD_OUT, DataError, Samples
from ..learn.tasks.adaptation_record import AdaptationRecord
from ..learn.tasks.folder import Client, Folder
from ..learn.weights import Floats, local_start
from ..simulation.batches import Batch
from ..simulation.client_rounds import ClientRound, TrainingClients
from ..simulation.kernels import Kernels, open_kernels
from .adapted import compute, record_of
from .run_data import RunData
from .setup import Setup

_MOST_ROWS = (1 << 16) - 1  # of one phase


class ExportError(UsageError):
    """A run that cannot be exported in this way; wrong usage."""


@dataclass(frozen=True)
class ExportedWeights:
    """All weights of a model, global and local.

    ``weights``: float32 [n_parameters]. ``origin``: one line that says what they are. ``samples``: samples of the client, None
    where nothing was adapted. ``record``: the same samples for a later score; None where it is not known which they are.
    """

    weights: Floats = field(repr=False)
    origin: str
    samples: Samples | None = field(repr=False, default=None)
    record: AdaptationRecord | None = field(repr=False, default=None)


def initial(run: RunData, strategy: Strategy) -> ExportedWeights:
    """The run's global weights as devices receive them, and the initial local weights: from them a device adapts."""
    model = run.experiment().model
    local = local_start(run.manifest, model.local_start, model.local_start_scale)
    received = downlink.decode(strategy.download(run.kept), run.manifest.n_global)
    weights = np.concatenate([received, *(tensor.ravel() for tensor in local.values())]).astype(np.float32)
    has_local = "; the local layers have their initial weights" if local else ""
    return ExportedWeights(weights, f"{run.name} after {run.kept_round:,} rounds, not adapted{has_local}")


def of_client(run: RunData, setup: Setup, name: str) -> ExportedWeights:
    """The weights that a client has after adaptation, in the simulation.

    Args:
        run: The run.
        setup: The set-up of its experiment.
        name: The client: a file's name where each client is a file, otherwise the number of an unseen one.

    Raises:
        DataError: There is no such client.
        ExportError: Its model diverges.
    """
    task = setup.task
    client = task.find(name)
    count = setup.experiment.task.count(SampleSet.ADAPT)
    (adapted,) = compute(setup, run.kept, [client], count)
    if adapted.weights is None or not np.isfinite(adapted.weights).all():
        raise ExportError(f"client '{name}': its model diverges in adaptation; lower [adaptation]'s learning rates")
    origin = f"{run.name} after {run.kept_round:,} rounds, adapted to {task.describe(client)} with {count} samples"
    samples = _adaptation_samples(setup, client, count) or adapted.test
    return ExportedWeights(adapted.weights, origin, samples, record_of(task, client, count))


def _adaptation_samples(setup: Setup, client: int, count: int) -> Samples | None:
    """The samples that a client adapts to; None where the board makes them itself."""
    task = setup.task
    return None if task.on_device(SampleSet.ADAPT) or not count else task.samples(client, 0, SampleSet.ADAPT, count)


def of_files(run: RunData, made: Design, strategy: Strategy, files: Sequence[Path]) -> ExportedWeights:
    """The weights after adaptation to all samples of the user's files.

    Args:
        run: The run, whose task is ``folder``.
        made: The design of its model.
        strategy: Its strategy.
        files: Files in the form of the run's own.

    Raises:
        DataError: A file cannot be used; the text names it.
        ExportError: The task has no files, or the model diverges.
    """
    samples = read_files(run, made, files)
    recipe = strategy.adaptation_recipe(len(samples))
    received = downlink.decode(strategy.download(run.kept), strategy.n_global)
    kernels = open_kernels(library_design(made), 1)
    batch, weights = Batch.of([samples]), np.zeros((1, kernels.manifest.n_parameters), np.float32)
    taking_part = TrainingClients(made.experiment.run.seed, [HELD_OUT], 0)
    (status,), _, _ = kernels.adapt(ClientRound(received, recipe, [batch] * len(recipe.phases), taking_part), batch, weights)
    named = ", ".join(file.name for file in files)
    if status != Status.OK:
        raise ExportError(f"{named}: the model diverges in adaptation to these samples; lower [adaptation]'s learning rates")
    origin = f"{run.name} after {run.kept_round:,} rounds, adapted to {len(samples)} samples of {named}"
    # Of several files no client has all samples, so that a later score could not find them.
    record = AdaptationRecord.of(files[0].stem, HELD_OUT, samples) if len(files) == 1 else None
    return ExportedWeights(weights[0], origin, samples, record)


def read_files(run: RunData, made: Design, files: Sequence[Path]) -> Samples:
    """All samples of the user's files, in the order in which a held-out client of task ``folder`` would adapt to them.

    Raises DataError, ExportError.
    """
    from ..learn.tasks.own_data.reading import SUFFIXES  # imported here because other work starts sooner without it

    experiment = made.experiment
    spec = experiment.task.own_files
    if spec is None:
        named = experiment.task.kind
        raise ExportError(f"--adapt reads files as task 'folder' does, and this run's task is '{named}'; use --client")
    shapes = made.graph.shapes
    alone = spec.model_copy(update={"source": None, "client_per_board": False})
    with temporary_folder("export") as place:
        folder = place / "files"
        folder.mkdir()
        copies: dict[Path, Path] = {}
        for number, file in enumerate(files):
            if not file.is_file() or file.suffix.lower() not in SUFFIXES:
                what = "a folder" if file.is_dir() else "neither a CSV nor an NPZ file" if file.exists() else "no such file"
                raise DataError(
                    f"{file}: {what}; --adapt takes CSV or NPZ files like those of the run; for images or sounds "
                    "an NPZ file of values from 0 to 1 (pixels / 255)"
                )
            copies[folder / f"{number}-{file.name}"] = file
            shutil.copyfile(file, folder / f"{number}-{file.name}")
        try:
            task = Folder.open_to_score(alone, experiment.run, shapes, folder, run.header.asked.class_names)
            require_fit(experiment.data, task, made.source)
        except DataError as error:
            text = str(error)
            for copy, file in copies.items():
                text = text.replace(str(copy), str(file)).replace(copy.name, file.name)
            raise DataError(text.replace(str(folder), ", ".join(map(str, files)))) from None
    rows = sum(len(client.inputs) for client in task.unseen)
    if rows > _MOST_ROWS:
        raise ExportError(f"--adapt: {rows:,} samples, more than the {_MOST_ROWS:,} of one adaptation; give fewer files")
    inputs, targets = [each.inputs for each in task.unseen], [each.targets for each in task.unseen]
    together = Client("own", np.concatenate(inputs), np.concatenate(targets))
    whole = alone.model_copy(update={"adapt": rows})
    return Folder(whole, shapes, experiment.run.seed, (), [together]).samples(HELD_OUT, 0, SampleSet.ADAPT, rows)


def library_design(made: Design) -> Design:
    """The model as an exported library has it, with an input of floats.

    It has no sample source of its own, trains each sample as it is given, and predicts it once.
    """
    return design(made.experiment.streamed.with_plain_samples, made.board, made.source, made.boards).reading_floats()


def learning_phase(strategy: Strategy) -> Phase:
    """The phase whose steps ``learn`` of an exported library takes: the last one of the run's adaptation."""
    count = max(1, strategy.experiment.task.count(SampleSet.ADAPT))
    phases = strategy.adaptation(count)
    if not phases:
        raise ExportError("[adaptation] has no passes, so that a library would have nothing to learn; set full_passes = 1")
    return phases[-1]


def trained(kernels: Kernels, weights: Floats, phase: Phase, samples: Samples) -> tuple[Status, Floats, Floats, Floats]:
    """Trains once on each sample, from given weights.

    Args:
        kernels: The simulation's kernels.
        weights: float32 [n_parameters], all weights to start from.
        phase: The variant, learning rate and clamp.
        samples: The samples, in this order.

    Returns:
        The status of the training; the outputs before and after it, float32 [count, outputs]; all weights after it.
    """
    once = Phase(phase.variant, SampleSet.ADAPT, len(samples), 1, phase.learning_rate, phase.output_clamp)
    batch, after = Batch.of([samples]), np.zeros((1, weights.size), np.float32)
    start = np.ascontiguousarray(weights[None], np.float32)
    taking_part = TrainingClients(0, [HELD_OUT], 0)
    received = np.ascontiguousarray(weights[: kernels.manifest.n_global])
    (status,), first, last = kernels.adapt(ClientRound(received, Recipe((once,)), [batch], taking_part), batch, after, start)
    return status, first[0], last[0], after[0]
