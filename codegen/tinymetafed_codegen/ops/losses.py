"""Losses: the targets of a sample, and the C++ kernel that gives the derivative at the model's output."""

from __future__ import annotations

from dataclasses import dataclass

from ..loss import TARGETS, LossName, Targets
from .op import float_bits


@dataclass(frozen=True)
class Loss:
    """A loss over a vector of outputs.

    ``takes_logits_of`` names the activation that the loss applies itself; the last layer must not apply it too.
    """

    name: LossName
    cpp_template: str
    formula: str
    takes_logits_of: str = ""

    @property
    def targets(self) -> Targets:
        """What the outputs are compared with."""
        return TARGETS[self.name]

    @property
    def class_target(self) -> bool:
        """Whether the target of a sample is one class index instead of one value per output."""
        return self.targets == "class"

    def cpp_type(self, outputs: int, huber_delta: float) -> str:
        """The C++ type of the kernels, for a model with ``outputs`` outputs; ``huber_delta`` is model.huber_delta."""
        delta = f", /*delta=*/{float_bits(huber_delta)}" if self.name == "huber" else ""
        return f"kernels::{self.cpp_template}<{outputs}{delta}>"


LOSSES: dict[LossName, Loss] = {
    "mse": Loss("mse", "Mse", "mean of (y - target)^2; dy = 2 (y - target) / outputs"),
    "mae": Loss("mae", "Mae", "mean of |y - target|; dy = sign(y - target) / outputs"),
    "huber": Loss("huber", "Huber", "mean of e^2/2, linear beyond |e| = delta, e = y - target; dy = clamp(e, delta) / outputs"),
    "binary_crossentropy": Loss(
        "binary_crossentropy",
        "BinaryCrossEntropy",
        "mean of -log p, p = sigmoid(y) or 1 - sigmoid(y); dy = (sigmoid(y) - target) / outputs",
        takes_logits_of="sigmoid",
    ),
    "softmax_cross_entropy": Loss(
        "softmax_cross_entropy",
        "SoftmaxCrossEntropy",
        "-log softmax(y)[target]; dy = softmax(y) - onehot",
        takes_logits_of="softmax",
    ),
}
