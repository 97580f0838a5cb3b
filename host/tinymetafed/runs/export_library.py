"""Writes a run's model as a library in a folder of its own: for Arduino, PlatformIO or any C++11 program."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from tinymetafed_codegen.design import Design
from tinymetafed_codegen.files import OWNER_ONLY
from tinymetafed_codegen.libraries import exported_library
from tinymetafed_codegen.libraries.exported_library import Kind, Library, SelfTest
from tinymetafed_codegen.protocol import Status, Stream

from ..learn import prng
from ..learn.strategies import Strategy
from ..learn.tasks import HELD_OUT, Samples
from ..simulation.kernels import open_kernels
from .exported_weights import ExportedWeights, ExportError, learning_phase, library_design, trained
from .run_data import RunData, StoreError

MARKER = "export.json"  # lists the files of an export, which the next export may replace
_TEST_SAMPLES = 4
_TEST_FLOATS = 2000  # most inputs of the samples that a library carries for its test


def write(
    run: RunData,
    made: Design,
    strategy: Strategy,
    chosen: ExportedWeights,
    kind: Kind,
    folder: Path,
    class_names: Sequence[str],
) -> None:
    """Writes the library; a folder from an earlier export is replaced whole, or left as it was.

    Args:
        run: The run.
        made: The design of its model.
        strategy: Its strategy.
        chosen: The weights to export.
        kind: "arduino" or "cpp".
        folder: The folder; its name names the library.
        class_names: The names of the classes; () for numbers.

    Raises:
        ExportError: The folder holds anything but an earlier export, or the model cannot learn.
        BuildError: The kernels that compute the library's test cannot be compiled.
        StoreError: The folder cannot be written.
    """
    require_replaceable(folder)
    here = library_design(made)
    phase = learning_phase(strategy)
    samples = _test_samples(chosen.samples, here)
    status, before, after, weights = trained(open_kernels(here, 1), chosen.weights, phase, samples)
    if status != Status.OK:
        raise ExportError("one pass over a few samples makes a weight infinite; lower [adaptation]'s learning rates")
    count = len(samples)
    library = Library(
        name=exported_library.class_name(folder.resolve().name),
        design=here,
        weights=chosen.weights,
        origin=chosen.origin,
        variant=phase.variant,
        rate=phase.learning_rate,
        clamp=phase.output_clamp,
        class_names=class_names,
        feature_note=run.header.asked.feature_note,
        self_test=SelfTest(samples.inputs.reshape(count, -1), samples.targets, before, after, weights),
        version=run.header.tinymetafed,
        command=f"tinymetafed export {run.name}",
    )
    replace_folder(folder, exported_library.render(library, kind))


def _test_samples(given: Samples | None, made: Design) -> Samples:
    """A few samples for the library's test: the first of the adaptation, random ones where there is none."""
    net = made.graph
    size, width = net.input.size, net.target.size
    count = max(1, min(_TEST_SAMPLES, _TEST_FLOATS // size))
    if given is not None and len(given):
        return Samples(given.inputs[:count], given.targets[:count])
    words, _ = prng.draw(made.experiment.run.seed, HELD_OUT, 0, Stream.ADAPT, np.arange(count * (size + width)))
    uniform = prng.uniform(words)
    inputs = (np.float32(2) * uniform[: count * size] - np.float32(1)).reshape(count, *net.input.shape)
    targets = uniform[count * size :].reshape(count, width)
    if net.loss.targets != "values":
        classes = net.output.size if net.loss.class_target else 2
        targets = (np.arange(targets.size, dtype=np.float32) % np.float32(classes)).reshape(targets.shape)
    return Samples(inputs, targets)


def require_replaceable(folder: Path) -> None:
    """Raises ExportError unless the folder is missing, empty, or an earlier export that nobody has changed."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise ExportError(f"{folder}: a file; give a folder for the library")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    if not files:
        return
    remedy = "give another folder, or move it away"
    try:
        listed = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        own = dict(listed)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ExportError(f"{folder}: not an earlier export, so it is not overwritten; {remedy}") from None
    for name, path in files.items():
        if name != MARKER and own.get(name) != _digest(path.read_bytes()):
            what = "changed" if name in own else "added"
            raise ExportError(f"{path}: {what} since the export, so the folder is not overwritten; {remedy}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def replace_folder(folder: Path, files: Mapping[str, str], secret: Collection[str] = ()) -> None:
    """Writes a folder of files, all or nothing; folders above it are made. Only the owner may read ``secret`` ones.

    Raises:
        StoreError: It cannot be written.
    """
    folder = folder.resolve()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            for name, text in files.items():
                (begun / name).parent.mkdir(parents=True, exist_ok=True)
                (begun / name).write_text(text, encoding="utf-8", newline="\n")
            listed = {"files": {name: _digest(text.encode()) for name, text in files.items()}}
            (begun / MARKER).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
            for name in secret:
                (begun / name).chmod(OWNER_ONLY)
            os.chmod(begun, 0o755)  # mkdtemp makes folders that only their owner may read
            _exchange(begun, folder)
        finally:
            shutil.rmtree(begun, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None


def _exchange(begun: Path, folder: Path) -> None:
    """Puts a finished folder in the place of an older one, which is kept until the new one is there."""
    if not folder.exists():
        begun.rename(folder)
        return
    old = begun.with_name(begun.name + ".old")
    folder.rename(old)
    try:
        begun.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
