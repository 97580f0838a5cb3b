"""TensorFlow, imported only where a model file is read or written."""

from __future__ import annotations

import importlib
import os
from typing import Any

from tinymetafed_codegen.errors import UsageError


class ModelFileError(UsageError):
    """A model file that cannot be read or is no network of ours; the text names file, layer and remedy."""


def require(module: str, what: str) -> Any:
    """A module that comes with TensorFlow. Raises ModelFileError naming the extra where there is none."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, by the first import
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # or it announces each time that its sums have another order
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelFileError(f"{what} needs TensorFlow ({error}); pip install 'tensorflow>=2.16,<3'") from None
