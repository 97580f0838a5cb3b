"""Imports TensorFlow, which is needed only to read or write model files, and keeps its own messages off the screen."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from tinymetafed_codegen.errors import UsageError

OLDEST_KERAS = (3, 12)  # older versions run the code of a Lambda layer in an .h5 file in safe mode too
_INSTALL = "pip install 'tinymetafed[tensorflow]'"


class ModelFileError(UsageError):
    """A model file that cannot be read or is not supported; the text names file, layer and remedy."""


def require(module: str, what: str) -> Any:
    """Imports a module of TensorFlow.

    Args:
        module: Name of the module.
        what: What needs it, for the error's text.

    Raises:
        ModelFileError: TensorFlow is not installed, or Keras is too old.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, by the first import
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # otherwise each start logs that sums may vary in order
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        found = importlib.import_module(module)
        keras = importlib.import_module("keras")
    except ImportError as error:
        raise ModelFileError(f"{what} needs TensorFlow, which is not installed ({error}); {_INSTALL}") from None
    numbers = tuple(int(number) for number in re.findall(r"\d+", str(keras.__version__))[:2])
    if numbers < OLDEST_KERAS:
        raise ModelFileError(
            f"{what} needs Keras {'.'.join(map(str, OLDEST_KERAS))} or later, because {keras.__version__} runs code that model "
            f"files may contain; {_INSTALL}"
        )
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps off the screen what TensorFlow and Keras print; our own errors say what matters.

    TensorFlow's C++ writes to the file descriptors of standard output and standard error, Keras to Python's streams. If an
    unexpected exception is raised, what was printed is shown, because it may explain the exception.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        try:
            with _redirected(printed.fileno()), redirect_stdout(printed), redirect_stderr(printed):
                yield
        except UsageError:
            raise
        except BaseException:
            printed.flush()
            printed.seek(0)
            sys.stderr.write(printed.read())
            raise


@contextmanager
def _redirected(target: int) -> Iterator[None]:
    """Lets file descriptors 1 and 2 write to ``target``."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    try:
        for descriptor in saved:
            os.dup2(target, descriptor)
        yield
    finally:
        for descriptor, genuine in saved.items():
            os.dup2(genuine, descriptor)
            os.close(genuine)
