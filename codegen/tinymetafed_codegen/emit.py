"""Writes the generated files of firmware, and the texts of all but the model. Unchanged files are not written again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from .board import board_key
from .board.board_facts import Board
from .cpp_literals import float_literal
from .design import Design
from .files import OWNER_ONLY, write_if_changed
from .memory import work
from .messages import protocol_cpp
from .messages.protocol_cpp import cpp_constant
from .model_cpp import frozen_header, model_header, op_headers
from .options import adaptation, optional_headers, sample_source
from .protocol import Phase, SampleSet, Status
from .rendering import render
from .section import SpecError


def command(experiment: Path, board: Board) -> str:
    """The command that generates the files of an experiment for a board, for the comment at the top of each file."""
    return f"{shlex.join(['tinymetafed', 'codegen', experiment.name, '--board', board.name, '-o'])} DIR"


def write(design: Design, folder: Path, command: str, *, key: bytes | None = None) -> list[Path]:
    """Writes a design's generated files: the headers that the firmware's core includes, and manifest.json.

    Args:
        design: The design.
        folder: The folder for the files.
        command: The command that generates them, for the comment at the top of each file.
        key: The board's key that is compiled in, for firmware of this one board; None if the board gets it otherwise.

    Returns:
        The files that changed.

    Raises:
        SpecError: The numbers of the normalisation are not measured yet.
        OSError: A file cannot be written.
    """
    own = sample_source.own_source(design.experiment)
    texts = headers(design, command, key=key) | {"manifest.json": json.dumps(design.manifest.as_json(), indent=1) + "\n"}
    if own is not None:
        texts["own_source.hpp"] = own_source_header(own.as_posix(), sample_source.digest(own), command)
    for name in optional_headers.NAMES - texts.keys():
        (folder / name).unlink(missing_ok=True)
    modes = {board_key.HEADER: OWNER_ONLY} if key is not None else {}
    return [folder / name for name, text in texts.items() if write_if_changed(folder / name, text, modes.get(name, 0o644))]


def headers(design: Design, command: str, phases: Sequence[Phase] | None = None, *, key: bytes | None = None) -> dict[str, str]:
    """The texts of the generated headers that the firmware's core includes, by name.

    Args:
        design: The design.
        command: The command that generates them.
        phases: What a board trains when it adapts by itself; None for the phases of [adaptation].
        key: The board's key that is compiled in; None if there is none.

    Raises:
        SpecError: The numbers of the normalisation are not measured yet.
    """
    if design.experiment.data.is_unmeasured:
        raise SpecError(
            f"{design.source}: data.normalise = '{design.experiment.data.normalise}' lacks data.shift and data.scale, which "
            "are measured in the data; `tinymetafed codegen` measures them and generates the code, as every run does"
        )
    texts = {
        "protocol.hpp": protocol_header(command),
        "status.hpp": status_header(command),
        "board.hpp": board_header(design, command),
        "model.hpp": model_header(design, command),
        "op_headers.hpp": op_headers(design, command),
        "device_facts.hpp": device_facts_header(design, command),
        "adaptation.hpp": adaptation_header(design, command, phases),
        "own_program.hpp": render("own_program.hpp.j2", command=command, records=protocol_cpp.own_program_records()),
    }
    if design.graph.frozen:
        texts["frozen.hpp"] = frozen_header(design, command)
    return texts | optional_headers.texts(design, command, key)


def protocol_header(command: str) -> str:
    """The text of protocol.hpp: the wire table as C++."""
    return render("protocol.hpp.j2", command=command, **vars(protocol_cpp.parts()))


def status_header(command: str) -> str:
    """The text of status.hpp: the results of operations as C++, and what they mean."""
    enum = protocol_cpp.enum_text(Status)
    members = [{**vars(member), "literal": json.dumps(member.doc.replace("`", ""))} for member in enum.members]
    return render("status.hpp.j2", source=protocol_cpp.SOURCE, command=command, enum={"doc": enum.doc, "members": members})


def device_facts_header(design: Design, command: str) -> str:
    """The text of device_facts.hpp: the sizes of samples and scores, for the user's program."""
    net = design.graph
    activation = net.loss.takes_logits_of
    return render(
        "device_facts.hpp.j2",
        title=" -> ".join(call.op.name for call in net.forward),
        command=command,
        model_hash_hex=design.model_hash.hex(),
        input_size=net.input.size,
        input_shape=list(net.input.shape),
        output_size=net.output.size,
        scores_note=f"logits, of which {activation} makes probabilities" if activation else "the predicted values",
        target_size=net.target.size,
        target_note=net.target.note,
        classes=net.labels,
        targets_are_values=str(net.loss.targets == "values").lower(),
        splits_steps=str(design.experiment.board.split_steps).lower(),
        receive_window=design.manifest.receive_window,
    )


def adaptation_header(design: Design, command: str, phases: Sequence[Phase] | None = None) -> str:
    """The text of adaptation.hpp: what a board trains when it adapts by itself; None for the phases of [adaptation]."""
    count = design.experiment.task.count(SampleSet.ADAPT)
    chosen = adaptation.phases(design.experiment, count) if phases is None else phases
    return render(
        "adaptation.hpp.j2",
        command=command,
        phases=[
            {
                "variant": cpp_constant(phase.variant.name),
                "sample_set": cpp_constant(phase.sample_set.name),
                "count": phase.count,
                "passes": phase.passes,
                "rate": float_literal(phase.learning_rate),
                "clamp": float_literal(phase.output_clamp),
            }
            for phase in chosen
        ],
        last=max(0, len(chosen) - 1),
    )


def board_header(design: Design, command: str) -> str:
    """The text of board.hpp: the board's facts as C++."""
    reason = ""
    if design.manifest.receive_window != design.board.receive_window:
        reason = f"; the {design.board.receive_window} of the board's file are too few for one sample or one answer"
    watchdog = work.watchdog_seconds(design.board, design.graph)
    return render(
        "board.hpp.j2",
        board=design.board,
        command=command,
        watchdog_seconds=watchdog,
        watchdog_reason="" if watchdog == design.board.watchdog_seconds else "  // the board file's are too few for a step",
        receive_window=design.manifest.receive_window,
        window_reason=reason,
    )


def own_source_header(path: str, sha256: str, command: str) -> str:
    """The text of own_source.hpp: includes the user's sample source, for firmware/app/source_own.cpp."""
    return render("own_source.hpp.j2", path=path, sha256=sha256, command=command)
