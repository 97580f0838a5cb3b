"""Fixtures of the importer's tests."""

from __future__ import annotations

from typing import Any

import pytest

from tinymetafed.runs.tensorflow import require


@pytest.fixture
def keras() -> Any:
    """Keras, which numbers the names of layers from the start again."""
    module = require("keras", "the test")
    module.utils.clear_session()
    return module
