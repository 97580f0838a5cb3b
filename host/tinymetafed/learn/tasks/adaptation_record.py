"""The record of the samples that weights were adapted with, so that a later score can leave these samples out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from tinymetafed_codegen.section import StrictJson

from . import Samples


@dataclass(frozen=True)
class AdaptationRecord(StrictJson):
    """The samples of one adaptation.

    Attributes:
        client: The client's name; "" where nothing was adapted.
        number: Its number, which the order of its samples depends on.
        samples: Number of samples, over all classes; 0 where nothing was adapted.
        sha256: SHA-256 of these samples, hexadecimal; "" where there are none.
    """

    client: str
    number: int
    samples: int
    sha256: str

    @classmethod
    def of(cls, client: str, number: int, samples: Samples) -> Self:
        """The record of a client that has adapted with these samples."""
        return cls(client, number, len(samples), samples_sha256(samples))

    @classmethod
    def of_none(cls) -> Self:
        """The record of weights that no samples were adapted with."""
        return cls("", 0, 0, "")


def samples_sha256(samples: Samples) -> str:
    """SHA-256 of inputs and targets, hexadecimal."""
    digest = hashlib.sha256(f"{samples.inputs.shape}\n".encode())
    digest.update(np.ascontiguousarray(samples.inputs).data)
    digest.update(np.ascontiguousarray(samples.targets).data)
    return digest.hexdigest()
