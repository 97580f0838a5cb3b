"""Exports a run: its weights as NumPy's .npz or as a C header, or the whole network for TensorFlow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen import design, graph
from tinymetafed_codegen.design import given_weights
from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.hash import model_hash
from tinymetafed_codegen.spec import Experiment

from ..learn.weights import Floats, local_start
from . import keras_model
from .run_data import RunData, StoreError

_PER_LINE = 8


class ExportError(UsageError):
    """A run that cannot be exported to this file; wrong usage."""


def write(run: RunData, file: Path) -> None:
    """Writes the weights after the latest round; if it fails, an existing file stays unchanged.

    Args:
        run: The run.
        file: The file; its suffix chooses the format: .npz, .h, .keras or .tflite.

    Raises:
        ExportError: The suffix is unknown, an op has no TensorFlow layer, or the frozen weights have changed since.
        ModelFileError: TensorFlow is needed and not installed.
        StoreError: The file cannot be written.
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
    """An .npz file: one float32 array per global tensor and of the normalisation, and the number of rounds trained."""
    buffer = io.BytesIO()
    np.savez(buffer, rounds=np.int64(run.trained), **normalising_weights(run), **global_weights(run))  # type: ignore[arg-type]
    return buffer.getvalue()


def header(run: RunData) -> bytes:
    """A C header: one float array per global tensor, row by row, with enough digits to restore the same bits."""
    guard = "TINYMETAFED_WEIGHTS_H"
    lines = [
        f"// Global weights after {run.trained} rounds, model {run.manifest.model_hash};",
        f"// written by: tinymetafed export {run.name} (tinymetafed {run.header.tinymetafed}).",
        f"#ifndef {guard}",
        f"#define {guard}",
    ]
    normalising = normalising_weights(run)
    if normalising:
        lines += ["", "// The first layer takes input * normalise_kernel + normalise_bias, a number of both per channel."]
    for name, tensor in (normalising | global_weights(run)).items():
        numbers = [f"{float(value):.9g}" for value in tensor.ravel()]
        texts = [number + ("f" if set(number) & set(".e") else ".0f") for number in numbers]
        lines += ["", f"// shape {list(tensor.shape)}", f"static const float {name.replace('.', '_')}[{tensor.size}] = {{"]
        lines += ["  " + ", ".join(texts[at : at + _PER_LINE]) + "," for at in range(0, len(texts), _PER_LINE)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif  // {guard}", ""]).encode()


def keras(run: RunData) -> bytes:
    """The network as a Keras file, with the trained global weights and the initial local weights."""
    return keras_model.keras_file(_network(run, batch=None))


def tflite(run: RunData) -> bytes:
    """The network as a TensorFlow Lite file for one sample at a time, with the same weights as ``keras``."""
    return keras_model.tflite_file(_network(run, batch=1))


def _network(run: RunData, batch: int | None) -> Any:
    """The keras.Model of a run."""
    experiment = run.experiment()
    for op in experiment.model.own_ops:
        raise ExportError(
            f"{run.name}: TensorFlow has no layer for '{op.kind}', an op of your own; export the weights alone, to FILE.npz or "
            "FILE.h"
        )
    net = _graph(run, experiment)
    arrays = global_weights(run) | local_start(run.manifest, experiment.model.local_start, experiment.model.local_start_scale)
    if net.frozen:
        arrays |= _frozen(run, experiment, net)
    return keras_model.build(net, arrays, batch)


def _graph(run: RunData, experiment: Experiment) -> graph.Graph:
    partial, normalised = experiment.strategy.partial, experiment.data.is_normalised
    return graph.build(experiment.model, run.name, partial=partial, normalised=normalised)


def _frozen(run: RunData, experiment: Experiment, net: graph.Graph) -> dict[str, Floats]:
    """The frozen tensors, which a run does not store. Raises ExportError if they have changed since the run."""
    given = given_weights(experiment, net, run.name)
    if model_hash(experiment, net, given).hex() != run.manifest.model_hash:
        raise ExportError(
            f"{experiment.model.weights}: other frozen weights than the run was trained with; restore the file as it was"
        )
    return {name: given[name] for name in (f"{op.name}.{parameter.name}" for op, parameter in net.frozen)}


def normalising_weights(run: RunData) -> dict[str, Floats]:
    """The layer that normalises: its input times ``normalise.kernel`` plus ``normalise.bias``; empty for a run without."""
    experiment = run.experiment()
    return design.normalising_weights(experiment, _graph(run, experiment)) if experiment.data.is_normalised else {}


def global_weights(run: RunData) -> dict[str, Floats]:
    """The trained global tensors by name, float32 in their shapes."""
    return {tensor.name: run.weights[tensor.place].reshape(tensor.shape) for tensor in run.manifest.global_tensors}
