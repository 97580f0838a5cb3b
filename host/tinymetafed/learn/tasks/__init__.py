"""Tasks: what each client learns, from data sets, generators, files or a user's own class."""

from .samples import Bytes, DataError, Floats, Samples
from .task_interface import ANY_NUMBER, HELD_OUT, UNLIMITED, VALIDATION, Task, is_held_out

__all__ = [
    "ANY_NUMBER",
    "HELD_OUT",
    "UNLIMITED",
    "VALIDATION",
    "Bytes",
    "DataError",
    "Floats",
    "Samples",
    "Task",
    "is_held_out",
]
