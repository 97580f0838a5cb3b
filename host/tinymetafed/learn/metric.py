"""What a model is scored by: accuracy where it tells classes apart, mean squared error where it learns values."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.spec import LossName, is_classification

Floats = NDArray[np.float32]


class Metric(StrEnum):
    """A metric by its name in results. A model that diverged scores worst, never well."""

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
        """The score in float64.

        Args:
            outputs: float32 [count, outputs]: logits of classes, or values.
            targets: float32 [count, 1], the index of the right class; or [count, outputs], the right values.
        """
        return _accuracy(outputs, targets) if self == Metric.ACCURACY else _mean_squared_error(outputs, targets)


def predicted(outputs: Floats) -> NDArray[np.int64]:
    """Classes [count] by the largest of each row's logits; a lone one's sigmoid tells 1 from 0, being above a half or not."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).astype(np.int64)
    largest: NDArray[np.int64] = outputs.argmax(axis=1)
    return largest


def _accuracy(outputs: Floats, targets: Floats) -> float:
    """Fraction of rows whose predicted class is the target; a row with NaN or infinity counts as wrong."""
    right = (predicted(outputs) == targets[:, 0]) & np.isfinite(outputs).all(axis=1)
    return float(np.mean(right, dtype=np.float64))


def _mean_squared_error(outputs: Floats, targets: Floats) -> float:
    """Over all outputs; inf where the model diverged."""
    error = float(np.mean((outputs.astype(np.float64) - targets) ** 2))
    return error if np.isfinite(error) else float("inf")
