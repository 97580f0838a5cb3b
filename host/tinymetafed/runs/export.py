"""The weights of a run as a file for other programs: NumPy's .npz, a C header, or the whole network for TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen import graph
from tinymetafed_codegen.design import given_weights
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.hash import model_hash

from ..learn.weights import Floats, local_start
from . import keras_model
from .run_data import RunData, StoreError

_PER_LINE = 8


class ExportError(UsageError):
    """A file that cannot be exported to; wrong usage."""


def write(run: RunData, file: Path) -> None:
    """Writes the weights after the latest round, whole or not at all; the file's suffix chooses the format.

    Raises ExportError for a suffix that is none of ours, or frozen weights that are others now; ModelFileError without
    TensorFlow where it is needed; StoreError when the file cannot be written.
    """
    formats: dict[str, Callable[[RunData], bytes]] = {".npz": npz, ".h": header, ".keras": keras, ".tflite": tflite}
    if file.suffix not in formats:
        raise ExportError(
            f"{file}: unknown format '{file.suffix}'; expected FILE.npz (NumPy), FILE.h (C header), FILE.keras or FILE.tflite"
        )
    content = formats[file.suffix](run)
    try:
        replace(file, content)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}") from None


def npz(run: RunData) -> bytes:
    """One float32 array per global tensor, and the rounds trained."""
    buffer = io.BytesIO()
    np.savez(buffer, rounds=np.int64(run.trained), **global_weights(run))  # type: ignore[arg-type]
    return buffer.getvalue()


def header(run: RunData) -> bytes:
    """One float array per global tensor, row by row, with enough digits to give the same bits back."""
    guard = "TINYMETAFED_WEIGHTS_H"
    lines = [
        f"// Global weights after {run.trained} rounds, model {run.manifest.model_hash};",
        f"// written by: tinymetafed export {run.name} (tinymetafed {run.header.tinymetafed}).",
        f"#ifndef {guard}",
        f"#define {guard}",
    ]
    for name, tensor in global_weights(run).items():
        numbers = [f"{float(value):.9g}" for value in tensor.ravel()]
        texts = [number + ("f" if set(number) & set(".e") else ".0f") for number in numbers]
        lines += ["", f"// shape {list(tensor.shape)}", f"static const float {name.replace('.', '_')}[{tensor.size}] = {{"]
        lines += ["  " + ", ".join(texts[at : at + _PER_LINE]) + "," for at in range(0, len(texts), _PER_LINE)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif  // {guard}", ""]).encode()


def keras(run: RunData) -> bytes:
    """The network as a Keras file: global weights as trained, local ones where every device starts them."""
    return keras_model.keras_file(_network(run, batch=None))


def tflite(run: RunData) -> bytes:
    """The same network for TensorFlow Lite, one sample at a time."""
    return keras_model.tflite_file(_network(run, batch=1))


def _network(run: RunData, batch: int | None) -> Any:
    """The keras.Model of a run."""
    experiment = run.experiment()
    for op in experiment.model.own_ops:
        raise ExportError(
            f"{run.name}: TensorFlow has no layer for '{op.kind}', an op of your own; export the weights alone, to FILE.npz or "
            "FILE.h"
        )
    net = graph.build(experiment.model, run.name, partial=experiment.strategy.partial)
    arrays = global_weights(run) | local_start(run.manifest, experiment.model.local_start, experiment.model.local_start_scale)
    if net.frozen:  # what the run does not keep itself
        given = given_weights(experiment, net, run.name)
        if model_hash(experiment, net, given).hex() != run.manifest.model_hash:
            raise ExportError(
                f"{experiment.model.weights}: other frozen weights than the run was trained with; put back the file that it had"
            )
        arrays |= {name: given[name] for name in (f"{op.name}.{parameter.name}" for op, parameter in net.frozen)}
    return keras_model.build(net, arrays, batch)


def global_weights(run: RunData) -> dict[str, Floats]:
    """The global tensors by name, each in its shape."""
    return {tensor.name: run.weights[tensor.place].reshape(tensor.shape) for tensor in run.manifest.global_tensors}
