"""An imported model in the generated kernels, compiled for the host and run with the file's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import reference
from compiled_model import library

from tinymetafed.projects.importing import written_experiment
from tinymetafed_codegen import graph, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design_graph


def outputs(folder: Path, inputs: Any) -> Any:
    """Outputs of the model of FOLDER/experiment.toml for each input; local layers have their imported weights."""
    loaded = spec.load(folder / "experiment.toml")
    made = design_graph(loaded, boards.load("native"), graph.build(loaded.model), "test")
    model = library(made, folder)
    weights = np.zeros(model.n_state, np.float32)
    for placed in made.graph.parameters:
        weights[placed.offset : placed.offset + placed.parameter.size] = made.weights[placed.name].ravel()
    return np.stack([model.run(weights, x.astype(np.float32)) for x in inputs])


def reference_outputs(folder: Path, inputs: Any) -> Any:
    """Like ``outputs``, by the NumPy reference of every op, which other tests compare with the kernels: nothing is compiled."""
    loaded = spec.load(folder / "experiment.toml")
    net = graph.build(loaded.model)
    with np.load(folder / "experiment.npz") as file:
        arrays = {name: file[name].astype(float) for name in file.files}
    weights = np.zeros(net.n_parameters)
    for placed in net.parameters:
        weights[placed.offset : placed.offset + placed.parameter.size] = arrays[placed.name].ravel()
    frozen = {name: arrays[name] for name in (f"{op.name}.{parameter.name}" for op, parameter in net.frozen)}
    return np.stack([reference.run(net, weights, frozen, x.astype(float))[0] for x in inputs])


def write(file: Path, folder: Path, **options: Any) -> list[str]:
    """Imports a file into FOLDER/experiment.toml; returns the importer's notes."""
    folder.mkdir(parents=True, exist_ok=True)
    return written_experiment.write(written_experiment.read(file), folder / "experiment.toml", "folder", **options)
