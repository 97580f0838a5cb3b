"""What all sections of an experiment share: strictness, kinds of numbers, the error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .errors import UsageError

# Both travel as float32: what is left out here would be 0 or infinite on the device.
Rate = Annotated[float, Field(ge=1e-9, le=10, allow_inf_nan=False)]
Clamp = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=65_535)]
Passes = Annotated[int, Field(ge=1, le=1_000)]
ValueType = Literal["f32", "f16", "i8"]

TomlValue = str | int | float | bool | list["TomlValue"] | dict[str, "TomlValue"]  # what a key of a file may hold
TomlTable = dict[str, TomlValue]


class SpecError(UsageError):
    """An experiment that cannot be run as it is written; the text names file, key and remedy."""


class Section(BaseModel):
    """A part of the file: unknown keys are refused, nothing is converted, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
