"""Keras models for the tests of the importer: built, given weights, saved, imported and compared with TensorFlow."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from imported import reference_outputs, write
from with_tensorflow import agree


def ones(model: Any) -> Any:
    """Gives every kernel ones and every bias zeros."""
    model.set_weights([np.zeros(w.shape) if w.ndim == 1 else np.ones(w.shape) for w in model.get_weights()])
    return model


def mixed(model: Any) -> Any:
    """Gives every weight a random value; variances are above 0."""
    random = np.random.default_rng(3)
    model.set_weights(
        [random.uniform(0.3, 1, v.shape) if "variance" in v.name else random.normal(0, 0.5, v.shape) for v in model.weights]
    )
    return model


def chain(k: Any, shape: tuple[int, ...], *layers: Any) -> Any:
    """A Sequential model for inputs of a shape."""
    return k.Sequential([k.Input(shape=shape), *layers])


def save(model: Any, folder: Path, kind: str) -> Path:
    """The model as a file of a format."""
    file = folder / f"net{kind}"
    if kind == "":
        model.export(str(file), verbose=False)
    elif kind == ".tflite":
        file.write_bytes(importlib.import_module("tensorflow").lite.TFLiteConverter.from_keras_model(model).convert())
    else:
        model.save(file)
    return file


def same(model: Any, folder: Path, kind: str, **options: Any) -> list[str]:
    """Imports a model and compares its outputs with those of Keras; returns the notes."""
    notes = write(save(model, folder, kind), folder / "in", loss=options.pop("loss", "mse"), **options)
    inputs = np.random.default_rng(2).normal(0, 1, (3, *model.inputs[0].shape[1:])).astype(np.float32)
    agree(reference_outputs(folder / "in", inputs), model(inputs))
    return notes
