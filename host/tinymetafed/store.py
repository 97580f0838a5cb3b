"""The run folder: what a run was asked, what happened in it and what came out; no file in it is ever half-written."""

from __future__ import annotations

import io
import json
import zipfile
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
        require_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_if_changed(path / "experiment.toml", tomli_w.dumps(dump(experiment)))
            write_if_changed(path / "manifest.json", json.dumps(manifest, indent=1) + "\n")
            # Line by line: a line that is there is whole, and whoever reads sees it at once.
            journal = (path / "journal.jsonl").open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}; choose another folder with --out") from None
        return cls(path, manifest, journal)

    def append(self, **entry: Any) -> None:
        """Adds a line to the journal. Raises StoreError when the disk does not take it."""
        try:
            self._journal.write(json.dumps(entry) + "\n")
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
        """Closes the journal."""
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def require_free(path: Path) -> None:
    """Raises StoreError unless a run can be created at ``path``: nothing is there, or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StoreError(f"{path}: exists already and is not empty; choose another folder with --out")


def read_experiment(path: Path) -> Experiment:
    """The experiment of a run folder. Raises StoreError."""
    file = path / "experiment.toml"
    if not file.is_file():
        raise StoreError(f"{path}: not a run folder (it has no experiment.toml); give the folder that train wrote")
    try:
        return load(file)
    except SpecError as error:
        raise StoreError(f"{error}; the run was made by another version of tinymetafed") from None


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
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{file}: damaged or not a weights file ({error}); train again") from None
    if not np.isfinite(weights).all():
        raise StoreError(f"{file}: holds NaN or infinity at weight {int(np.argmin(np.isfinite(weights)))}; train again")
    return weights


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Replaces result.json of a run folder. Raises StoreError."""
    _replace(path / "result.json", (json.dumps(result, indent=1) + "\n").encode())


def read_result(path: Path) -> dict[str, Any] | None:
    """result.json of a run folder, or None while the run has not finished. Raises StoreError."""
    file = path / "result.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{file}: damaged: {error}") from None


def _replace(path: Path, content: bytes) -> None:
    try:
        replace(path, content)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; the former version is untouched") from None
