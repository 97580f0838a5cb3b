"""The ``[strategy]`` and ``[adaptation]`` sections: how clients train together, and how a new client adapts."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag

from ..messages.level_format import LevelFormat, level_format
from ..own_class import is_reference
from ..section import Clamp, Passes, Rate, Section, SpecError, ValueType

# Keys of the server's optimisers that keep state, and the values of ``server`` that read them.
_SERVER_KEYS = {
    "server_momentum": ("momentum", "adam", "yogi"),
    "server_decay": ("adam", "yogi"),
    "server_floor": ("adam", "yogi"),
}


class SharingSpec(Section):
    """The keys of all strategies: what is sent, the schedule of the server's learning rate α, how devices train global weights.

    ``uplink``, ``downlink``: the dtype of a delta's values and of weights; "i4", "i3" and "t2" are whole numbers up to ±7,
    ±3 and ±1 times a scale. ``uplink_coding``: whole numbers of a delta take as many bits as their dtype has ("packed"), or
    fewer in Rice codes ("rice", of int8) or in a range code ("range"). ``downlink_coding``: the same for weights.
    ``download``: devices get all global weights ("full"), or what differs from those that they hold ("difference"): the
    same weights in fewer bytes. ``error_feedback``: changes that a device has not sent are added to its next delta (Seide
    et al. 2014). ``defence``: what is done about deltas of boards that lie. ``defence_bound``: how many times the running
    median of the deltas' norms a delta may be long. ``defence_liars``: share of a round's clients that may lie, for
    ``trimmed`` and ``krum``. ``defence_trust``: boards whose deltas keep standing out are set aside. ``audit``: share of
    the rounds of a client that a second board repeats. ``gateways``: whether gateways hand the deltas of their boards on as
    they came, or add them up in whole numbers, which gives other weights, but the same ones for any number of gateways.
    ``server``: how the mean of a round's deltas moves the global weights: by α times itself ("sgd"), by α times a running
    mean of rounds ("momentum"), or that divided, weight by weight, by the root of a running mean of squares ("adam",
    "yogi"; Reddi et al., arXiv 2003.00295). ``server_momentum``: share of the running mean that stays from one round to the
    next. ``server_decay``: the same for the mean of squares. ``server_floor``: added to the root. ``average_last``: share
    of the rounds, the last ones, after which the weights are averaged: the mean is the result, while training goes on from
    the last weights.
    """

    partial: ClassVar[bool] = False  # whether local layers stay on their device; otherwise they are global too
    gradient: ClassVar[bool] = False  # whether devices return one gradient of the received weights
    has_rounds: ClassVar[bool] = True  # whether there is a server, to which devices send updates
    top_p: Annotated[float, Field(gt=0, le=100)] = 100
    selection: Literal["global", "layer", "random"] = "global"
    uplink: ValueType = "f32"
    uplink_coding: Literal["packed", "rice", "range"] = "packed"
    downlink: ValueType = "f32"
    downlink_coding: Literal["packed", "range"] = "packed"
    download: Literal["full", "difference"] = "full"
    error_feedback: bool = False
    defence: Literal["none", "bound", "trimmed", "krum"] = "none"
    defence_bound: Annotated[float, Field(ge=0.1, le=1_000)] = 2.0
    defence_liars: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    defence_trust: bool = True
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    gateways: Literal["forward", "pre-summed"] = "forward"
    server: Literal["sgd", "momentum", "adam", "yogi"] = "sgd"
    server_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    server_decay: Annotated[float, Field(gt=0, lt=1)] = 0.99
    server_floor: Annotated[float, Field(gt=0, le=1)] = 1e-3
    average_last: Annotated[float, Field(ge=0, le=1)] = 0.0
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "linear"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 0.5
    alpha_min: Annotated[float, Field(ge=0, le=1)] = 0.0
    restart_rounds: PositiveInt | None = None
    restart_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    global_learning_rate: Rate
    global_passes: Passes
    output_clamp: Clamp

    def entries(self, n_global: int) -> int:
        """Number of entries of an update: ``top_p`` percent of ``n_global`` weights, at least 1."""
        return max(1, math.floor(n_global * self.top_p / 100 + 0.5))

    @property
    def uses(self) -> tuple[int, int]:
        """How many times a device trains on each support and on each query sample of a round."""
        return self.global_passes, self.global_passes

    @property
    def codes_values(self) -> bool:
        """Whether the values of deltas travel in Rice codes."""
        return self.uplink_coding == "rice"

    @property
    def uplink_levels(self) -> LevelFormat | None:
        """How deltas travel as levels; None for other messages."""
        return level_format(self.uplink, self.uplink_coding)

    @property
    def downlink_levels(self) -> LevelFormat | None:
        """How weights travel as levels; None for other messages."""
        return level_format(self.downlink, self.downlink_coding)

    @property
    def takes_differences(self) -> bool:
        """Whether devices receive what differs from the weights that they hold."""
        return self.download == "difference"

    @property
    def pre_sums(self) -> bool:
        """Whether the deltas of a round are added up in whole numbers."""
        return self.gateways == "pre-summed"

    @property
    def trusts(self) -> bool:
        """Whether boards whose deltas keep standing out are set aside."""
        return self.defence != "none" and self.defence_trust

    @property
    def is_adaptive(self) -> bool:
        """Whether the server's step has a size of its own for every weight."""
        return self.server in ("adam", "yogi")

    def averages_from(self, rounds: int) -> int:
        """The first of ``rounds`` rounds whose weights are averaged; ``rounds`` where none are."""
        return rounds - (max(1, math.floor(rounds * self.average_last + 0.5)) if self.average_last else 0)

    def check(self, source: str) -> None:
        """Raises SpecError if a key is set that the server's optimiser does not read; ``source`` is the experiment's name."""
        for key, readers in _SERVER_KEYS.items():
            if self.server not in readers and getattr(self, key) != SharingSpec.model_fields[key].default:
                known = " or ".join(f"'{name}'" for name in readers)
                raise SpecError(
                    f"{source}: strategy.{key} works only with strategy.server = {known}, not '{self.server}'; leave it out"
                )

        if self.pre_sums and self.defence != "none":
            raise SpecError(
                f"{source}: strategy.gateways = 'pre-summed' needs strategy.defence = 'none', not '{self.defence}': it looks "
                "at single updates, which gateways then have added up; set strategy.gateways = 'forward'"
            )

    def liars(self, clients: int) -> int:
        """The number of a round's ``clients`` that may lie: ``defence_liars`` of them, rounded up."""
        return math.ceil(self.defence_liars * clients)


class TinyMetaFedSpec(SharingSpec):
    """TinyMetaFed: partial local reconstruction and Top-P selection (arXiv 2307.06822)."""

    partial: ClassVar[bool] = True
    kind: Literal["tinymetafed"] = "tinymetafed"
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    local_learning_rate: Rate
    local_passes: Passes

    @property
    def uses(self) -> tuple[int, int]:
        """Support samples train the local layers, query samples the global ones."""
        return self.local_passes, self.global_passes


class TinyReptileSpec(SharingSpec):
    """TinyReptile: Reptile with one device per round, sample by sample (arXiv 2304.05201)."""

    kind: Literal["tinyreptile"]


class ReptileSpec(SharingSpec):
    """Reptile: the server moves by α towards the mean of the devices' trained weights (arXiv 1803.02999)."""

    kind: Literal["reptile"]


class FedAvgSpec(SharingSpec):
    """FedAvg: the server takes the mean of the devices' trained weights (arXiv 1602.05629)."""

    kind: Literal["fedavg"]
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "constant"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 1.0


class FedSgdSpec(SharingSpec):
    """FedSGD: each device returns one gradient, and the server steps along their mean (arXiv 1602.05629)."""

    gradient: ClassVar[bool] = True
    kind: Literal["fedsgd"]
    schedule: Literal["constant", "linear", "cosine", "sgdr"] = "constant"
    alpha_max: Annotated[float, Field(gt=0, le=1)] = 1.0
    global_passes: Literal[1] = 1  # more passes would give the same gradient, as the weights do not change


class TinyOlSpec(SharingSpec):
    """TinyOL: a device trains its last layers online; there are no server and no rounds (arXiv 2103.08295)."""

    partial: ClassVar[bool] = True
    has_rounds: ClassVar[bool] = False
    kind: Literal["tinyol"]

    def check(self, source: str) -> None:
        """Raises SpecError if the server is to do anything; ``source`` is the experiment's name."""
        super().check(source)
        for key, value, off in (
            ("server", self.server, "sgd"),
            ("average_last", self.average_last, 0),
            ("gateways", self.gateways, "forward"),
        ):
            if value != off:
                raise SpecError(f"{source}: strategy.{key}: strategy.kind = 'tinyol' has no server and no rounds; leave it out")


class OwnStrategySpec(SharingSpec):
    """A user's strategy: ``kind`` is FILE.py:CLASS, ``options`` are the keys of the class."""

    tag: ClassVar[str] = "MODULE:CLASS"
    partial: ClassVar[bool] = True
    kind: Annotated[str, Field(pattern=r"^.+:[A-Za-z_]\w*$")]
    top_p: Annotated[float, Field(gt=0, le=100)] = 25
    uplink: ValueType = "i8"
    downlink: ValueType = "f16"
    local_learning_rate: Rate
    local_passes: Passes
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)


def kind(section: Any) -> str | None:
    """The discriminator of a strategy section: its kind, or OwnStrategySpec.tag for a user's class."""
    named = section.get("kind", "tinymetafed") if isinstance(section, dict) else getattr(section, "kind", None)
    return OwnStrategySpec.tag if is_reference(named) else named if isinstance(named, str) else None


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
    """How a new client adapts: first passes that train only local layers, then passes that train the whole model."""

    local_learning_rate: Rate
    local_passes: Annotated[int, Field(ge=0, le=1_000)]
    full_learning_rate: Rate
    full_passes: Annotated[int, Field(ge=0, le=1_000)]
