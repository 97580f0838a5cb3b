"""The facts of a generated model as one typed value: weights, arena, memory, hashes; JSON only in files and run stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from .errors import Error
from .protocol import Dtype

_STRICT = ConfigDict(extra="forbid")
STACK = "stack"  # the purpose that Memory.stack is counted under


class ManifestError(Error):
    """A manifest that this version cannot read."""


@dataclass(frozen=True, config=_STRICT)
class WeightTensor:
    """One tensor of weights that trains, at ``offset`` of the weight vector; ``part`` is "global" or "local".

    ``fan_in`` and ``fan_out`` scale the initial values of a kernel (Glorot and Bengio 2010; He et al. 2015).
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    fan_in: int
    fan_out: int
    part: str

    @property
    def is_global(self) -> bool:
        """Whether the server and all devices share it."""
        return self.part == "global"

    @property
    def is_local(self) -> bool:
        """Whether it never leaves its device."""
        return self.part == "local"

    @property
    def is_bias(self) -> bool:
        """Whether it is a bias, which starts at 0."""
        return self.name.endswith(".bias")

    @property
    def place(self) -> slice:
        """Where it lies in the weight vector."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True, config=_STRICT)
class FrozenTensor:
    """One tensor of a frozen layer: it stays in flash and is no part of the weight vector."""

    name: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, config=_STRICT)
class LayerFacts:
    """One layer for tables: its op and shapes in ``title``; ``relu``: a ReLU is fused into its store."""

    name: str
    title: str
    relu: bool


@dataclass(frozen=True, config=_STRICT)
class ArenaTensor:
    """An activation or a gradient: ``offset`` and ``size`` in floats, alive from step ``first`` to step ``last``."""

    name: str
    shape: tuple[int, ...]
    offset: int
    size: int
    first: int
    last: int
    note: str


@dataclass(frozen=True, config=_STRICT)
class ArenaMap:
    """The arena while it trains on one sample: its size in floats, the steps, and which tensor lies where and when."""

    floats: int
    steps: tuple[str, ...]
    tensors: tuple[ArenaTensor, ...]


@dataclass(frozen=True, config=_STRICT)
class RamUse:
    """Bytes of RAM for one purpose."""

    purpose: str
    size: int


@dataclass(frozen=True, config=_STRICT)
class Memory:
    """What the model takes of a board and what the board has, in bytes; ``flash`` is an estimate."""

    ram: tuple[RamUse, ...]
    stack: int
    ram_available: int
    flash: int
    flash_available: int

    @property
    def ram_total(self) -> int:
        """All RAM, stack included."""
        return sum(use.size for use in self.ram)

    @property
    def ram_static(self) -> int:
        """All RAM without the stack."""
        return self.ram_total - self.stack


@dataclass(frozen=True, config=_STRICT)
class ModelManifest:
    """All facts of one experiment's model on one board; those of the model are the same on every board.

    ``sample_source`` names firmware/app/source_NAME.cpp. ``model_hash`` and ``schema_hash`` are hexadecimal.
    ``layer_ends``: where each global layer ends in the weight vector. ``weights_file``: model.weights of the experiment.
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

    @property
    def n_local(self) -> int:
        """Weights that never leave a device."""
        return self.n_parameters - self.n_global

    @property
    def global_tensors(self) -> tuple[WeightTensor, ...]:
        """The shared tensors, in the order of the weight vector."""
        return tuple(tensor for tensor in self.parameters if tensor.is_global)

    @property
    def local_tensors(self) -> tuple[WeightTensor, ...]:
        """The tensors that never leave a device, in the order of the weight vector."""
        return tuple(tensor for tensor in self.parameters if tensor.is_local)

    @property
    def streamed(self) -> bool:
        """Whether the host streams the samples to train on."""
        return self.sample_source == "streamed"

    @property
    def downlink_dtype(self) -> Dtype:
        """How the global weights travel down."""
        return Dtype[self.downlink]

    def as_json(self) -> dict[str, Any]:
        """The manifest as manifest.json and ``codegen --json`` hold it: memory lies at the top level."""
        plain: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        plain["source"], plain["weights"] = plain.pop("sample_source"), plain.pop("weights_file")
        del plain["memory"]
        return plain | {
            "ram_bytes": {use.purpose: use.size for use in self.memory.ram},
            "ram_total": self.memory.ram_total,
            "ram_available": self.memory.ram_available,
            "flash_estimate": self.memory.flash,
            "flash_available": self.memory.flash_available,
        }

    @classmethod
    def of_json(cls, plain: Mapping[str, Any], source: str) -> Self:
        """Reads what ``as_json`` gave; ``source`` names it in errors. Raises ManifestError."""
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
            found: Self = _ADAPTER.validate_python(known)  # type: ignore[assignment]
        except (KeyError, AttributeError) as error:
            raise ManifestError(f"{source}: not a manifest of this version: {error!r} is missing; generate it again") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ManifestError(f"{source}: not a manifest of this version: {key}: {first['msg']}; generate it again") from None
        return found

    @classmethod
    def read(cls, file: Path) -> Self:
        """The manifest.json that a build wrote. Raises ManifestError."""
        try:
            return cls.of_json(json.loads(file.read_text(encoding="utf-8")), str(file))
        except (OSError, json.JSONDecodeError) as error:
            raise ManifestError(f"{file}: cannot be read: {error}; generate it again") from None


_ADAPTER = TypeAdapter(ModelManifest)
