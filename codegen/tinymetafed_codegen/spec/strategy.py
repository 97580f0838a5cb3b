"""The ``[strategy]`` and ``[adaptation]`` sections: how clients train together, and how a new one adapts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from .section import Clamp, Passes, Rate, Section, ValueType


class TinyMetaFedSpec(Section):
    """Partial local reconstruction and Top-P% communication (arXiv 2307.06822)."""

    kind: Literal["tinymetafed"] = "tinymetafed"
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    schedule: Literal["linear", "sgdr"] = "linear"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 0.5
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    restart_rounds: PositiveInt | None = None
    restart_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    local_learning_rate: Rate
    local_passes: Passes
    global_learning_rate: Rate
    global_passes: Passes
    output_clamp: Clamp


class AdaptationSpec(Section):
    """How a new client adapts: passes over its samples with the local part only, then with the whole model."""

    local_learning_rate: Rate
    local_passes: Passes
    full_learning_rate: Rate
    full_passes: Passes
