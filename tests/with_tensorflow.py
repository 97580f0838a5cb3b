"""Shared by tests with TensorFlow: they are skipped where it is missing, and only one pytest process imports it."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

HERE = importlib.util.find_spec("tensorflow") is not None
needs_tensorflow = [
    pytest.mark.skipif(not HERE, reason="TensorFlow is not installed: pip install 'tinymetafed[models]' brings it"),
    pytest.mark.xdist_group("tensorflow"),
]


def agree(given: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Asserts that two arrays differ by no more than a fraction of the largest expected number."""
    given, expected = np.asarray(given, float).ravel(), np.asarray(expected, float).ravel()
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))
