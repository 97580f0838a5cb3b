"""The weights of single clients after adaptation: computed in the simulation, written to a folder, read again and scored."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
from pydantic import TypeAdapter

from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.packed import DAMAGED
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.weights_file import Values
from tinymetafed_codegen.weights_file import read as read_weights

from ..federation import meta_test
from ..federation.clients import Adapted
from ..federation.result import Adaptation, AdaptedClient
from ..learn.tasks import HELD_OUT, Task, is_held_out
from ..learn.tasks.adaptation_record import AdaptationRecord
from ..learn.weights import Floats
from ..simulation.kernels import open_kernels
from ..simulation.simulated_clients import SimulatedClients
from .run_data import StoreError
from .setup import Setup

_OTHER_FORMATS = (".h", ".keras", ".h5", ".tflite")  # of exports and imports


class AdaptedError(Error):
    """Adapted weights that cannot be computed or do not fit the run; the text names client or file, and the remedy."""


def compute(setup: Setup, weights: Floats, clients: Sequence[int], count: int, threads: int = 1) -> list[Adapted]:
    """Adapts clients in the simulation, which has the bits of every device, and keeps their weights.

    Args:
        setup: The experiment's set-up.
        weights: float32[n_global], the global weights.
        clients: Numbers of the clients.
        count: Samples that each adapts with, over all classes.
        threads: Threads to use.

    Returns:
        The adaptations, with weights.

    Raises:
        BuildError: The kernels cannot be compiled.
    """
    streamed = design(setup.experiment.streamed, setup.design.board, setup.source, setup.design.boards)
    return SimulatedClients(open_kernels(streamed, threads), setup.strategy, setup.task).adapt_and_keep(weights, clients, count)


def require_same(on_devices: Sequence[Adapted], simulated: Sequence[Adapted], task: Task) -> None:
    """Raises AdaptedError unless devices and simulation gave the same outputs, so that the weights are the devices' too."""
    for one, other in zip(on_devices, simulated, strict=True):
        if one.after.tobytes() != other.after.tobytes() and not np.isnan(one.after).all() & np.isnan(other.after).all():
            raise AdaptedError(
                f"{task.client_name(one.client)}: the device's outputs differ from the simulation's, so its weights are not "
                "known here; flash the board again with this version, or leave --save out"
            )


def require_folder(folder: Path) -> None:
    """Raises AdaptedError if a folder for adapted weights is a file."""
    if folder.exists() and not folder.is_dir():
        raise AdaptedError(f"{folder}: a file; give a folder for the adapted weights")


def write(folder: Path, made: Design, task: Task, adapted: Sequence[Adapted]) -> list[Path | None]:
    """Writes an npz file per client: a float32 array per tensor of weights, global and local, and of the normalisation.

    Args:
        folder: The folder; made if it is missing. Files of the same clients are replaced.
        made: The design of the model.
        task: Names the clients.
        adapted: The clients, with weights.

    Returns:
        For each client its file; None if its model diverged.

    Raises:
        StoreError: A file cannot be written.
    """
    files: list[Path | None] = []
    for each in adapted:
        assert each.weights is not None
        if not np.isfinite(each.weights).all() or not np.isfinite(each.after).all():
            files.append(None)
            continue
        arrays = {tensor.name: each.weights[tensor.place].reshape(tensor.shape) for tensor in made.manifest.parameters}
        content = npz(made.normalisation | arrays, record_of(task, each.client, each.count))
        file = folder / file_name(task.client_name(each.client))
        try:
            replace(file, content)
        except OSError as error:
            raise StoreError(f"{error.filename or file}: cannot be written: {error.strerror}") from None
        files.append(file)
    return files


def record_of(task: Task, client: int, count: int) -> AdaptationRecord | None:
    """The record of a client that has adapted with ``count`` samples; None where the board makes these itself."""
    if task.on_device(SampleSet.ADAPT):
        return None
    if not count:
        return AdaptationRecord.of_none()
    return AdaptationRecord.of(task.client_name(client), client, task.samples(client, 0, SampleSet.ADAPT, count))


def npz(arrays: Mapping[str, Values], record: AdaptationRecord | None) -> bytes:
    """An npz file of arrays, with the samples that they were adapted with; None if that is not known."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    if record is not None:
        with zipfile.ZipFile(content, "a") as archive:  # in the archive's comment, so that all arrays are numbers
            archive.comment = json.dumps(asdict(record)).encode()
    return content.getvalue()


def file_name(client: str) -> str:
    """The name of a client's file."""
    return re.sub(r"[^\w.=+-]+", "-", client) + ".npz"


def read(file: Path, made: Design) -> Floats:
    """The weights of a file of ``write`` or of an export to NumPy, float32[n_parameters]. Raises SpecError or AdaptedError."""
    if file.suffix.lower() in _OTHER_FORMATS:
        raise AdaptedError(
            f"{file}: of format {file.suffix}, expected a NumPy file; write one with `tinymetafed adapt RUN --client … --save "
            "DIR` or `tinymetafed export RUN --client … -o FILE.npz`"
        )
    manifest, normalisation = made.manifest, made.normalisation
    shapes = {name: array.shape for name, array in normalisation.items()}
    shapes |= {tensor.name: tensor.shape for tensor in manifest.parameters}
    found = read_weights(str(file), shapes, f"{file}: adapted weights")
    for name, array in normalisation.items():
        if name in found and found[name].tobytes() != array.tobytes():
            raise AdaptedError(f"{file}: {name} differs from the run's; these weights were adapted to other inputs")
    if lacking := [tensor.name for tensor in manifest.parameters if tensor.name not in found]:
        raise AdaptedError(
            f"{file}: has no {', '.join(lacking)}; expected all weights of one client, global and local, as `tinymetafed adapt "
            "RUN --client … --save DIR` or `tinymetafed export RUN --client … -o FILE.npz` writes them"
        )
    weights = np.zeros(manifest.n_parameters, np.float32)
    for tensor in manifest.parameters:
        weights[tensor.place] = found[tensor.name].ravel()
    return weights


def read_record(file: Path) -> AdaptationRecord | None:
    """The samples that a file's weights were adapted with; None if the file does not say so."""
    try:
        with zipfile.ZipFile(file) as archive:
            return TypeAdapter(AdaptationRecord).validate_json(archive.comment)
    except DAMAGED:
        return None


def scores(
    task: Task,
    done: Sequence[Adapted],
    count: int,
    files: Sequence[Path | None],
    known: Mapping[int, bool | None] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> Adaptation:
    """The scores of adapted clients, by client, by class and on average.

    Args:
        task: The task.
        done: The clients.
        count: Number of samples that each adapted with.
        files: The file of each client's weights.
        known: Whether the run trained on a held-out client of the task, by number; None where that is not known.
        notes: What the reader of the scores must know.
    """
    rows = tuple(
        AdaptedClient(
            client=each.client - HELD_OUT if is_held_out(each.client) else each.client,
            task=task.describe(each.client),
            before=meta_test.finite(task.score(each.before, each.test)),
            after=meta_test.finite(task.score(each.after, each.test)),
            trained_on=known.get(each.client, not is_held_out(each.client)),
            file=None if file is None else str(file),
        )
        for each, file in zip(done, files, strict=True)
    )
    before, after = meta_test.mean([row.before for row in rows]), meta_test.mean([row.after for row in rows])
    classes = meta_test.class_scores(task, meta_test.confusion(task, done))
    return Adaptation(task.metric, count, before, after, rows, classes, tuple(notes))
