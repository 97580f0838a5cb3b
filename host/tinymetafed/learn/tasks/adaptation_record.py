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
        client: The client's name.
        number: Its number, which the order of its samples depends on.
        samples: Number of samples, over all classes.
        sha256: SHA-256 of these samples, hexadecimal.
    """

    client: str
    number: int
    samples: int
    sha256: str

    @classmethod
    def of(cls, client: str, number: int, samples: Samples) -> Self:
        """The record of a client that has adapted with these samples."""
        return cls(client, number, len(samples), samples_sha256(samples))


def samples_sha256(samples: Samples) -> str:
    """SHA-256 of inputs and targets, hexadecimal."""
    digest = hashlib.sha256(f"{samples.inputs.shape}\n".encode())
    digest.update(np.ascontiguousarray(samples.inputs).data)
    digest.update(np.ascontiguousarray(samples.targets).data)
    return digest.hexdigest()
