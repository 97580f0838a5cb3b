"""How long the last run of all everyday tests took, as `make test` has recorded it."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tinymetafed_codegen.files import write_if_changed
from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.toolchain import build_root

from ..devices.launch import processor_cores


@dataclass(frozen=True)
class SuiteCost(StrictJson):
    """A run of the everyday tests that has passed: ``seconds`` by the clock, on ``cores`` processors; ``tests`` that ran.

    ``load``: the machine's load average before it, which is other work.
    """

    seconds: float
    tests: int
    cores: int
    load: float


def _record() -> Path:
    return build_root() / "tests.json"


class Beginning:
    """A run of the tests that begins."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # which Windows lacks

    def passed(self, tests: int) -> SuiteCost:
        """The run, which has ended now."""
        return SuiteCost(round(time.monotonic() - self._at), tests, processor_cores(), round(self._load, 1))


def record(cost: SuiteCost) -> None:
    """Remembers a run, for ``last``. Raises OSError."""
    write_if_changed(_record(), dumps(asdict(cost)))


def last() -> SuiteCost | None:
    """The last run of all everyday tests on this machine; None if there was none, or by another version."""
    try:
        return TypeAdapter(SuiteCost).validate_json(_record().read_bytes())
    except (OSError, ValidationError):
        return None
