"""Renders a trained model as a library of its own for Arduino, PlatformIO or any C++11 program: all of its files as text."""

from __future__ import annotations

import json
import re
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import rendering
from ..cpp_literals import float_literal
from ..design import Design
from ..errors import UsageError
from ..locate import find
from ..model_cpp import frozen_header, model_header, op_headers
from ..protocol import Variant
from .cpp11 import lowered
from .markdown_text import markdown_text

Floats = NDArray[np.float32]
Kind = Literal["arduino", "cpp"]

_ALIGNMENT = 16  # bytes, of weights and arena
_PER_LINE = 8  # numbers
_WIDTH = 115  # characters in a line of a comment
_INCLUDE = re.compile(r'^#include (?:"([^"]+)"|<(kernels/[^>]+)>).*$')
_SYSTEM_INCLUDE = re.compile(r"^#include <[^>/]+>$")


class LibraryError(UsageError):
    """A model that cannot be rendered as a library; wrong usage."""


@dataclass(frozen=True)
class SelfTest:
    """Samples with the host's results, which the library's test program prints and compares.

    ``inputs``: float32 [count, inputs]. ``targets``: float32 [count, targets]. ``before`` and ``after``: scores,
    float32 [count, outputs], before and after one pass of training over the samples. ``weights``: all weights after it.
    """

    inputs: Floats
    targets: Floats
    before: Floats
    after: Floats
    weights: Floats


@dataclass(frozen=True)
class Library:
    """A model with everything that its library has.

    Attributes:
        name: Name of the library and of its C++ class.
        design: The model.
        weights: All weights that ``begin`` starts from, global and local, float32 [n_parameters].
        origin: One line: the run, and what the local weights are adapted to.
        variant: What ``learn`` trains: LOCAL, GLOBAL or FULL.
        rate: Its learning rate.
        clamp: ``strategy.output_clamp``.
        class_names: Names of the classes in the order of their indices; () where there are none.
        self_test: Samples and what the host computes for them.
        version: Version of this package.
        command: The command that exports it.
        feature_note: One line about the numbers of a sample and their order; "" where that is not known.
    """

    name: str
    design: Design
    weights: Floats = field(repr=False)
    origin: str
    variant: Variant
    rate: float
    clamp: float
    class_names: Sequence[str]
    self_test: SelfTest = field(repr=False)
    version: str
    command: str
    feature_note: str = ""


def class_name(text: str) -> str:
    """A name for the library and its class, from the name of its folder: ``SineModel`` for ``sine``."""
    parts = re.findall(r"[A-Za-z0-9]+", text.encode("ascii", "ignore").decode())
    joined = "".join(part[:1].upper() + part[1:] for part in parts)
    return (joined if joined[:1].isalpha() else f"My{joined}").removesuffix("Model") + "Model"


def render(library: Library, kind: Kind) -> dict[str, str]:
    """All files of a library.

    Args:
        library: The library.
        kind: "arduino" for a library of the Arduino IDE and of PlatformIO with sketches as examples, "cpp" with programs.

    Returns:
        Texts by path within the library's folder.

    Raises:
        LibraryError: What ``learn`` would train is no single step.
        OSError: A header of the user's own op cannot be read.
    """
    if library.variant not in (Variant.LOCAL, Variant.GLOBAL, Variant.FULL):
        raise LibraryError("adaptation ends in GRADIENT steps, which train nothing by themselves; no library can learn so")
    facts = _facts(library)
    name = library.name

    def template(file: str, **more: bool) -> str:
        return rendering.render(file, **facts, **more)

    files = {
        f"src/{name}.h": template("library.h.j2"),
        f"src/{name}.cpp": template("library.cpp.j2"),
        f"src/{name}Network.h": _network(library),
        f"src/{name}SelfTest.h": template("library_self_test.h.j2"),
        "test/self_test.cpp": template("library_self_test.cpp.j2"),
        "test/expected.txt": expected(library),
        "README.md": template("library_readme.md.j2", is_arduino=kind == "arduino"),
        "library.json": json.dumps(_platformio(library), indent=2) + "\n",
    }
    if kind == "arduino":
        files |= {
            "library.properties": template("library.properties.j2"),
            f"examples/{name}Learn/{name}Learn.ino": template("library_learn.ino.j2"),
            f"examples/{name}SelfTest/{name}SelfTest.ino": template("library_self_test.ino.j2"),
        }
    else:
        files["examples/learn.cpp"] = template("library_learn.cpp.j2")
    return files


def expected(library: Library) -> str:
    """What the library's test program must print: the scores that the host computes."""
    test = library.self_test
    lines = []
    for word, scores in (("before", test.before), ("after", test.after)):
        lines += [f"sample {i} {word}: {' '.join(f'{float(score):.9g}' for score in row)}" for i, row in enumerate(scores)]
    return "\n".join([*lines, f"weights: {_checksum(test.weights):08x}", "same as on the host", ""])


def _checksum(weights: Floats) -> int:
    """CRC-32 of weights as little-endian float32."""
    return zlib.crc32(weights.astype("<f4").tobytes())


@dataclass(frozen=True)
class _Array:
    """A C++ array: its number of floats, and the lines of its numbers."""

    size: int
    lines: list[str]

    @classmethod
    def of(cls, values: Floats) -> _Array:
        numbers = [float_literal(float(value)) for value in values.ravel()]
        return cls(len(numbers), [", ".join(numbers[at : at + _PER_LINE]) + "," for at in range(0, len(numbers), _PER_LINE)])


def _facts(library: Library) -> dict[str, Any]:
    """The values that the templates substitute."""
    design, test = library.design, library.self_test
    net, arena = design.graph, design.plan
    classes = net.labels
    takes_label = classes > 0
    state_bytes, arena_bytes = 4 * net.n_state, 4 * arena.floats
    labels = test.targets[:, 0].astype(int).tolist() if takes_label else []
    return {
        "name": library.name,
        "guard": library.name.upper(),
        "namespace": _namespace(library),
        "origin": _one_line(library.origin),
        "page_origin": markdown_text(library.origin),
        "command": _one_line(library.command).replace("`", "'"),
        "version": library.version,
        "library_version": _three_numbers(library.version),
        "layers": " -> ".join(call.op.name for call in net.forward),
        "model_hash": design.model_hash.hex(),
        "features": net.input.size,
        "input_shape": list(net.input.shape),
        "feature_note": _one_line(library.feature_note),
        "page_feature_note": markdown_text(library.feature_note),
        "feature_lines": textwrap.wrap(_one_line(library.feature_note), _WIDTH, break_long_words=False),
        "scores": net.output.size,
        "scores_note": _scores_note(library),
        "classes": classes,
        "last_label": classes - 1,
        "class_names": [markdown_text(each).replace("|", "/") for each in _class_names(library, classes)],
        "class_name_list": ", ".join(_c_string(each) for each in _class_names(library, classes)),
        "takes_label": takes_label,
        "values": net.loss.targets == "values",
        "targets": net.target.size,
        "parameters": net.n_parameters,
        "state_count": net.n_state,
        "state_bytes": state_bytes,
        "arena_floats": arena.floats,
        "arena_bytes": arena_bytes,
        "ram_bytes": -(-state_bytes // _ALIGNMENT) * _ALIGNMENT + -(-arena_bytes // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT,
        "flash_bytes": 4 * net.n_parameters + net.frozen_bytes,
        "save_bytes": 8 + state_bytes + 4,
        "alignment": _ALIGNMENT,
        "has_local": net.n_local > 0,
        "largest_input": "" if net.largest_input is None else float_literal(net.largest_input),
        "beyond": "" if net.largest_input is None else f", or a feature is beyond {net.largest_input:g}",
        "learns": {Variant.LOCAL: "the local layers", Variant.GLOBAL: "the global layers"}.get(library.variant, "all layers"),
        "default_part": {Variant.LOCAL: "kLocal", Variant.GLOBAL: "kGlobal"}.get(library.variant, "kAll"),
        "rate": float_literal(library.rate),
        "clamp": float_literal(library.clamp),
        "activation": net.loss.takes_logits_of,
        "start": _Array.of(library.weights),
        "inputs": _Array.of(test.inputs),
        "test_targets": _Array.of(test.targets),
        "test_labels": ", ".join(map(str, labels)),
        "before": _Array.of(test.before),
        "after": _Array.of(test.after),
        "count": len(test.inputs),
        "checksum": f"0x{_checksum(test.weights):08x}u",
    }


def _one_line(text: str) -> str:
    """A text for a comment: without line breaks, and without what C++ reads as one at the end of a line."""
    return " ".join(text.replace("\\", "/").replace("??", "?").split())


def _three_numbers(version: str) -> str:
    """A version as Arduino and PlatformIO write it: 1.2.3."""
    numbers = re.findall(r"\d+", version.partition("+")[0])
    return ".".join([*numbers, "0", "0", "0"][:3])


def _namespace(library: Library) -> str:
    """The namespace of the library's own copy of the kernels: two libraries in one program do not meet."""
    return f"tmf_{library.name}"


def _scores_note(library: Library) -> str:
    activation = library.design.graph.loss.takes_logits_of
    return f"logits; probabilities() gives their {activation}" if activation else "the predicted values"


def _class_names(library: Library, classes: int) -> Sequence[str]:
    if len(library.class_names) == classes:
        return library.class_names
    return [f"class {i}" for i in range(classes)]  # where a class means something else to every client


def _c_string(text: str) -> str:
    """A C++ string literal; bytes beyond ASCII are those of UTF-8, in octal, which ends after three digits."""
    kept = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{kept}"'


def _platformio(library: Library) -> dict[str, object]:
    """The content of library.json."""
    return {
        "name": library.name,
        "version": _three_numbers(library.version),
        "description": f"A model that goes on learning on the device: {_one_line(library.origin)}",
        "keywords": "tinyml, federated learning, training",
        "frameworks": "*",
        "platforms": "*",
        "headers": f"{library.name}.h",
        "build": {"flags": ["-ffp-contract=off"]},
    }


_BOARD = """// What the kernels need to know of the processor.
#pragma once

namespace tmf::board {

// Numbers that fit into its float registers: more of them let a kernel compute more sums at a time. It changes no result.
#if defined(__XTENSA__)
constexpr int kFloatRegisters = 16;
#else
constexpr int kFloatRegisters = 32;
#endif

}  // namespace tmf::board
"""


def _network(library: Library) -> str:
    """The kernels that the model uses and the model itself as one header, in C++11 and in a namespace of the library's own."""
    design = library.design
    generated = {
        "board.hpp": _BOARD,
        "model.hpp": model_header(design, library.command, "library_model.hpp.j2"),
        "op_headers.hpp": op_headers(design, library.command),
    }
    if design.graph.frozen:
        generated["frozen.hpp"] = frozen_header(design, library.command)
    activation = design.graph.loss.takes_logits_of  # for probabilities()
    entry = (f'#include "kernels/{activation}.hpp"\n' if activation else "") + '#include "model.hpp"\n'
    body = "\n".join(_inlined(entry, find("firmware") / "core", generated, set()))
    guard = f"{library.name.upper()}_NETWORK_H"
    text = (
        f"// The kernels of {library.name} and its network, in one file. Generated by `{library.command}`; do not edit.\n"
        f"#ifndef {guard}\n#define {guard}\n\n#include <stddef.h>\n#include <stdint.h>\n\n{body}\n#endif  // {guard}\n"
    )
    text = re.sub(r"\btmf\b", _namespace(library), lowered(text))
    return re.sub(r"\n{3,}", "\n\n", text)


_KNOWN = {"<cstddef>", "<cstdint>", "<cstring>"}  # <stddef.h> and <stdint.h> serve for them


def _inlined(text: str, folder: Path, generated: dict[str, str], seen: set[str]) -> list[str]:
    """The lines of a header, each include of ours replaced by that header's lines the first time and by nothing later."""
    lines = []
    for line in text.splitlines():
        if line.strip() == "#pragma once":
            continue
        if _SYSTEM_INCLUDE.match(line):
            lines += [] if line.partition(" ")[2] in _KNOWN else [line]
            continue
        included = _INCLUDE.match(line)
        if included is None:
            lines.append(line)
            continue
        name = included[1] or included[2]
        own = folder / name
        core = find("firmware") / "core"
        file = next((each for each in (own, core / name, core / "kernels" / name) if each.is_file()), None)
        key = name if name in generated else str((file or own).resolve())
        if key in seen:
            continue
        seen.add(key)
        if name in generated:
            lines += _inlined(generated[name], core, generated, seen)
        else:
            if file is None:
                raise LibraryError(f"{own}: missing, but a header of an op includes it")
            lines += _inlined(file.read_text(encoding="utf-8"), file.parent, generated, seen)
    return lines
