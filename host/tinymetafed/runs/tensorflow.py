"""Imports TensorFlow, which is needed only to read or write model files."""

from __future__ import annotations

import importlib
import os
from typing import Any

from tinymetafed_codegen.errors import UsageError


class ModelFileError(UsageError):
    """A model file that cannot be read or is not supported; the text names file, layer and remedy."""


def require(module: str, what: str) -> Any:
    """Imports a module of TensorFlow.

    Args:
        module: Name of the module.
        what: What needs it, for the error's text.

    Raises:
        ModelFileError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, by the first import
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # otherwise each start logs that sums may vary in order
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelFileError(f"{what} needs TensorFlow ({error}); pip install 'tensorflow>=2.16,<3'") from None
