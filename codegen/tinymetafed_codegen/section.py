"""The base class of an experiment's sections, the numeric types of their keys, and their error."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from .errors import UsageError

# Both are sent as float32; values outside these limits could be 0 or infinite on the device.
Rate = Annotated[float, Field(ge=1e-9, le=10, allow_inf_nan=False)]
Clamp = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=65_535)]
Passes = Annotated[int, Field(ge=1, le=1_000)]
ValueType = Literal["f32", "f16", "i8", "i4", "i3", "t2"]

TomlValue = str | int | float | bool | list["TomlValue"] | dict[str, "TomlValue"]  # the value of a key in a TOML file
TomlTable = dict[str, TomlValue]


class SpecError(UsageError):
    """The experiment is wrong; the text names the file and the key, and says what to do."""


class Section(BaseModel):
    """A section of an experiment file: unknown keys are refused, values are not converted, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class StrictJson:
    """The base of dataclasses that are read from JSON: unknown keys are refused, not ignored."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
