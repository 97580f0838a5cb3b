"""The losses by name, and what each compares a model's outputs with."""

from __future__ import annotations

from typing import Literal

LossName = Literal["mse", "mae", "huber", "binary_crossentropy", "softmax_cross_entropy"]
Targets = Literal["values", "labels", "class"]

# A value or a 0 or 1 per output, or the index of one class.
TARGETS: dict[LossName, Targets] = {
    "mse": "values",
    "mae": "values",
    "huber": "values",
    "binary_crossentropy": "labels",
    "softmax_cross_entropy": "class",
}


def is_classification(loss: LossName) -> bool:
    """Whether a model with this loss tells classes apart; otherwise it learns values."""
    return TARGETS[loss] != "values"


def target_size(loss: LossName, outputs: int) -> int:
    """Numbers that say what is right for one sample, of a model with so many outputs."""
    return 1 if TARGETS[loss] == "class" else outputs
