"""Losses: what a sample's targets are and which kernel gives the derivative at the network's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import float_bits


@dataclass(frozen=True)
class Loss:
    """A loss over a vector of outputs. Targets are a value or a 0 or 1 per output, or the index of one class.

    ``takes_logits_of`` is the activation that the loss applies itself, so that the last layer must not.
    """

    name: str
    cpp: str
    targets: Literal["values", "labels", "class"]
    formula: str
    takes_logits_of: str = ""

    @property
    def class_target(self) -> bool:
        """Whether a sample has one class index instead of one target per output."""
        return self.targets == "class"

    def target_size(self, outputs: int) -> int:
        """Floats per sample that describe what is right."""
        return 1 if self.class_target else outputs

    def kernel(self, outputs: int, huber_delta: float) -> str:
        """The C++ type of its kernels."""
        delta = f", /*delta=*/{float_bits(huber_delta)}" if self.name == "huber" else ""
        return f"kernels::{self.cpp}<{outputs}{delta}>"


LOSSES = {
    "mse": Loss("mse", "Mse", "values", "mean of (y - target)^2; dy = 2 (y - target) / outputs"),
    "mae": Loss("mae", "Mae", "values", "mean of |y - target|; dy = sign(y - target) / outputs"),
    "huber": Loss(
        "huber", "Huber", "values", "mean of e^2/2, linear beyond |e| = delta, e = y - target; dy = clamp(e, delta) / outputs"
    ),
    "binary_crossentropy": Loss(
        "binary_crossentropy",
        "BinaryCrossEntropy",
        "labels",
        "mean of -log p, p = sigmoid(y) or 1 - sigmoid(y); dy = (sigmoid(y) - target) / outputs",
        takes_logits_of="sigmoid",
    ),
    "softmax_cross_entropy": Loss(
        "softmax_cross_entropy",
        "SoftmaxCrossEntropy",
        "class",
        "-log softmax(y)[target]; dy = softmax(y) - onehot",
        takes_logits_of="softmax",
    ),
}
