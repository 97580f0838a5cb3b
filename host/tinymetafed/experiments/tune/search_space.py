"""What a search tries: keys of an experiment with ranges or values, from a [tune] table or by default."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from tinymetafed_codegen.errors import UsageError
from tinymetafed_codegen.files import suggestion
from tinymetafed_codegen.section import Section
from tinymetafed_codegen.spec import Experiment, WrongKey
from tinymetafed_codegen.spec.mistakes import explain
from tinymetafed_codegen.toml_text import decoded

from .. import TuneError
from ..search_ranges import DEFAULT_KEYS, Choice, Range, Value

Objective = Literal["score", "bytes", "ram", "work"]
OBJECTIVES: tuple[Objective, ...] = ("score", "bytes", "ram", "work")
SEEDS = (1, 2)
SET_BY_THE_SEARCH = ("run.seed", "evaluation.group")


Space = Mapping[str, Range | Choice]  # by section.key


@dataclass(frozen=True)
class TuneFile:
    """What a search tries and by what it judges: ``space``, the ``seeds`` of every trial, and the ``objectives``."""

    space: Space
    seeds: tuple[int, ...] = SEEDS
    objectives: tuple[Objective, ...] = OBJECTIVES

    def as_json(self) -> dict[str, object]:
        """JSON values, the same for the same search."""
        space = {key: dimension.as_json() for key, dimension in self.space.items()}
        return {"space": space, "seeds": list(self.seeds), "objectives": list(self.objectives)}


class _TuneSection(Section):
    keys: list[str] = Field(default_factory=list)
    search: dict[str, object] = Field(default_factory=dict)
    seeds: list[Annotated[int, Field(ge=0, lt=1 << 32)]] = Field(default_factory=lambda: list(SEEDS), min_length=1)
    objectives: list[Objective] = Field(default_factory=lambda: list(OBJECTIVES), min_length=1)


class _File(Section):
    tune: _TuneSection


class _RangeSection(Section):
    low: int | float
    high: int | float
    log: bool = False


_WithValues = Callable[[Mapping[str, Value]], object]  # makes the experiment with other values of keys; raises SpecError


def default_file(experiment: Experiment, with_values: _WithValues) -> TuneFile:
    """The search that is made without a file: all keys with default ranges of which the experiment can have several values.

    Args:
        experiment: The experiment, around whose values the ranges lie.
        with_values: Makes the experiment with other values of keys. Raises SpecError.
    """
    space = {key: _default(experiment, key, with_values) for key in DEFAULT_KEYS if _is_read(experiment, key)}
    return TuneFile({key: each for key, each in space.items() if isinstance(each, Range) or len(each.values) > 1})


def read(file: Path, experiment: Experiment, with_values: _WithValues) -> TuneFile:
    """Reads a search from the [tune] table of a TOML file.

    Args:
        file: The file.
        experiment: The experiment, around whose values the ranges of ``keys`` lie.
        with_values: Makes the experiment with other values of keys. Raises SpecError.

    Returns:
        The search; keys of ``search`` have the ranges given there, those of ``keys`` their default ranges.

    Raises:
        TuneError: The file cannot be read, a key is unknown, or a value or range is impossible.
    """
    try:
        given = _File.model_validate(decoded(file.read_text(encoding="utf-8"))).tune
    except FileNotFoundError:
        raise TuneError(f"{file}: no such file; {suggestion(file, 'docs/tuning.md shows one')}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TuneError(f"{file}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise TuneError(f"{file}: not valid TOML: {error}") from None
    except pydantic.ValidationError as error:
        raise TuneError(f"{file}: {explain(error, _File)}") from None
    for name, values in (("seeds", given.seeds), ("objectives", given.objectives)):
        if len(set(values)) < len(values):
            raise TuneError(f"{file}: tune.{name} = {values} names one twice; name each once")
    if "score" not in given.objectives:
        raise TuneError(f"{file}: tune.objectives = {given.objectives}: the best trial is chosen by 'score'; add it")
    space: dict[str, Range | Choice] = {}
    for key in given.keys:
        if key not in DEFAULT_KEYS:
            raise TuneError(
                f"{file}: tune.keys: '{key}' has no default range; give it one in [tune.search], or choose from "
                f"{', '.join(DEFAULT_KEYS)}"
            )
        if not _is_read(experiment, key):
            raise TuneError(f"{file}: tune.keys: '{key}' does nothing in this experiment; leave it out")
        space[key] = _default(experiment, key, with_values)
    for key, value in _flat(given.search).items():
        space[key] = _dimension(f"{file}: tune.search: '{key}'", value)
    if not given.keys and not space:
        return TuneFile(default_file(experiment, with_values).space, tuple(given.seeds), tuple(given.objectives))
    for key, dimension in space.items():
        _require_possible(file, key, dimension, with_values)
    return TuneFile(space, tuple(given.seeds), tuple(given.objectives))


def _is_read(experiment: Experiment, key: str) -> bool:
    """Whether an experiment can have other values of a key with a default range."""
    section, name = key.split(".")
    there: float | str | None = getattr(getattr(experiment, section), name, None)
    strategy = experiment.strategy
    if not there or (not strategy.has_rounds and section == "strategy"):
        return False
    if section == "adaptation" and not getattr(experiment.adaptation, f"{name.partition('_')[0]}_passes"):
        return False
    fixed = {
        "strategy.global_passes": strategy.gradient,
        "strategy.uplink": strategy.codes_values or experiment.privacy.is_private or experiment.privacy.secure_aggregation,
    }
    return not fixed.get(key, False)


def _default(experiment: Experiment, key: str, with_values: _WithValues) -> Range | Choice:
    """The default range of a key; of a choice, the values that the experiment can have, its own among them."""
    section, name = key.split(".")
    value = getattr(getattr(experiment, section), name)
    dimension = DEFAULT_KEYS[key][1](value if isinstance(value, int | float) else 0.0)
    if isinstance(dimension, Range):
        return dimension
    others = [each for each in dimension.values if each != value and _can_have(with_values, key, each)]
    return Choice((value, *others))


def _can_have(with_values: _WithValues, key: str, value: Value) -> bool:
    try:
        with_values({key: value})
    except UsageError:
        return False
    return True


def _flat(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Ranges and lists by dotted keys, for tables and for quoted keys with dots alike."""
    found: dict[str, object] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and not {"low", "high"} & value.keys():
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _dimension(what: str, given: object) -> Range | Choice:
    """A range or a list of values. Raises TuneError."""
    expected = "expected a list of values, as in [5, 10, 25], or a range, as in { low = 0.01, high = 0.1, log = true }"
    if isinstance(given, list):
        if not given or not all(isinstance(value, bool | int | float | str) for value in given):
            raise TuneError(f"{what} = {given!r}: {expected}")
        if len(set(given)) < len(given):
            raise TuneError(f"{what} = {given!r} has a value twice; name each once")
        return Choice(tuple(given))
    if not isinstance(given, Mapping):
        raise TuneError(f"{what} = {given!r}: {expected}")
    try:
        ends = _RangeSection.model_validate(given)
    except pydantic.ValidationError as error:
        raise TuneError(f"{what}: {explain(error, _RangeSection)}") from None
    if not (math.isfinite(ends.low) and math.isfinite(ends.high) and ends.low < ends.high):
        raise TuneError(
            f"{what}: low = {ends.low} and high = {ends.high}: expected finite numbers, of which high is the larger"
        )
    if ends.log and ends.low <= 0:
        raise TuneError(f"{what}: low = {ends.low} has no logarithm; give a low above 0, or leave log out")
    return Range(ends.low, ends.high, ends.log, isinstance(ends.low, int) and isinstance(ends.high, int))


def _require_possible(file: Path, key: str, dimension: Range | Choice, with_values: _WithValues) -> None:
    """Raises TuneError if an experiment never has a key, or cannot have one of the values to try."""
    if key in SET_BY_THE_SEARCH:
        raise TuneError(f"{file}: tune.search: '{key}' is set by the search itself; leave it out")
    for value in dimension.ends:
        try:
            with_values({key: value})
        except WrongKey as error:
            raise TuneError(f"{file}: tune.search: {error}") from None
        except UsageError:  # together with another key of the search it may be right
            continue
