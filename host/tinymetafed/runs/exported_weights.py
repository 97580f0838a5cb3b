"""The weights that an export writes: those of the run, or those that a client or the user's own samples have adapted."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.protocol import Phase, Recipe, SampleSet, Status
from tinymetafed_codegen.spec import FolderTask

from ..learn.codecs import downlink
from ..learn.strategies import Strategy
from ..learn.tasks import HELD_OUT, DataError, Samples
from ..learn.tasks.folder import Client, Folder, find_files
from ..learn.weights import Floats, local_start
from ..simulation.batches import Batch
from ..simulation.kernels import Kernels, TrainingClients, open_kernels
from .adapted import compute
from .run_data import RunData
from .setup import Setup

_MOST_ROWS = (1 << 16) - 1  # of one phase
_OWN = "own"  # the folder of the user's files among those of the run


class ExportError(UsageError):
    """A run that cannot be exported in this way; wrong usage."""


@dataclass(frozen=True)
class ExportedWeights:
    """All weights of a model, global and local.

    ``weights``: float32 [n_parameters]. ``origin``: one line that says what they are. ``samples``: samples of the client, None
    where nothing was adapted.
    """

    weights: Floats = field(repr=False)
    origin: str
    samples: Samples | None = field(repr=False, default=None)


def initial(run: RunData, strategy: Strategy) -> ExportedWeights:
    """The run's global weights as devices receive them, and the initial local weights: from them a device adapts."""
    model = run.experiment().model
    local = local_start(run.manifest, model.local_start, model.local_start_scale)
    received = downlink.decode(strategy.download(run.weights), run.manifest.n_global)
    weights = np.concatenate([received, *(tensor.ravel() for tensor in local.values())]).astype(np.float32)
    has_local = "; the local layers have their initial weights" if local else ""
    return ExportedWeights(weights, f"{run.name} after {run.trained:,} rounds, not adapted{has_local}")


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
    (adapted,) = compute(setup, run.weights, [client], count)
    if adapted.weights is None or not np.isfinite(adapted.weights).all():
        raise ExportError(f"client '{name}': its model diverges in adaptation; lower [adaptation]'s learning rates")
    origin = f"{run.name} after {run.trained:,} rounds, adapted to {task.describe(client)} with {count} samples"
    return ExportedWeights(adapted.weights, origin, _adaptation_samples(setup, client, count) or adapted.test)


def _adaptation_samples(setup: Setup, client: int, count: int) -> Samples | None:
    """The samples that a client adapts to; None where the board makes them itself."""
    task = setup.task
    return None if task.on_device(SampleSet.ADAPT) or not count else task.samples(client, 0, SampleSet.ADAPT, count)


def of_files(run: RunData, setup: Setup, files: Sequence[Path]) -> ExportedWeights:
    """The weights after adaptation to all samples of the user's files.

    Args:
        run: The run, whose task is ``folder``.
        setup: The set-up of its experiment.
        files: Files in the form of the run's own.

    Raises:
        DataError: A file cannot be used; the text names it.
        ExportError: The task has no files, or the model diverges.
    """
    samples = read_files(setup, files)
    strategy = setup.strategy
    recipe = strategy.adaptation_recipe(len(samples))
    received = downlink.decode(strategy.download(run.weights), strategy.n_global)
    kernels = open_kernels(library_design(setup.design), 1)
    batch, weights = Batch.of([samples]), np.zeros((1, kernels.manifest.n_parameters), np.float32)
    taking_part = TrainingClients(setup.experiment.run.seed, [HELD_OUT], 0)
    (status,), _, _ = kernels.adapt(received, recipe, [batch] * len(recipe.phases), taking_part, batch, weights)
    named = ", ".join(file.name for file in files)
    if status != Status.OK:
        raise ExportError(f"{named}: the model diverges in adaptation to these samples; lower [adaptation]'s learning rates")
    origin = f"{run.name} after {run.trained:,} rounds, adapted to {len(samples)} samples of {named}"
    return ExportedWeights(weights[0], origin, samples)


def read_files(setup: Setup, files: Sequence[Path]) -> Samples:
    """All samples of the user's files, in the order in which a held-out client of task ``folder`` would adapt to them.

    The files are read beside those of the run, so that columns and classes are the run's. Raises DataError, ExportError.
    """
    spec = setup.experiment.task
    if not isinstance(spec, FolderTask):
        raise ExportError(f"--adapt reads files as task 'folder' does, and this run's task is '{spec.kind}'; use --client")
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: no such file; --adapt takes CSV or NPZ files like those of the run")
    shapes, data = setup.task.shapes, setup.data or Path(spec.path)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-export-") as folder:
        names = []
        there = find_files(data)
        for name in there:
            _copy_client(data, name, Path(folder))
        for number, file in enumerate(files):
            names.append(f"{_OWN}{number}")
            shutil.copyfile(file, Path(folder) / f"{names[-1]}{file.suffix.lower()}")
        alone = spec.model_copy(update={"held_out": tuple(names), "adapt": 1, "source": None, "client_per_board": False})
        try:
            read = Folder.from_files(Path(folder), alone, shapes, setup.task.seed, None)
        except DataError as error:
            text = str(error)
            for name, file in zip(names, files, strict=True):
                text = text.replace(f"{folder}/{name}{file.suffix.lower()}", str(file)).replace(f"'{name}'", f"'{file.stem}'")
            raise DataError(text.replace(folder, str(data))) from None
    found = read.unseen
    rows = sum(len(client.inputs) for client in found)
    if rows > _MOST_ROWS:
        raise ExportError(f"--adapt: {rows:,} samples, more than the {_MOST_ROWS:,} of one adaptation; give fewer files")
    together = Client(_OWN, np.concatenate([each.inputs for each in found]), np.concatenate([each.targets for each in found]))
    whole = alone.model_copy(update={"adapt": rows})
    return Folder(whole, shapes, setup.task.seed, (), [together]).samples(HELD_OUT, 0, SampleSet.ADAPT, rows)


def _copy_client(data: Path, name: str, folder: Path) -> None:
    """Links the files of one client into a folder."""
    for entry in sorted(data.iterdir()):
        if name in (entry.stem, entry.name) and not entry.name.startswith("."):
            (folder / entry.name).symlink_to(entry.resolve())


def library_design(made: Design) -> Design:
    """The model without a sample source of its own, which an exported library does not have."""
    return design(made.experiment.streamed, made.board, made.source, made.boards)


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
    (status,), first, last = kernels.adapt(received, Recipe((once,)), [batch], taking_part, batch, after, start)
    return status, first[0], last[0], after[0]
