"""The run folder: what a run was asked, what happened in it and what came out; no file in it is ever half-written."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import tomli_w

from tinymetafed_codegen.emit import replace, write_if_changed
from tinymetafed_codegen.spec import Experiment, SpecError, dump, load

from .learn.weights import Floats, global_tensors


class StoreError(Exception):
    """A run folder that cannot be written or read; the text names the path and what to do."""


class RunFolder:
    """RUN/experiment.toml, manifest.json, journal.jsonl (a line per round), weights.npz, result.json, report.html."""

    def __init__(self, path: Path, manifest: dict[str, Any], journal: IO[str]) -> None:
        self.path = path
        self._manifest = manifest
        self._journal = journal

    @classmethod
    def create(cls, path: Path, experiment: Experiment, manifest: dict[str, Any]) -> Self:
        """Starts a run in a folder that must not hold one yet. Raises StoreError."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_if_changed(path / "experiment.toml", tomli_w.dumps(dump(experiment)))
            write_if_changed(path / "manifest.json", json.dumps(manifest, indent=1) + "\n")
            # Line by line: a line that is there is whole, and whoever reads sees it at once.
            journal = (path / "journal.jsonl").open("x", encoding="utf-8", buffering=1)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out") from None
        return cls(path, manifest, journal)

    def append(self, **entry: Any) -> None:
        """Adds a line to the journal. Raises StoreError when the disk does not take it."""
        try:
            self._journal.write(json.dumps(entry, allow_nan=False) + "\n")
        except OSError as error:
            raise StoreError(f"{self.path}: the journal cannot be written: {error.strerror}") from None

    def save_weights(self, weights: Floats, rounds: int) -> None:
        """Replaces weights.npz: one float32 array per global tensor, and the rounds trained. Raises StoreError."""
        arrays = {
            tensor["name"]: weights[tensor["offset"] : tensor["offset"] + tensor["size"]].reshape(tensor["shape"])
            for tensor in global_tensors(self._manifest)
        }
        buffer = io.BytesIO()
        np.savez(buffer, rounds=np.int64(rounds), **arrays)  # type: ignore[arg-type]
        _replace(self.path / "weights.npz", buffer.getvalue())

    def finish(self, result: dict[str, Any]) -> None:
        """Writes result.json, which makes the run a finished one. Raises StoreError."""
        write_result(self.path, result)

    def close(self) -> None:
        """Closes the journal; what a full disk did not take, `append` has reported."""
        with suppress(OSError):
            self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Makes the folder of a new run before any work is done for it; takes it away again if nothing came of it.

    Raises StoreError when something is there already or the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise StoreError(f"{path}: exists already and is not empty; choose another folder with --out")
    except OSError as error:
        raise StoreError(f"{path}: cannot be a run folder: {error.strerror}; choose another with --out") from None
    try:
        yield
    finally:
        with suppress(OSError):
            path.rmdir()  # only succeeds when it is empty


def has_weights(path: Path) -> bool:
    """Whether a run got far enough to save weights."""
    return (path / "weights.npz").is_file()


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of a run folder, with keys overridden as by ``--set``. Raises StoreError, SpecError."""
    file = path / "experiment.toml"
    if not file.is_file():
        raise StoreError(f"{path}: not a run folder (it has no experiment.toml); give the folder that train wrote")
    try:
        experiment = load(file)
    except SpecError as error:
        raise StoreError(f"{error}; the run was made by another version of tinymetafed") from None
    return load(file, overrides) if overrides else experiment


def read_weights(path: Path, manifest: dict[str, Any]) -> Floats:
    """The global weights float32[n_global] of a run folder. Raises StoreError when they are not this model's."""
    file = path / "weights.npz"
    weights = np.zeros(manifest["n_global"], np.float32)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for tensor in global_tensors(manifest):
                array = arrays[tensor["name"]]
                if list(array.shape) != tensor["shape"] or array.dtype != np.float32:
                    raise StoreError(
                        f"{file}: {tensor['name']} is {array.dtype}{list(array.shape)}, the experiment's model has "
                        f"float32{tensor['shape']}; the run belongs to another model"
                    )
                weights[tensor["offset"] : tensor["offset"] + tensor["size"]] = array.ravel()
    except FileNotFoundError:
        raise StoreError(f"{file}: missing; the run has not saved any weights yet") from None
    except KeyError as error:
        raise StoreError(f"{file}: has no tensor {error}; the run belongs to another model") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{file}: damaged or not a weights file ({error}); train again") from None
    if not np.isfinite(weights).all():
        raise StoreError(f"{file}: holds NaN or infinity at weight {int(np.argmin(np.isfinite(weights)))}; train again")
    return weights


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Replaces result.json of a run folder. Raises StoreError."""
    _replace(path / "result.json", (json.dumps(result, indent=1, allow_nan=False) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    try:
        replace(path, content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; the former version is untouched") from None
