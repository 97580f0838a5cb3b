"""Writes a run's weights to a file: NumPy's .npz, a C header, or the whole network for TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from tinymetafed_codegen import design, graph, layer_chain
from tinymetafed_codegen.design import given_weights
from tinymetafed_codegen.files import replace
from tinymetafed_codegen.hash import model_hash
from tinymetafed_codegen.ops import Int8Op
from tinymetafed_codegen.ops.running_statistics import LARGEST_OUTPUT
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.weights_file import ROUNDS

from ..learn.tasks.adaptation_record import AdaptationRecord
from ..learn.weights import Floats, local_start
from . import adapted as adapted_weights
from . import keras_model
from .exported_weights import ExportedWeights, ExportError
from .run_data import RunData, StoreError
from .tensorflow import quiet

FileFormat = Literal["header", "keras", "tflite", "npz"]
Outputs = Literal["logits", "softmax"]
SUFFIXES: dict[FileFormat, str] = {"npz": ".npz", "header": ".h", "keras": ".keras", "tflite": ".tflite"}
_PER_LINE = 8


def write(run: RunData, file: Path, adapted: ExportedWeights | None = None, outputs: Outputs = "logits") -> None:
    """Writes weights; if it fails, an existing file stays unchanged.

    Args:
        run: The run.
        file: The file; its suffix chooses the format: .npz, .h, .keras or .tflite.
        adapted: All weights of an adapted model; None for the run's global weights after the latest round, with the initial
            local weights where a whole network is written.
        outputs: Whether a network ends in logits or in the activation of its loss.

    Raises:
        ExportError: The suffix is unknown, an op has no TensorFlow layer, the loss has no activation, or the frozen weights
            have changed since.
        ModelFileError: TensorFlow is needed and not installed.
        StoreError: The file cannot be written, or the run's weights are not those of its model.
    """
    if file.suffix not in SUFFIXES.values():
        raise ExportError(
            f"{file}: unknown format '{file.suffix}'; expected FILE.npz (NumPy), FILE.h (C header), FILE.keras or FILE.tflite"
        )
    run.require_model()
    if file.suffix in (".npz", ".h"):
        with run.consistent():
            weights = global_weights(run) if adapted is None else _all_weights(run, adapted.weights)
            tensors = normalising_weights(run) | weights
            record = AdaptationRecord.of_none() if adapted is None else adapted.record
            content = npz(run, tensors, record) if file.suffix == ".npz" else header(run, tensors, adapted is not None)
    else:
        with quiet(), run.consistent():
            own = None if adapted is None else adapted.weights
            network = _network(run, file, own, outputs)
            content = keras_model.keras_file(network) if file.suffix == ".keras" else keras_model.tflite_file(network)
    try:
        replace(file, content)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}") from None


def npz(run: RunData, tensors: dict[str, Floats], record: AdaptationRecord | None) -> bytes:
    """An .npz file: one float32 array per tensor, the number of rounds trained, and the samples adapted with."""
    return adapted_weights.npz({ROUNDS: np.array(run.kept_round, np.int64), **tensors}, record)


def header(run: RunData, tensors: dict[str, Floats], is_adapted: bool) -> bytes:
    """A C header: one float array per tensor, row by row, with enough digits to restore the same bits."""
    guard = "TINYMETAFED_WEIGHTS_H"
    what = "Global weights" if not is_adapted else "Global and local weights, adapted,"
    mean = "" if run.averaged is None else f" (mean of {run.averaged} rounds)"
    lines = [
        f"// {what} after {run.kept_round} rounds{mean}, model {run.manifest.model_hash};",
        f"// written by: tinymetafed export {run.name} (tinymetafed {run.header.tinymetafed}).",
        f"#ifndef {guard}",
        f"#define {guard}",
    ]
    if f"{layer_chain.NORMALISE}.kernel" in tensors:
        lines += ["", "// The first layer takes input * normalise_kernel + normalise_bias, a number of both per channel."]
    if f"{layer_chain.NORMALISE}.variance" in tensors:
        lines += [
            "",
            "// The first layer takes (input - normalise_mean) / sqrt(normalise_variance), a number of both per channel,",
            f"// cut to {LARGEST_OUTPUT:g} on both sides; where the variance is 0, input - normalise_mean.",
        ]
    for name, tensor in tensors.items():
        numbers = [f"{float(value):.9g}" for value in tensor.ravel()]
        texts = [number + ("f" if set(number) & set(".e") else ".0f") for number in numbers]
        lines += ["", f"// shape {list(tensor.shape)}", f"static const float {name.replace('.', '_')}[{tensor.size}] = {{"]
        lines += ["  " + ", ".join(texts[at : at + _PER_LINE]) + "," for at in range(0, len(texts), _PER_LINE)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif  // {guard}", ""]).encode()


def _network(run: RunData, file: Path, adapted: Floats | None, outputs: Outputs) -> Any:
    """The keras.Model of a run: for any number of samples at a time in a .keras file, for one in a .tflite file."""
    experiment = run.experiment()
    for op in experiment.model.own_ops:
        raise ExportError(
            f"{run.name}: TensorFlow has no layer for '{op.kind}', an op of your own; export the weights alone, to FILE.npz or "
            "FILE.h"
        )
    net = _graph(run, experiment)
    for call in net.forward:
        if isinstance(call.op, Int8Op):
            raise ExportError(
                f"{run.name}: a Keras model has no layer for '{call.op.kind}', which computes in int8; export a library, with "
                "--format arduino or cpp, or the weights alone, to FILE.npz or FILE.h"
            )
    if outputs == "softmax" and not net.loss.takes_logits_of:
        raise ExportError(f"--outputs softmax: the outputs of loss '{net.loss.name}' are values, no logits; leave it out")
    if adapted is None:
        start = local_start(run.manifest, experiment.model.local_start, experiment.model.local_start_scale)
        arrays = global_weights(run) | start
    else:
        arrays = _all_weights(run, adapted)
    if net.frozen:
        arrays |= _frozen(run, experiment, net)
    activation = net.loss.takes_logits_of if outputs == "softmax" else ""
    batch = None if file.suffix == ".keras" else 1
    return keras_model.build(net, arrays, batch, activation=activation, what=str(file))


def _graph(run: RunData, experiment: Experiment) -> graph.Graph:
    return graph.build(experiment.model, run.name, partial=experiment.strategy.partial, data=experiment.data)


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
    return {tensor.name: run.kept[tensor.place].reshape(tensor.shape) for tensor in run.manifest.global_tensors}


def _all_weights(run: RunData, weights: Floats) -> dict[str, Floats]:
    """All tensors by name, float32 in their shapes."""
    return {tensor.name: weights[tensor.place].reshape(tensor.shape) for tensor in run.manifest.parameters}
