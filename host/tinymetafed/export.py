"""The weights of a run as a file for other programs: NumPy's .npz, or a C header."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinymetafed_codegen.emit import replace

from .learn.weights import Floats, global_tensors
from .store import RunData, StoreError

_PER_LINE = 8


class ExportError(Exception):
    """A file that cannot be exported to; wrong usage."""


def write(run: RunData, file: Path) -> None:
    """Writes the weights after the latest round, whole or not at all; the file's suffix chooses the format.

    Raises ExportError for a suffix other than .npz and .h, StoreError when the file cannot be written.
    """
    formats: dict[str, Callable[[RunData], bytes]] = {".npz": npz, ".h": header}
    if file.suffix not in formats:
        raise ExportError(f"{file}: unknown format '{file.suffix}'; expected FILE.npz (NumPy) or FILE.h (C header)")
    content = formats[file.suffix](run)
    try:
        replace(file, content)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}") from None


def npz(run: RunData) -> bytes:
    """One float32 array per global tensor, and the rounds trained."""
    buffer = io.BytesIO()
    np.savez(buffer, rounds=np.int64(run.trained), **_tensors(run))  # type: ignore[arg-type]
    return buffer.getvalue()


def header(run: RunData) -> bytes:
    """One float array per global tensor, row by row, with enough digits to give the same bits back."""
    guard = "TINYMETAFED_WEIGHTS_H"
    lines = [
        f"// Global weights after {run.trained} rounds, model {run.manifest['model_hash']};",
        f"// written by: tinymetafed export {run.name} (tinymetafed {run.run['tinymetafed']}).",
        f"#ifndef {guard}",
        f"#define {guard}",
    ]
    for name, tensor in _tensors(run).items():
        numbers = [f"{float(value):.9g}" for value in tensor.ravel()]
        texts = [number + ("f" if set(number) & set(".e") else ".0f") for number in numbers]
        lines += ["", f"// shape {list(tensor.shape)}", f"static const float {name.replace('.', '_')}[{tensor.size}] = {{"]
        lines += ["  " + ", ".join(texts[at : at + _PER_LINE]) + "," for at in range(0, len(texts), _PER_LINE)]
        lines.append("};")
    return "\n".join([*lines, "", f"#endif  // {guard}", ""]).encode()


def _tensors(run: RunData) -> dict[str, Floats]:
    """The global tensors by name, each in its shape."""
    return {
        tensor["name"]: run.weights[tensor["offset"] : tensor["offset"] + tensor["size"]].reshape(tensor["shape"])
        for tensor in global_tensors(run.manifest)
    }
