"""Samples of several clients in one array, as the compiled kernels read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.abi import simulation_abi as abi

from ..learn.tasks import Floats, Samples


@dataclass(frozen=True)
class Batch:
    """Samples of several clients.

    ``inputs``: [clients, count, *input_shape], float32, or uint8 in units of ``scale``. ``targets``: float32 [clients, count,
    target_size].
    """

    inputs: NDArray[Any]
    targets: Floats
    scale: float = 1.0

    @classmethod
    def of(cls, samples: Sequence[Samples]) -> Batch:
        """The samples of several clients; a client with fewer samples than the others is padded with zeros."""
        parts = [each.inputs if each.levels is None else each.levels for each in samples]
        scale = samples[0].scale if samples[0].levels is not None else 1.0
        return cls(_stack(parts), _stack([each.targets for each in samples]), scale)

    @classmethod
    def joined(cls, phases: Sequence[Sequence[Batch]]) -> list[Batch]:
        """For each phase the batches of several runs as one, client after client.

        Args:
            phases: The batches of each run, one per phase. They have one dtype and scale.

        Raises:
            ValueError: They have not.
        """
        made: dict[tuple[int, ...], Batch] = {}  # by identity, as phases of a run may share a batch
        for parts in (asked := list(zip(*phases, strict=True))):
            if (key := tuple(id(part) for part in parts)) in made:
                continue
            if len({(part.inputs.dtype, part.scale) for part in parts}) > 1:
                raise ValueError("the samples of several runs need one dtype and scale")
            inputs, targets = (np.concatenate(arrays) for arrays in zip(*((p.inputs, p.targets) for p in parts), strict=True))
            made[key] = cls(inputs, targets, parts[0].scale)
        return [made[tuple(id(part) for part in parts)] for parts in asked]

    @property
    def count(self) -> int:
        """Number of samples per client."""
        return int(self.inputs.shape[1])

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample as it travels: its targets and its inputs."""
        return int(self.inputs[0, 0].nbytes + self.targets[0, 0].nbytes)

    def arguments(self) -> abi.Samples:
        """The batch as an argument of the compiled library, of samples that are not sent."""
        return abi.Samples(*self.as_levels_or_inputs, self.targets, self.scale, 0)

    @property
    def as_levels_or_inputs(self) -> tuple[NDArray[np.uint8] | None, Floats | None]:
        """The inputs as bytes or as floats; the other one is None."""
        return (self.inputs, None) if self.inputs.dtype == np.uint8 else (None, self.inputs)


def _stack(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    most = max(len(part) for part in parts)
    whole = [
        part if len(part) == most else np.pad(part, [(0, most - len(part)), *[(0, 0)] * (part.ndim - 1)]) for part in parts
    ]
    return np.ascontiguousarray(np.stack(whole))
