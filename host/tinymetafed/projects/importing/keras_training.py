"""How a Keras model was trained, as its file says it: the loss, the optimizer, and what of them an import leaves out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinymetafed_codegen.loss import LossName

from ...runs.tensorflow import require
from .network import FileLoss

_NEAREST_LOSS = {
    "meansquaredlogarithmicerror": "mse",
    "msle": "mse",
    "meanabsolutepercentageerror": "mae",
    "mape": "mae",
    "logcosh": "huber",
    "poisson": "mse",
    "tversky": "binary_crossentropy",
    "dice": "binary_crossentropy",
    "hinge": "binary_crossentropy",
    "squaredhinge": "binary_crossentropy",
    "binaryfocalcrossentropy": "binary_crossentropy",
    "categoricalhinge": "softmax_cross_entropy",
    "categoricalfocalcrossentropy": "softmax_cross_entropy",
    "kldivergence": "softmax_cross_entropy",
    "kld": "softmax_cross_entropy",
    "kullbackleiblerdivergence": "softmax_cross_entropy",
    "cosinesimilarity": "mse",
    "ctc": "softmax_cross_entropy",
}
_LOSSES: dict[str, LossName] = {
    "meansquarederror": "mse",
    "mse": "mse",
    "meanabsoluteerror": "mae",
    "mae": "mae",
    "huber": "huber",
    "binarycrossentropy": "binary_crossentropy",
    "bce": "binary_crossentropy",
    "categoricalcrossentropy": "softmax_cross_entropy",
    "sparsecategoricalcrossentropy": "softmax_cross_entropy",
}
_TAKES = {"binary_crossentropy": "sigmoid", "softmax_cross_entropy": "softmax"}


def training_config(file: Path) -> Mapping[str, Any]:
    """What ``model.compile`` was given, as JSON; empty if the file does not have it."""
    if file.suffix == ".h5":
        with require("h5py", str(file)).File(file, "r") as content:
            text = content.attrs.get("training_config")
            return json.loads(text) if text else {}
    with zipfile.ZipFile(file) as archive:
        return json.loads(archive.read("config.json")).get("compile_config") or {}


def keras_version(file: Path) -> str:
    """The version of Keras that wrote the file; "" if the file does not say it."""
    if file.suffix == ".h5":
        with require("h5py", str(file)).File(file, "r") as content:
            given = content.attrs.get("keras_version", "")
            return given.decode() if isinstance(given, bytes) else str(given)
    with zipfile.ZipFile(file) as archive:
        return str(json.loads(archive.read("metadata.json")).get("keras_version", ""))


def file_loss(config: Mapping[str, Any]) -> FileLoss | None:
    """The loss of a model that was compiled; None if it was not.

    Whether it can be carried over is decided where its last activation is known.
    """
    given = config.get("loss")
    if isinstance(given, dict) and "class_name" not in given:
        given = [*given.values()]
    if isinstance(given, list | tuple):
        given = given[0] if len(given) == 1 else {"class_name": f"a list of {len(given)}"}
    if given is None:
        return None
    options: Mapping[str, Any] = {}
    if isinstance(given, str):
        title = given
    else:
        inner = given.get("config")
        is_function = given["class_name"] == "function" or isinstance(inner, str)
        title = str(inner if is_function else given["class_name"])
        options = inner if isinstance(inner, dict) else {}
    return _translate(title, options, is_class=not isinstance(given, str) and bool(options))


def _translate(title: str, options: Mapping[str, Any], *, is_class: bool) -> FileLoss:
    plain = title.replace("_", "").lower()
    name = _LOSSES.get(plain)
    if name is None:
        nearest = _NEAREST_LOSS.get(plain)
        near = f"the nearest one is {nearest}, " if nearest else ""
        return FileLoss(None, title, remedy=f"not supported; {near}choose with --loss")
    for option, usual, meaning in (
        ("label_smoothing", 0, "smoothed labels"),
        ("axis", -1, "classes on another axis"),
        ("ignore_class", None, "a class that is left out"),
    ):
        if options.get(option, usual) != usual:
            title = f"{title}({option}={options[option]})"
            return FileLoss(None, title, remedy=f"{meaning} are not supported; choose {name} without them: --loss {name}")
    if name == "huber" and is_class and "delta" not in options:
        return FileLoss(
            None,
            title,
            remedy="the file does not say its delta (Keras leaves it out); take --loss huber and set model.huber_delta",
        )
    takes = _TAKES.get(name, "")
    if options.get("from_logits"):
        title, takes = f"{title}(from_logits=True)", "logits"
    return FileLoss(name, title, takes, float(options.get("delta", 1.0)))


def optimizer_notes(config: Mapping[str, Any]) -> list[str]:
    """What of the optimizer an import leaves out: devices train with plain SGD unless the experiment says more."""
    given = config.get("optimizer") or config.get("optimizer_config")
    options = given.get("config") if isinstance(given, dict) else None
    if not isinstance(options, dict):
        return []
    notes = []
    if options.get("momentum"):
        notes.append(f"the optimizer's momentum is left out; for the same set model.momentum = {options['momentum']:g}")
    if options.get("weight_decay"):
        notes.append(
            f"the optimizer's weight decay is left out; for the same set model.weight_decay = {options['weight_decay']:g}"
        )
    if any(options.get(key) for key in ("clipnorm", "global_clipnorm", "clipvalue")):
        notes.append("the optimizer's limit of gradients is left out; model.clip_norm is the nearest")
    if config.get("loss_weights") not in (None, 1, 1.0, [1], [1.0]):
        notes.append(f"the loss weights {config['loss_weights']} are left out; scale the learning rates instead")
    return notes
