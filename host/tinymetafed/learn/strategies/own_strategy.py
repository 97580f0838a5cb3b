"""A user's own strategy, a class in a Python file: an exception of its code becomes an error with file and line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import numpy as np

from tinymetafed_codegen import own_class
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Dtype, Phase, Recipe, Selection
from tinymetafed_codegen.spec import Experiment

from ..codecs import downlink
from ..codecs.delta import Sparse
from ..weights import Floats
from .interface import Strategy

_Answer = TypeVar("_Answer")


class OwnStrategyError(Error):
    """A user's strategy fails or returns a value of another type; the message names the file and line and what was expected."""


class OwnStrategy(Strategy):
    """Wraps the strategy that ``kind = "FILE.py:CLASS"`` names; an error of this package that its code raises is not changed.

    Attributes:
        user_class: The user's class.
    """

    def __init__(self, experiment: Experiment, manifest: ModelManifest, user_class: type[Strategy]) -> None:
        """Creates the user's strategy. Raises OwnStrategyError."""
        self.user_class = user_class
        self._own = self._asked("__init__()", lambda: user_class(experiment, manifest))
        super().__init__(experiment, manifest)  # reads ``selection``, which the user's strategy answers
        self.kept = self._own.kept

    def training(self) -> tuple[Phase, ...]:
        """The user's training phases. Raises OwnStrategyError."""
        return self._phases("training()", self._own.training)

    def adaptation(self, count: int) -> tuple[Phase, ...]:
        """The user's adaptation phases. Raises OwnStrategyError."""
        return self._phases(f"adaptation(count={count})", lambda: self._own.adaptation(count))

    def training_recipe(self) -> Recipe:
        """The user's training recipe. Raises OwnStrategyError."""
        self.training()  # checks the phases
        return self._asked("training_recipe()", self._own.training_recipe)

    def adaptation_recipe(self, count: int) -> Recipe:
        """The user's adaptation recipe. Raises OwnStrategyError."""
        self.adaptation(count)  # checks the phases
        return self._asked(f"adaptation_recipe(count={count})", lambda: self._own.adaptation_recipe(count))

    @property
    def top_k(self) -> int:
        """The user's number of delta entries. Raises OwnStrategyError."""
        return self._asked("top_k", lambda: self._own.top_k)

    @property
    def selection(self) -> Selection:
        """The user's selection of delta entries. Raises OwnStrategyError."""
        return self._asked("selection", lambda: self._own.selection)

    @property
    def uplink(self) -> Dtype:
        """The user's dtype of the delta's values. Raises OwnStrategyError."""
        return self._asked("uplink", lambda: self._own.uplink)

    def clients(self, round_: int, of: int) -> list[int]:
        """The user's choice of clients. Raises OwnStrategyError."""
        what = f"clients(round_={round_}, of={of})"
        given: object = self._asked(what, lambda: self._own.clients(round_, of))
        if not isinstance(given, Sequence | np.ndarray) or not all(isinstance(each, int | np.integer) for each in given):
            self._refuse(what, given, "a list of whole numbers")
        return [int(each) for each in given]

    def download(self, weights: Floats) -> list[downlink.Segment]:
        """The user's encoding of the global weights. Raises OwnStrategyError."""
        return self._asked("download()", lambda: self._own.download(weights))

    def alpha(self, round_: int) -> np.float32:
        """The user's learning rate of the server. Raises OwnStrategyError."""
        what = f"alpha(round_={round_})"
        given: object = self._asked(what, lambda: self._own.alpha(round_))
        if not isinstance(given, int | float | np.floating) or not np.isfinite(given):
            self._refuse(what, given, "a finite number")
        return np.float32(given)

    def update(self, weights: Floats, deltas: Sequence[Sparse], round_: int) -> Floats:
        """The user's new global weights; the round checks them. Raises OwnStrategyError."""
        return self._asked(f"update(round_={round_})", lambda: self._own.update(weights, deltas, round_))

    def _phases(self, what: str, call: Callable[[], tuple[Phase, ...]]) -> tuple[Phase, ...]:
        given: object = self._asked(what, call)
        if not isinstance(given, tuple | list) or not all(isinstance(each, Phase) for each in given):
            self._refuse(what, given, "a tuple of phases; make them with self.phase()")
        return tuple(given)

    def _asked(self, what: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            return call()
        except Error:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            raise OwnStrategyError(own_class.explain_call(error, self.user_class, what)) from error

    def _refuse(self, what: str, given: object, expected: str) -> NoReturn:
        place = own_class.place_of(self.user_class)
        raise OwnStrategyError(f"{place}: {self.user_class.__name__}: {what} gives {given!r}, expected {expected}")
