"""Measurements, what they have in common: which boards count and can be looked into, made-up samples, how they fail."""

from __future__ import annotations

import numpy as np

from tinymetafed_codegen.boards import INSTALLED, Board, Catalogue
from tinymetafed_codegen.errors import Error, UsageError
from tinymetafed_codegen.manifest import ModelManifest

from ..wire.messages import Example


class BenchError(Error):
    """Something that cannot be measured here."""


class BoardCannotMeasure(BenchError, UsageError):
    """A board that was asked for and does not run in QEMU; the text names those that do."""


def in_qemu(board: str, known: Catalogue = INSTALLED) -> Board:
    """The facts of a board that runs in QEMU. Raises BoardError, BoardCannotMeasure."""
    facts = known.load(board)
    if facts.kind != "qemu":
        hint = ", ".join(board.name for board in known.usable() if board.kind == "qemu")
        raise BoardCannotMeasure(
            f"board '{board}' does not run in QEMU, where instructions are counted and the stack is read; choose one of {hint}"
        )
    return facts


def made_up(manifest: ModelManifest, count: int) -> list[Example]:
    """Grey levels that look random, and targets to match: classes where the model's targets are."""
    size = int(np.prod(manifest.input_shape))
    levels = (np.arange(count * size, dtype=np.uint32) * 2_654_435_761 >> 24).astype(np.uint8).reshape(count, size)
    classes = manifest.output_size if manifest.class_target else 0
    first = levels[:, 0] % classes if classes else levels[:, 0] / 255
    targets = np.repeat(first[:, None], manifest.target_size, axis=1).astype(np.float32)
    return [Example(wanted, row, 1 / 255) for wanted, row in zip(targets, levels, strict=True)]
