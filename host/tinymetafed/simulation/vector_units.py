"""The vector units of this machine's processor, one of which the simulation's kernels are compiled for."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
_ALWAYS = {"x86_64": {"sse2"}, "AMD64": {"sse2"}, "aarch64": {"asimd"}, "arm64": {"asimd"}}  # by machine, on any system


@dataclass(frozen=True)
class VectorUnit:
    """A vector unit: how many clients it trains at once, one per lane of float32, and the compiler's flags for it."""

    name: str
    lanes: int
    flags: tuple[str, ...] = ()


# With what a processor that has it lists among its features, best first: where it was measured, 16 lanes are hardly faster
# than 8, and it takes twice the clients to fill them.
_KNOWN = (
    (VectorUnit("avx2", 8, ("-mavx2",)), {"avx2"}),
    (
        VectorUnit("avx512", 16, ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl")),
        {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
    ),
    (VectorUnit("sse2", 4), {"sse2"}),
    (VectorUnit("neon", 4), {"asimd"}),
    (VectorUnit("scalar", 1), set[str]()),
)


def vector_units() -> dict[str, VectorUnit]:
    """The vector units of the processor that this runs on, by name, the best first; "scalar" is always there."""
    try:
        facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        facts = ""  # not Linux: what every processor of its kind has
    listed = re.search(r"^(?:flags|Features)\s*:(.*)", facts, re.MULTILINE)
    has = {*(listed[1].split() if listed else ()), *_ALWAYS.get(platform.machine(), ())}
    return {unit.name: unit for unit, needed in _KNOWN if needed <= has}


def choose(name: str | None) -> VectorUnit:
    """The vector unit of that name, or the best; the name must be among ``vector_units``."""
    found = vector_units()
    return found[name] if name else next(iter(found.values()))
