"""Losses: how many targets a sample has and which kernel gives the derivative at the network's output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """A loss over a vector of outputs; ``class_target`` means one class index instead of one value per output."""

    name: str
    cpp: str
    class_target: bool
    formula: str

    def target_size(self, outputs: int) -> int:
        """Floats per sample that describe what is right."""
        return 1 if self.class_target else outputs


LOSSES = {
    "mse": Loss("mse", "Mse", False, "mean of (y - target)^2; dy = 2 (y - target) / outputs"),
    "softmax_cross_entropy": Loss(
        "softmax_cross_entropy", "SoftmaxCrossEntropy", True, "-log softmax(y)[target]; dy = softmax(y) - onehot"
    ),
}
