"""The ``[strategy]`` and ``[adaptation]`` sections: how clients train together, and how a new one adapts."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag

from ..own_class import is_reference
from ..section import Clamp, Passes, Rate, Section, ValueType


class SharingSpec(Section):
    """What all strategies have: what travels, how the server's learning rate α falls, how a device trains what is shared.

    ``error_feedback``: what a device has not sent is added to its next change (Seide et al. 2014).
    """

    partial: ClassVar[bool] = False  # whether layers that are ``local`` stay on their device
    gradient: ClassVar[bool] = False  # whether a device returns one gradient of the weights that it received
    top_p: Annotated[float, Field(gt=0, le=100)] = 100
    selection: Literal["global", "layer", "random"] = "global"
    uplink: ValueType = "f32"
    downlink: ValueType = "f32"
    error_feedback: bool = False
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "linear"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 0.5
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    restart_rounds: PositiveInt | None = None
    restart_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    global_learning_rate: Rate
    global_passes: Passes
    output_clamp: Clamp


class TinyMetaFedSpec(SharingSpec):
    """Partial local reconstruction and Top-P% communication (arXiv 2307.06822)."""

    partial: ClassVar[bool] = True
    kind: Literal["tinymetafed"] = "tinymetafed"
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    local_learning_rate: Rate
    local_passes: Passes


class TinyReptileSpec(SharingSpec):
    """Reptile of one device at a time, sample by sample (arXiv 2304.05201)."""

    kind: Literal["tinyreptile"]


class ReptileSpec(SharingSpec):
    """The mean of several devices' trained weights, approached by α (arXiv 1803.02999)."""

    kind: Literal["reptile"]


class FedAvgSpec(SharingSpec):
    """The mean of several devices' trained weights, taken as it is (arXiv 1602.05629)."""

    kind: Literal["fedavg"]
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "constant"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 1.0


class FedSgdSpec(SharingSpec):
    """One gradient of each device's data, and a step along their mean (arXiv 1602.05629)."""

    gradient: ClassVar[bool] = True
    kind: Literal["fedsgd"]
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "constant"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 1.0
    global_passes: Literal[1] = 1  # of the same weights, more would give the same gradient


class TinyOlSpec(SharingSpec):
    """No server and no rounds: a device trains its last layers online (arXiv 2103.08295)."""

    partial: ClassVar[bool] = True
    kind: Literal["tinyol"]


class OwnStrategySpec(SharingSpec):
    """A user's class, ``FILE:CLASS``; its own settings are in ``options``."""

    tag: ClassVar[str] = "MODULE:CLASS"
    partial: ClassVar[bool] = True
    kind: Annotated[str, Field(pattern=r"^.+:[A-Za-z_]\w*$")]
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    local_learning_rate: Rate
    local_passes: Passes
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


def kind(section: Any) -> str:
    """Which strategy a section is for, as validation asks."""
    chosen = section.get("kind", "tinymetafed") if isinstance(section, dict) else section.kind
    return OwnStrategySpec.tag if is_reference(chosen) else str(chosen)


StrategySpec = Annotated[
    Annotated[TinyMetaFedSpec, Tag("tinymetafed")]
    | Annotated[TinyReptileSpec, Tag("tinyreptile")]
    | Annotated[ReptileSpec, Tag("reptile")]
    | Annotated[FedAvgSpec, Tag("fedavg")]
    | Annotated[FedSgdSpec, Tag("fedsgd")]
    | Annotated[TinyOlSpec, Tag("tinyol")]
    | Annotated[OwnStrategySpec, Tag(OwnStrategySpec.tag)],
    Discriminator(kind),
]


class AdaptationSpec(Section):
    """How a new client adapts: passes over its samples with the layers that stay local only, then with the whole model."""

    local_learning_rate: Rate
    local_passes: Annotated[int, Field(ge=0, le=1_000)]
    full_learning_rate: Rate
    full_passes: Annotated[int, Field(ge=0, le=1_000)]
