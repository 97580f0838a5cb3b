"""An experiment's kernels compiled for this machine, which train many clients at once: a client per vector lane."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import platform
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen import boards, emit
from tinymetafed_codegen.design import Design
from tinymetafed_codegen.files import locked
from tinymetafed_codegen.locate import root
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Phase, SampleSet, Selection, Status
from tinymetafed_codegen.sample_source import own_source
from tinymetafed_codegen.spec import SpecError
from tinymetafed_codegen.toolchain import SHOWN_LINES, BuildError, build_root, require_tools

from ..learn.codecs.delta import Sparse
from ..learn.tasks import Floats, Samples

BOARD = "native"  # whose receive window the bytes are counted for

# Vector unit -> (what a processor that has it says it can do, lanes of float32, the compiler's flags), best first: where
# it was measured, 16 lanes are hardly faster than 8, and it takes twice the clients to fill them.
_UNITS = {
    "avx2": ({"avx2"}, 8, ("-mavx2",)),
    "avx512": (
        {"avx512f", "avx512dq", "avx512bw", "avx512vl"},
        16,
        ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
    ),
    "sse2": ({"sse2"}, 4, ()),
    "neon": ({"asimd"}, 4, ()),
    "scalar": (set(), 1, ()),
}
CPU_FACTS = Path("/proc/cpuinfo")
_ALWAYS = {"x86_64": {"sse2"}, "AMD64": {"sse2"}, "aarch64": {"asimd"}, "arm64": {"asimd"}}  # by machine, on any system


@dataclass(frozen=True)
class Unit:
    """A vector unit: how many clients it trains at once, and the compiler's flags for it."""

    name: str
    lanes: int
    flags: tuple[str, ...]


def units() -> dict[str, Unit]:
    """The vector units of the processor that this runs on, by name, the best first; "scalar" is always there."""
    try:
        facts = CPU_FACTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        facts = ""  # not Linux: what every processor of its kind has
    said = re.search(r"^(?:flags|Features)\s*:(.*)", facts, re.MULTILINE)
    has = {*(said[1].split() if said else ()), *_ALWAYS.get(platform.machine(), ())}
    return {name: Unit(name, lanes, flags) for name, (needs, lanes, flags) in _UNITS.items() if needs <= has}


def build(design: Design, unit: Unit, kernels: str | None = None) -> Path:
    """Compiles a design's kernels into a shared library, unless that has been done with the same sources and flags.

    ``kernels``: those of that folder of firmware/bench in place of the core's. Raises BuildError, SpecError.
    """
    require_tools(boards.load(BOARD))
    tree = root() / "firmware"
    task_source = tree / "app" / f"source_{design.manifest.sample_source}.cpp"
    folder = build_root() / design.manifest.model_hash / "simulation"
    generated = folder / "generated"
    flags = json.loads((root() / "boards" / "platform" / "flags.json").read_text(encoding="utf-8"))
    replaced = [tree / "bench" / kernels] if kernels else []
    include = [f"-I{path}" for path in [generated, *replaced, tree / "core"]]
    command = ["g++", *flags["common"], *flags["cxx"], *include, "-O2", *unit.flags, f"-DTMF_LANES={unit.lanes}"]
    # No vector leaves this library, so how one would be passed to another does not matter.
    command += ["-Wno-psabi", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
    core = [tree / "core" / f"{name}.cpp" for name in ("delta_codec", "half", "prng")]
    command += [str(path) for path in [tree / "sim" / "simulate.cpp", *core, task_source]]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        emit.write(design, generated, "tinymetafed simulate")
        files = [file for part in (tree / "core", tree / "sim", *replaced) for file in sorted(part.rglob("*.[hc]pp"))]
        files += [*sorted(generated.glob("*.hpp")), task_source, *_included_by(own_source(design.experiment), include)]
        # Machines may share the folder: each finds what was built for its kind and its vector unit.
        digest = hashlib.sha256(json.dumps([platform.machine(), *command]).encode())
        for file in files:
            digest.update(file.read_bytes())
        library = folder / f"{unit.name}-{digest.hexdigest()[:16]}.so"
        if not library.exists():
            begun = library.with_suffix(".new")
            _run([*command, "-o", str(begun)], f"the simulation of {design.source}")
            begun.replace(library)
    return library


def _included_by(own: Path | None, include: Sequence[str]) -> list[Path]:
    """A user's sample source and all files that it includes."""
    if own is None:
        return []
    rule = _run(["g++", "-std=gnu++17", *include, "-M", str(own)], str(own))
    return [Path(name) for name in shlex.split(rule.partition(":")[2].replace("\\\n", " "))]


def _run(command: Sequence[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError("\n".join([f"{what}: the compiler failed", *done.stderr.strip().splitlines()[-SHOWN_LINES:]]))
    return done.stdout


# --- The library's arguments, field by field as in firmware/sim/simulate.cpp ---

_U32, _F32, _POINTER = ctypes.c_uint32, ctypes.c_float, ctypes.c_void_p


class _Phase(ctypes.Structure):
    _fields_ = (
        ("levels", _POINTER),
        ("inputs", _POINTER),
        ("targets", _POINTER),
        ("scale", _F32),
        ("learning_rate", _F32),
        ("output_clamp", _F32),
        ("variant", _U32),
        ("count", _U32),
        ("passes", _U32),
    )


class _Work(ctypes.Structure):
    _fields_ = (
        ("received", _POINTER),
        ("phases", _POINTER),
        ("phase_count", _U32),
        ("clients", _U32),
        ("threads", _U32),
        ("lanes", _U32),
        ("faults", _POINTER),
        ("names", _POINTER),
        ("seed", _U32),
        ("draw", _U32),
        ("locals", _POINTER),
    )


class _Updates(ctypes.Structure):
    _fields_ = (
        ("top_k", _U32),
        ("uplink", _U32),
        ("selection", _U32),
        ("indices", _POINTER),
        ("values", _POINTER),
        ("owed", _POINTER),
        ("chunks", _POINTER),
        ("chunk_bytes", _POINTER),
        ("sample_bytes", _POINTER),
    )


class _Test(ctypes.Structure):
    _fields_ = (
        ("levels", _POINTER),
        ("inputs", _POINTER),
        ("scale", _F32),
        ("rows", _U32),
        ("before", _POINTER),
        ("after", _POINTER),
    )


@dataclass(frozen=True)
class Batch:
    """Samples of several clients: inputs [clients, count, *input_shape] float32 or bytes that count ``scale``, and targets."""

    inputs: NDArray[Any]
    targets: Floats
    scale: float

    @classmethod
    def of(cls, samples: Sequence[Samples]) -> Batch:
        """Clients' samples together; where one has fewer than others, zeros follow."""
        parts = [each.inputs if each.levels is None else each.levels for each in samples]
        scale = samples[0].scale if samples[0].levels is not None else 1.0
        return cls(_stack(parts), _stack([each.targets for each in samples]), scale)

    @property
    def pointers(self) -> tuple[int | None, int | None]:
        """Where bytes are, where float32 numbers are: one of the two."""
        address = self.inputs.ctypes.data
        return (address, None) if self.inputs.dtype == np.uint8 else (None, address)


def _stack(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    most = max(len(part) for part in parts)
    whole = [
        part if len(part) == most else np.pad(part, [(0, most - len(part)), *[(0, 0)] * (part.ndim - 1)]) for part in parts
    ]
    return np.ascontiguousarray(np.stack(whole))


@dataclass(frozen=True)
class Wire:
    """What a round's updates and streamed samples take of a line: messages of updates, bytes with their framing."""

    chunks: int
    chunk_bytes: int
    sample_bytes: int


@dataclass(frozen=True)
class Whose:
    """Clients in training: ``seed``, each one's number and ``draw`` as in Train.

    What they keep from round to round, where the model has it, before a round and, written by ``federate``, after it:
    ``locals``, the local part, float32 [clients, n_local]; ``owed``, what was not sent, float32 [clients, n_global].
    """

    seed: int
    clients: Sequence[int]
    draw: int
    locals: Floats | None = None
    owed: Floats | None = None


@dataclass(frozen=True)
class Upload:
    """Which entries of each client's update travel, how many, as which Dtype."""

    top_k: int
    uplink: int
    selection: Selection


class Simulator:
    """A compiled experiment; one thread at a time calls its methods."""

    def __init__(self, library: Path, manifest: ModelManifest, lanes: int, threads: int) -> None:
        self.manifest = manifest
        self.lanes = lanes
        self.threads = threads
        self._input_size = math.prod(manifest.input_shape)
        self._library = ctypes.CDLL(str(library))
        self._library.make_samples.argtypes = [_POINTER, *[_U32] * 5, _POINTER, _POINTER]
        self._library.make_samples.restype = self._library.federate.restype = self._library.adapt.restype = None

    def samples(self, seed: int, clients: Sequence[int], draw: int, sample_set: SampleSet, count: int) -> Batch:
        """What the boards of ``clients`` would make themselves."""
        numbers = np.array(clients, np.uint32)
        inputs = np.empty((len(clients), count, self._input_size), np.float32)
        targets = np.empty((len(clients), count, self.manifest.target_size), np.float32)
        key = (len(clients), seed, draw, sample_set, count)
        self._library.make_samples(numbers.ctypes.data, *key, inputs.ctypes.data, targets.ctypes.data)
        return Batch(inputs, targets, 1.0)

    def federate(
        self,
        received: Floats,
        phases: Sequence[Phase],
        samples: Sequence[Batch],
        whose: Whose,
        upload: Upload,
        *,
        streamed: bool,
    ) -> tuple[list[Sparse | Status], Wire]:
        """Every client's update, or why there is none; ``streamed``: count the samples' bytes too."""
        n, top_k = len(whose.clients), upload.top_k
        indices, values = np.empty((n, top_k), np.int64), np.empty((n, top_k), np.float32)
        counts = np.zeros((3, n), np.uint32)
        places = [counts[i].ctypes.data for i in range(3 if streamed else 2)]
        owed = None if whose.owed is None else whose.owed.ctypes.data
        found = (indices.ctypes.data, values.ctypes.data, owed)
        updates = _Updates(top_k, upload.uplink, upload.selection, *found, *places)
        faults = self._call(self._library.federate, received, phases, samples, whose, updates)
        outcomes: list[Sparse | Status] = [
            Sparse(indices[i], values[i]) if fault == Status.OK else fault for i, fault in enumerate(faults)
        ]
        return outcomes, Wire(*(int(total) for total in counts.sum(axis=1)))

    def adapt(
        self, received: Floats, phases: Sequence[Phase], samples: Sequence[Batch], whose: Whose, test: Batch
    ) -> tuple[list[Status], Floats, Floats]:
        """What became of every client's training, and outputs [clients, count, output_size] before and after it."""
        n, rows = test.inputs.shape[:2]
        before = np.zeros((n, rows, self.manifest.output_size), np.float32)
        after = np.zeros_like(before)
        argument = _Test(*test.pointers, test.scale, rows, before.ctypes.data, after.ctypes.data)
        faults = self._call(self._library.adapt, received, phases, samples, whose, argument)
        return faults, before, after

    def _call(
        self,
        function: Callable[..., None],
        received: Floats,
        phases: Sequence[Phase],
        samples: Sequence[Batch],
        whose: Whose,
        argument: ctypes.Structure,
    ) -> list[Status]:
        steps = (_Phase * len(phases))()
        for place, phase, batch in zip(steps, phases, samples, strict=True):
            place.levels, place.inputs = batch.pointers
            place.targets, place.scale = batch.targets.ctypes.data, batch.scale
            place.learning_rate, place.output_clamp = phase.learning_rate, phase.output_clamp
            place.variant, place.count, place.passes = phase.variant, phase.count, phase.passes
        names = np.array(whose.clients, np.uint32)
        faults = np.zeros(names.size, np.uint8)
        lanes = self.lanes if names.size > 1 else 1
        work = _Work(
            received.ctypes.data,
            ctypes.addressof(steps),
            len(phases),
            names.size,
            self.threads,
            lanes,
            faults.ctypes.data,
            names.ctypes.data,
            whose.seed,
            whose.draw,
            None if whose.locals is None else whose.locals.ctypes.data,
        )
        function(ctypes.byref(work), ctypes.byref(argument))
        return [Status(fault) for fault in faults.tolist()]


def open_simulator(design: Design, threads: int, unit: str | None = None) -> Simulator:
    """Builds a design's kernels for a vector unit of this machine (None: the best). Raises BuildError, SpecError."""
    if design.experiment.task.boards_are_clients:
        raise SpecError(
            f"{design.source}: task.client_per_board = true makes every board a client, and a simulation has none; simulate it "
            "with --set task.client_per_board=false --set run.clients=N"
        )
    chosen = units()[unit] if unit else next(iter(units().values()))
    here = design.on(boards.load(BOARD))
    return Simulator(build(here, chosen), here.manifest, chosen.lanes, threads)
