"""The names of the losses, and the kind of target that each compares a model's outputs with."""

from __future__ import annotations

from typing import Literal

LossName = Literal["mse", "mae", "huber", "binary_crossentropy", "softmax_cross_entropy"]
Targets = Literal["values", "labels", "class"]

# "values": a number per output; "labels": a 0 or 1 per output; "class": the index of one class.
TARGETS: dict[LossName, Targets] = {
    "mse": "values",
    "mae": "values",
    "huber": "values",
    "binary_crossentropy": "labels",
    "softmax_cross_entropy": "class",
}


def is_classification(loss: LossName) -> bool:
    """Whether a model with this loss classifies; otherwise it learns values."""
    return TARGETS[loss] != "values"


def target_size(loss: LossName, outputs: int) -> int:
    """Number of target values of one sample, for a model with ``outputs`` outputs."""
    return 1 if TARGETS[loss] == "class" else outputs
