"""Finds the layer of a Keras file for which Keras would need Python code that the file does not have."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...runs.tensorflow import require

_MODELS = ("Sequential", "Functional", "Model")
_IN_PYTHON = ("Lambda", "TFOpLambda", "SlicingOpLambda")  # the last two are operations of TensorFlow in files of Keras 2
CUSTOM = "custom layers are not supported"
REMEDY = "build the model with layers of keras.layers, or save it with model.export(FOLDER), and import the folder"


def custom_layer(file: Path) -> str | None:
    """Names the first layer that needs Python code.

    Args:
        file: A .keras or .h5 file that Keras cannot load.

    Returns:
        Layer, reason and remedy, for an error; None if no layer needs code, or if the file has no readable configuration.
    """
    keras = require("keras", str(file))
    try:
        config = _model_config(file)
        kind = str(config["class_name"])
        if kind not in _MODELS:
            return f"{kind} is neither Sequential nor Functional; save it with model.export(FOLDER), and import the folder"
        for position, layer in enumerate(_layers(config), start=1):
            reason = _reason(keras, layer)
            if reason:
                kind = str(layer["class_name"]).rpartition(">")[2]  # "package>class" if it is registered
                name = layer["config"].get("name", layer.get("name", ""))
                return f"layer {position}, '{name}' ({kind}): {reason}; {REMEDY}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile):
        return None  # a damaged file, of which Keras' own words say more
    return None


def _model_config(file: Path) -> Any:
    if file.suffix == ".h5":
        with require("h5py", str(file)).File(file, "r") as content:
            return json.loads(content.attrs["model_config"])
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("config.json"))


def _layers(model: Any) -> Iterator[Any]:
    """The layers of a model and of the models in it, without its inputs."""
    for layer in model["config"]["layers"]:
        if layer["class_name"] in _MODELS:
            yield layer  # counted like any other layer
            yield from _layers(layer)
        elif layer["class_name"] != "InputLayer":
            yield layer


def _reason(keras: Any, layer: Any) -> str:
    """Why Keras cannot build a layer from its configuration; "" if it can."""
    kind, config = layer["class_name"], layer["config"]
    if kind in _IN_PYTHON:
        return f"{kind} layers are not supported"
    module = str(layer.get("module") or "")
    if kind not in _MODELS and not hasattr(keras.layers, kind) and module.partition(".")[0] != "keras":
        return CUSTOM
    activation = config.get("activation")
    if isinstance(activation, dict) and activation.get("class_name") == "function":
        activation = activation.get("config")
    if isinstance(activation, str) and not hasattr(keras.activations, activation):
        return f"the custom activation '{activation}' is not supported"
    return ""
