"""The vector units of this machine's processor; the simulation's kernels are compiled for one of them."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

CPU_FACTS = Path("/proc/cpuinfo")
_ALWAYS = {
    "x86_64": {"sse2"},
    "AMD64": {"sse2"},
    "aarch64": {"asimd"},
    "arm64": {"asimd"},
}  # features that every processor of an architecture has


@dataclass(frozen=True)
class VectorUnit:
    """A vector unit: its number of float32 lanes, each of which trains one client, and the compiler's flags for it."""

    name: str
    lanes: int
    flags: tuple[str, ...] = ()


# Each with the processor features that it needs; the fastest first. AVX-512's 16 lanes come after 8, because where they were
# measured, they were slower: 16 clients' weights fill more of the cache. But 8 lanes are fastest with AVX-512's 32 registers.
_KNOWN = (
    (VectorUnit("avx512vl", 8, ("-mavx2", "-mavx512f", "-mavx512vl")), {"avx2", "avx512f", "avx512vl"}),
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
    """The vector units of this machine's processor by name, the fastest first; "scalar" is always among them."""
    try:
        facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        facts = ""  # only the features that every processor of the architecture has
    listed = re.search(r"^(?:flags|Features)\s*:(.*)", facts, re.MULTILINE)
    # Only Linux has that file. On Windows no more should be looked for: GCC aligns the stack to 16 bytes there, and a vector of
    # 32 bytes on the stack would stop the program.
    has = {*(listed[1].split() if listed else ()), *_ALWAYS.get(platform.machine(), ())}
    return {unit.name: unit for unit, needed in _KNOWN if needed <= has}


def choose(name: str | None) -> VectorUnit:
    """The vector unit of a name, which must be among ``vector_units``; None for the fastest."""
    found = vector_units()
    return found[name] if name else next(iter(found.values()))
