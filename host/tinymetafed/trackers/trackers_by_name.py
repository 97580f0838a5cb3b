"""Finds the trackers that --log names: built-in ones, whose libraries are extras, and classes of the user."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinymetafed_codegen import own_class
from tinymetafed_codegen.errors import UsageError

from . import TrackerError
from .tracker import Tracker

Say = Callable[[str], None]
BUILT_IN = {  # module and class here, and the library that it needs; an extra has the tracker's name
    "tensorboard": ("tensorboard_tracker", "TensorBoardTracker", "tensorboardX"),
    "mlflow": ("mlflow_tracker", "MlflowTracker", "mlflow"),
    "wandb": ("wandb_tracker", "WandbTracker", "wandb"),
    "csv": ("csv_tracker", "CsvTracker", "csv"),
}
FUNCTIONS = ("start", "round", "finished", "close")
_LONGEST = 300  # characters of a foreign library's error


@dataclass(frozen=True)
class Named:
    """A tracker that is not made yet.

    Attributes:
        name: As given to --log, or the class of an object that a program has given.
        make: Makes it; its argument is told what the user should know.
        explain: One line for what it raised in a function, which the second argument names.
        is_object: Whether a program has given it as an object, which no command can name.
    """

    name: str
    make: Callable[[Say], Tracker]
    explain: Callable[[BaseException, str], str]
    is_object: bool = False


LogOption = str | Tracker | Sequence[str | Tracker]


def trackers(given: LogOption) -> list[Named]:
    """The trackers of a value of ``log``.

    Args:
        given: A built-in tracker's name, FILE.py:CLASS, an object with a tracker's functions, or several of these.

    Returns:
        The trackers, each once.

    Raises:
        UsageError: A name is unknown, or a class is no tracker.
        TrackerError: A library is not installed.
    """
    several: Sequence[str | Tracker] = [given] if isinstance(given, str | Tracker) else given
    return [_named(each) if isinstance(each, str) else _object(each) for each in dict.fromkeys(several)]


def _named(name: str) -> Named:
    if own_class.is_reference(name):
        return _own(name)
    if name not in BUILT_IN:
        raise UsageError(f"--log {name}: unknown; there are {', '.join(BUILT_IN)}, and FILE.py:CLASS for a class of your own")
    module, class_name, library = BUILT_IN[name]
    if importlib.util.find_spec(library) is None:
        raise TrackerError(f"--log {name}: the library {library} is missing; install it: {_install(name)}")

    def make(say: Say) -> Tracker:
        made: Tracker = getattr(importlib.import_module(f".{module}", __package__), class_name)(say)
        return made

    def explain(error: BaseException, where: str) -> str:
        # A library whose own parts are missing, such as MLflow without what its default store needs.
        return f"{_line(error)}; install what is missing: {_install(name)}" if isinstance(error, ImportError) else _line(error)

    return Named(name, make, explain)


def _install(extra: str) -> str:
    return f"pip install 'tinymetafed[{extra}]'"


def _own(name: str) -> Named:
    try:
        user_class = own_class.load(name, object, "object")
    except own_class.OwnClassError as error:
        raise UsageError(f"--log {name}: {error}") from None
    if missing := [function for function in FUNCTIONS if not callable(getattr(user_class, function, None))]:
        lacks = ", ".join(f"{function}()" for function in missing)
        raise UsageError(f"--log {name}: {own_class.place_of(user_class)}: {user_class.__name__} lacks {lacks}")

    def make(say: Say) -> Tracker:
        made: object = user_class()
        assert isinstance(made, Tracker)  # it has the functions
        return made

    return Named(name, make, lambda error, where: own_class.explain_call(error, user_class, where))


def _object(given: Tracker) -> Named:
    if not isinstance(given, Tracker):
        raise UsageError(f"log: {type(given).__name__} is not a tracker, which has the functions {', '.join(FUNCTIONS)}")
    return Named(type(given).__name__, lambda say: given, lambda error, where: f"{_line(error)} (in {where})", is_object=True)


def _line(error: BaseException) -> str:
    """The first line of an error of a foreign library, shortened."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:_LONGEST].rstrip(": ")
