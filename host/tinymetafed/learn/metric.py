"""The metric of a model: accuracy for classification, mean squared error for regression."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.spec import LossName, is_classification

Floats = NDArray[np.float32]


class Metric(StrEnum):
    """A metric by its name in results; a model that diverged gets the worst score."""

    MSE = "mse"
    ACCURACY = "accuracy"

    @classmethod
    def of(cls, loss: LossName) -> Self:
        """The metric of a model with this loss."""
        return cls("accuracy" if is_classification(loss) else "mse")

    @property
    def caption(self) -> str:
        """Its name in running text."""
        return "accuracy" if self == Metric.ACCURACY else "MSE"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger score is the better one."""
        return self == Metric.ACCURACY

    @property
    def worst(self) -> float:
        """The score of a model that diverged."""
        return 0.0 if self.higher_is_better else float("inf")

    def is_better(self, score: float, than: float) -> bool:
        """Whether one score is better than another."""
        return score > than if self.higher_is_better else score < than

    def score(self, outputs: Floats, targets: Floats) -> float:
        """The score of a model's outputs, computed in float64.

        Args:
            outputs: float32 [count, outputs]: logits of classes, or values.
            targets: float32 [count, 1], the index of the right class; or [count, outputs], the right values.

        Returns:
            Accuracy from 0 to 1, or mean squared error (infinity if the model diverged).
        """
        return _accuracy(outputs, targets) if self == Metric.ACCURACY else _mean_squared_error(outputs, targets)


def predicted(outputs: Floats) -> NDArray[np.int64]:
    """Predicted classes.

    Args:
        outputs: float32 [count, outputs], logits. A single logit is that of class 1 of two classes.

    Returns:
        int64 [count]: the largest logit's index; for a single logit 1 where it is above 0 (sigmoid above one half), else 0.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(np.int64)
    largest: NDArray[np.int64] = outputs.argmax(axis=1)
    return largest


def _accuracy(outputs: Floats, targets: Floats) -> float:
    """Fraction of rows whose predicted class is the target; a row with NaN or infinity counts as wrong."""
    right = (predicted(outputs) == targets[:, 0]) & np.isfinite(outputs).all(axis=1)
    return float(np.mean(right, dtype=np.float64))


def _mean_squared_error(outputs: Floats, targets: Floats) -> float:
    """Mean squared error over all outputs; infinity where the model diverged."""
    error = float(np.mean(np.subtract(outputs, targets, dtype=np.float64) ** 2))
    return error if np.isfinite(error) else float("inf")
