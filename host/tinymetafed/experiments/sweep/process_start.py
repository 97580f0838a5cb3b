"""Starts processes that do not run the program again from which they are started."""

from __future__ import annotations

import sys
import threading
from multiprocessing.process import BaseProcess
from types import ModuleType

_EXCHANGED = threading.Lock()  # by one thread at a time: each puts back what it has found


def start(process: BaseProcess) -> None:
    """Starts a process whose function and arguments need nothing of the main module.

    Otherwise the process would begin with importing the main module. A script of the user that calls a sweep, and not below
    ``if __name__ == "__main__"``, would then run from its beginning in every process.
    """
    with _EXCHANGED:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            process.start()
        finally:
            sys.modules["__main__"] = main
