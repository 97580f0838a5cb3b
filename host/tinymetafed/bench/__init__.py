"""Common parts of the measurements: the boards that can be measured, synthetic samples, errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import INSTALLED, Catalogue
from tinymetafed_codegen.errors import Error, UsageError
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import Experiment

from ..devices.board_keys import authenticate
from ..devices.device import Device
from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Firmware
from ..devices.launch import launch
from ..devices.link.faults import FaultPlan
from ..wire.messages import Example


class BenchError(Error):
    """A measurement that is not possible on this machine."""


class BoardCannotMeasure(BenchError, UsageError):
    """A board that does not run in QEMU; the text names boards that do."""


def in_qemu(board: str, known: Catalogue = INSTALLED) -> Board:
    """Loads a board that runs in QEMU. Raises BoardError, BoardCannotMeasure."""
    facts = known.load(board)
    if facts.kind != "qemu":
        hint = ", ".join(board.name for board in known.usable() if board.kind == "qemu")
        raise BoardCannotMeasure(
            f"board '{board}' does not run in QEMU, which counts instructions and reads the stack; choose one of {hint}"
        )
    return facts


def keeping_nothing(experiment: Experiment) -> Experiment:
    """The experiment without what a board keeps: it takes memory that is free otherwise, and changes no single step."""
    return experiment.model_copy(update={"board": experiment.board.model_copy(update={"keep_activations": False})})


@contextmanager
def launched(
    spec: DeviceSpec,
    built: Firmware,
    *,
    boards: Catalogue = INSTALLED,
    icount: bool = False,
    options: Sequence[str] = (),
    faults: FaultPlan | None = None,
) -> Iterator[Device]:
    """Starts one device with a program, authenticated if its firmware is. Arguments and errors are those of ``launch``."""
    secured = built.manifest.mac_bytes > 0
    with launch(
        [spec],
        lambda _: built.program,
        boards=boards,
        gives_keys=secured,
        icount=icount,
        options=options,
        faults=faults,
        check=authenticate if secured else None,
    ) as (device,):
        yield device


def synthetic_samples(manifest: ModelManifest, count: int) -> list[Example]:
    """Synthetic samples: pseudo-random uint8 levels as inputs, with targets that fit the model.

    Args:
        manifest: The model.
        count: Number of samples.

    Returns:
        The samples; targets are classes for a classification model, otherwise values from 0 to 1.
    """
    size = int(np.prod(manifest.input_shape))
    levels = (np.arange(count * size, dtype=np.uint32) * 2_654_435_761 >> 24).astype(np.uint8).reshape(count, size)
    classes = manifest.output_size if manifest.class_target else 0
    first = levels[:, 0] % classes if classes else levels[:, 0] / 255
    targets = np.repeat(first[:, None], manifest.target_size, axis=1).astype(np.float32)
    return [Example(wanted, row, 1 / 255) for wanted, row in zip(targets, levels, strict=True)]
