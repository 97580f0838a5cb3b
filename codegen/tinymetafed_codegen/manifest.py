"""The manifest: all facts of a generated model (weights, arena, memory, hashes) as one typed value, and its JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import pydantic
from pydantic import TypeAdapter

from .errors import Error
from .ops.op import NumberType
from .options.flash_store import StoreFacts
from .options.sensor import SensorFacts
from .protocol import Phase
from .section import StrictJson

STACK = "stack"  # the purpose of the RamUse that is Memory.stack


class ManifestError(Error):
    """This version cannot read the manifest."""


@dataclass(frozen=True)
class WeightTensor(StrictJson):
    """One tensor of weights that train; ``offset`` is its place in the weight vector, ``part`` is "global" or "local".

    ``fan_in`` and ``fan_out`` scale the initial values of a kernel (Glorot and Bengio 2010; He et al. 2015);
    ``starts_at``: they are all this number, or these numbers, instead.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    fan_in: int
    fan_out: int
    part: str
    starts_at: float | tuple[float, ...] | None = None

    @property
    def is_global(self) -> bool:
        """Whether the server and all devices share it."""
        return self.part == "global"

    @property
    def is_local(self) -> bool:
        """Whether it never leaves the device."""
        return self.part == "local"

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias, which starts at 0."""
        return self.name.endswith(".bias")

    @property
    def place(self) -> slice:
        """Its slice of the weight vector."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class FrozenTensor(StrictJson):
    """One tensor of a frozen layer: it is in flash and not in the weight vector."""

    name: str
    shape: tuple[int, ...]
    size: int
    dtype: NumberType = "float32"


@dataclass(frozen=True)
class LayerFacts(StrictJson):
    """One layer, for tables: ``title`` has its op and shapes; ``relu``: a ReLU is fused into it."""

    name: str
    title: str
    relu: bool


@dataclass(frozen=True)
class ArenaTensor(StrictJson):
    """One tensor of the arena: ``offset`` and ``size`` in floats; it holds data from step ``first`` to step ``last``."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    first: int
    last: int
    note: str


@dataclass(frozen=True)
class ArenaMap(StrictJson):
    """The arena during training on one sample: its size in floats, the names of the steps, and all tensors."""

    floats: int
    steps: tuple[str, ...]
    tensors: tuple[ArenaTensor, ...]


@dataclass(frozen=True)
class RamUse(StrictJson):
    """Bytes of RAM for one purpose."""

    purpose: str
    size: int


@dataclass(frozen=True)
class Memory(StrictJson):
    """The bytes that the model needs and the bytes that the board has; ``flash`` is an estimate."""

    ram: tuple[RamUse, ...]
    stack: int
    ram_available: int
    flash: int
    flash_available: int

    @property
    def ram_total(self) -> int:
        """Bytes of RAM, including the stack."""
        return sum(use.size for use in self.ram)

    @property
    def ram_static(self) -> int:
        """Bytes of RAM without the stack."""
        return self.ram_total - self.stack

    def with_use(self, use: RamUse, flash: int) -> Memory:
        """The same with one more use of RAM, and so many bytes of flash for its code."""
        *ram, core, stack = self.ram
        return replace(self, ram=(*ram, use, core, stack), flash=self.flash + flash)


@dataclass(frozen=True)
class KeptActivations(StrictJson):
    """What a board keeps of each sample of a set, so that later passes begin behind the layers that do not change.

    ``samples``: how many the board has room for; ``wanted``: samples of the largest set. ``floats`` of one sample in RAM, its
    targets not counted; ``bytes`` of RAM in all. ``layers``: by variant, how many layers at the beginning of the forward pass
    are left out; ``multiply_accumulates``: their cost. ``changed``: the sample sets whose samples change in every pass,
    of which nothing is kept.
    """

    samples: int
    wanted: int
    floats: int
    bytes: int
    layers: dict[str, int]
    multiply_accumulates: dict[str, int]
    changed: tuple[str, ...] = ()

    def passes_sent(self, phases: Sequence[Phase]) -> list[int]:
        """For each phase, in how many of its passes the host has to send the samples, where the board does not make them.

        The board trains the other passes by itself: firmware/core/kept/kept_activations.hpp has the same rule.
        """
        sent, before = [], None
        for phase in phases:
            layers = self.layers.get(phase.variant.name.lower(), 0)
            keeps = layers > 0 and phase.count <= self.samples and phase.sample_set.name.lower() not in self.changed
            now = (phase.sample_set, phase.count, layers)
            sent.append((0 if now == before else 1) if keeps else phase.passes)
            before = now
        return sent

    @property
    def summary(self) -> str:
        """What it saves, for people."""
        number = f"all {self.wanted:,}" if self.samples == self.wanted else f"{self.samples:,} of {self.wanted:,}"
        saved = ", ".join(
            f"the first {layers} layer{'s' * (layers > 1)} in {name} steps ({self.multiply_accumulates[name]:,} "
            "multiply-accumulates)"
            for name, layers in self.layers.items()
        )
        return f"kept activations of {number} samples of a set: passes after the first leave out {saved}"


@dataclass(frozen=True)
class KeptSamples(StrictJson):
    """What a board keeps of the samples that the host sends, so that it is sent each of them once.

    ``samples``: how many the board has room for; ``wanted``: samples of the largest set. ``dtype`` of
    the inputs as they are sent; ``sample_bytes`` of one sample, with its targets; ``bytes`` of RAM in all. ``changed``: the
    sample sets whose samples change in every pass, which are not kept.
    """

    samples: int
    wanted: int
    dtype: str
    sample_bytes: int
    bytes: int
    changed: tuple[str, ...] = ()

    def passes_sent(self, phases: Sequence[Phase], otherwise: Sequence[int]) -> list[int]:
        """For each phase, in how many of its passes the host has to send the samples, with ``otherwise`` if none were kept.

        The board trains the other passes by itself: firmware/core/kept/kept_samples.hpp has the same rule.
        """
        sent, before = [], None
        for phase, passes in zip(phases, otherwise, strict=True):
            keeps = phase.count <= self.samples and phase.sample_set.name.lower() not in self.changed
            now = (phase.sample_set, phase.count)
            sent.append((0 if now == before else min(passes, 1)) if keeps else passes)
            before = now
        return sent

    @property
    def summary(self) -> str:
        """What it saves, for people."""
        number = f"{self.samples:,}" if self.samples == self.wanted else f"{self.samples:,} (of {self.wanted:,} in the largest)"
        return (
            f"kept samples of sets of up to {number}, as they are sent, {self.sample_bytes:,} bytes each: the host sends each "
            "once for all passes"
        )


def passes_sent(phases: Sequence[Phase], activations: KeptActivations | None, samples: KeptSamples | None) -> list[int]:
    """For each phase, in how many of its passes the host has to send the samples to a board that keeps these."""
    sent = [phase.passes for phase in phases] if activations is None else activations.passes_sent(phases)
    return sent if samples is None else samples.passes_sent(phases, sent)


@dataclass(frozen=True)
class ModelManifest(StrictJson):
    """All facts of one experiment's model on one board.

    Only ``board``, ``receive_window``, ``takes_parts``, ``memory``, ``store``, ``sensor``, ``kept`` and ``kept_samples`` depend
    on the board.
    ``sample_source`` names firmware/app/source_NAME.cpp. ``model_hash`` and ``schema_hash`` are hexadecimal.
    ``layer_ends``: where each global layer ends in the weight vector. ``weights_file``: model.weights of the experiment.
    ``store``: the layout of the board's store; None without ``board.store``. ``sensor``: the same for ``board.sensor``.
    ``kept``: the activations that the board keeps for later passes; None if it keeps none. ``kept_samples``: the same for
    samples.
    ``mac_bytes``: of the MAC in every frame of authenticated firmware; 0 for any other. ``takes_parts``: whether a sample may
    come in several messages.
    """

    board: str
    sample_source: str
    model_hash: str
    schema_hash: str
    receive_window: int
    downlink: str
    input_shape: tuple[int, ...]
    output_size: int
    target_size: int
    class_target: bool
    n_global: int
    n_parameters: int
    keeps_local: bool
    error_feedback: bool
    layer_ends: tuple[int, ...]
    parameters: tuple[WeightTensor, ...]
    frozen: tuple[FrozenTensor, ...]
    weights_file: str | None
    layers: tuple[LayerFacts, ...]
    arena: ArenaMap
    memory: Memory
    store: StoreFacts | None = None
    sensor: SensorFacts | None = None
    kept: KeptActivations | None = None
    kept_samples: KeptSamples | None = None
    mac_bytes: int = 0
    takes_parts: bool = False

    @property
    def n_local(self) -> int:
        """Number of local weights, which never leave a device."""
        return self.n_parameters - self.n_global

    @property
    def global_tensors(self) -> tuple[WeightTensor, ...]:
        """The global tensors, in the order of the weight vector."""
        return tuple(tensor for tensor in self.parameters if tensor.is_global)

    @property
    def local_tensors(self) -> tuple[WeightTensor, ...]:
        """The local tensors, in the order of the weight vector."""
        return tuple(tensor for tensor in self.parameters if tensor.is_local)

    def passes_sent(self, phases: Sequence[Phase]) -> list[int]:
        """For each phase, in how many of its passes the host has to send the samples, where the board does not make them."""
        return passes_sent(phases, self.kept, self.kept_samples)

    @property
    def streamed(self) -> bool:
        """Whether the host streams the samples that devices train on."""
        return self.sample_source == "streamed"

    def require_consistent(self, source: str) -> None:
        """Raises ManifestError if the weights do not fit each other: anybody may have made a file with a manifest.

        Args:
            source: The file's name, for the error.
        """
        end, names = 0, [*(tensor.name for tensor in self.parameters), *(frozen.name for frozen in self.frozen)]
        for name in names:  # exported headers and files are named by it
            if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII) or names.count(name) > 1:
                raise ManifestError(f"{source}: tensor {name!r}: not a name of its own such as dense1.kernel")
        for tensor in self.parameters:
            if tensor.offset != end or tensor.size != math.prod(tensor.shape) or min(tensor.shape, default=0) < 1:
                raise ManifestError(f"{source}: tensor {tensor.name}: its shape, size and offset do not fit each other")
            end += tensor.size
            if tensor.is_global and end > self.n_global:
                raise ManifestError(f"{source}: tensor {tensor.name}: behind the {self.n_global:,} global weights")
        if end != self.n_parameters or sum(tensor.size for tensor in self.global_tensors) != self.n_global:
            raise ManifestError(f"{source}: the numbers of weights are not those of its tensors")
        if not re.fullmatch("[0-9a-f]*", self.model_hash + self.schema_hash):
            raise ManifestError(f"{source}: a hash that is not hexadecimal")

    def as_json(self) -> dict[str, Any]:
        """The manifest as in manifest.json and ``codegen --json``, with the memory figures at the top level."""
        plain: dict[str, Any] = _adapter().dump_python(self, mode="json")
        plain["source"], plain["weights"] = plain.pop("sample_source"), plain.pop("weights_file")
        del plain["memory"]
        for part in ("store", "sensor", "kept", "kept_samples"):
            if plain[part] is None:
                del plain[part]
        if not self.mac_bytes:
            del plain["mac_bytes"]
        if not self.takes_parts:
            del plain["takes_parts"]
        return plain | {
            "ram_bytes": {use.purpose: use.size for use in self.memory.ram},
            "ram_total": self.memory.ram_total,
            "ram_available": self.memory.ram_available,
            "flash_estimate": self.memory.flash,
            "flash_available": self.memory.flash_available,
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Any], source: str) -> Self:
        """Reads the output of ``as_json``.

        Args:
            plain: The decoded JSON.
            source: Its name in errors.

        Returns:
            The manifest.

        Raises:
            ManifestError: A key is missing, unknown or of another type.
        """
        known = dict(plain)
        try:
            ram = known.pop("ram_bytes")
            known.pop("ram_total")
            known["memory"] = {
                "ram": [{"purpose": purpose, "size": size} for purpose, size in ram.items()],
                "stack": ram[STACK],
                "ram_available": known.pop("ram_available"),
                "flash": known.pop("flash_estimate"),
                "flash_available": known.pop("flash_available"),
            }
            known["sample_source"], known["weights_file"] = known.pop("source"), known.pop("weights")
            found: Self = _adapter().validate_python(known)  # type: ignore[assignment]
        except (KeyError, AttributeError) as error:
            raise ManifestError(f"{source}: not a manifest of this version: {error!r} is missing; generate it again") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ManifestError(f"{source}: not a manifest of this version: {key}: {first['msg']}; generate it again") from None
        return found

    @classmethod
    def read(cls, file: Path) -> Self:
        """Reads a manifest.json. Raises ManifestError."""
        try:
            return cls.of_json(json.loads(file.read_text(encoding="utf-8")), str(file))
        except (OSError, ValueError, RecursionError) as error:
            raise ManifestError(f"{file}: cannot be read: {error}; generate it again") from None


@cache  # built when it is first needed
def _adapter() -> TypeAdapter[ModelManifest]:
    return TypeAdapter(ModelManifest)
