"""The keys that a search tries by default, with their ranges; apart from the search, so that `--help` is quick to name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Value = bool | int | float | str
FACTOR = 4.0  # by which default ranges of learning rates go up and down


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; ``whole`` ones, or evenly spread in their logarithm with ``log``."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[Value, Value]:
        """Both ends, as an experiment has them."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def as_json(self) -> dict[str, Value]:
        """The range as it stands in a file."""
        low, high = self.ends
        return {"low": low, "high": high, "log": self.log}


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def as_json(self) -> list[Value]:
        """The values as they stand in a file."""
        return list(self.values)


def _rate(value: float) -> Range:
    return Range(value / FACTOR, value * FACTOR, log=True)


def _passes(value: float) -> Range:
    return Range(max(1, value // 2), 2 * value, whole=True)


def _dtypes(_: float) -> Choice:
    return Choice(("i8", "f16", "f32"))


# Default ranges around an experiment's own value, and what they are in words.
DEFAULT_KEYS: dict[str, tuple[str, Callable[[float], Range | Choice]]] = {
    "strategy.local_learning_rate": ("a quarter to four times its value", _rate),
    "strategy.global_learning_rate": ("a quarter to four times its value", _rate),
    "strategy.local_passes": ("half to twice its value", _passes),
    "strategy.global_passes": ("half to twice its value", _passes),
    "strategy.top_p": ("5, 10, 25, 50 or 100", lambda _: Choice((5, 10, 25, 50, 100))),
    "strategy.uplink": ("its value, i8, f16 or f32, as far as its coding takes them", _dtypes),
    "strategy.downlink": ("its value, i8, f16 or f32, as far as its coding takes them", _dtypes),
    "strategy.server": ("sgd or momentum", lambda _: Choice(("sgd", "momentum"))),
    "adaptation.local_learning_rate": ("a quarter to four times its value", _rate),
    "adaptation.local_passes": ("half to twice its value", _passes),
    "adaptation.full_learning_rate": ("a quarter to four times its value", _rate),
    "adaptation.full_passes": ("half to twice its value", _passes),
}
