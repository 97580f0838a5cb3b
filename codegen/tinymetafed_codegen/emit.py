"""Writes the generated files of firmware, and the texts of all but the model. Unchanged files are not written again."""

from __future__ import annotations

import ctypes
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import (
    adaptation,
    board_key,
    kept_activations,
    log_mel_facts,
    optional_messages,
    private_update,
    protocol_cpp,
    sample_source,
    secure_sum,
    sensor,
    simulation_abi,
    work,
)
from .boards import Board
from .cpp_literals import float_literal, hexadecimal_literal, in_lines
from .design import Design
from .files import OWNER_ONLY, write_if_changed
from .log_mel_cpp import log_mel_header
from .model_cpp import frozen_header, model_header, op_headers
from .optional_messages import FIRST_INDEX_BYTES, LEAST_PARTICIPANTS, VALUE_ESCAPE
from .protocol import Phase, SampleSet, Status
from .protocol_cpp import cpp_constant
from .rendering import render
from .section import SpecError

# Their presence gives the firmware a store, a sensor, authentication, private or coded updates, secure aggregation,
# measurements, kept activations, or a download by difference.
_OPTIONAL_HEADERS = {
    "saved_state.hpp",
    "store_facts.hpp",
    "sensing.hpp",
    "sensor_facts.hpp",
    "own_sensor.hpp",
    "log_mel_facts.hpp",
    "authentication.hpp",
    board_key.HEADER,
    "measures.hpp",
    "measure_facts.hpp",
    "private_update.hpp",
    "privacy_facts.hpp",
    "secure_sum.hpp",
    "secure_facts.hpp",
    "kept_activations.hpp",
    "kept_facts.hpp",
    "coded_update.hpp",
    "coded_facts.hpp",
    "held_version.hpp",
    "difference_facts.hpp",
}


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
    for name in _OPTIONAL_HEADERS - texts.keys():
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
    texts |= authentication_headers(design, command, key)
    parts = (
        store_headers,
        measure_headers,
        sensor_headers,
        privacy_headers,
        secure_headers,
        kept_headers,
        coded_headers,
        difference_headers,
    )
    return texts | {name: text for part in parts for name, text in part(design, command).items()}


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


def simulation_abi_header(command: str) -> str:
    """The text of simulation_abi.hpp: the arguments of the compiled simulation as C++ structs."""
    return render(
        "simulation_abi.hpp.j2",
        source="codegen/tinymetafed_codegen/simulation_abi.py",
        command=command,
        hash=f"0x{simulation_abi.abi_hash():016x}",
        hash_symbol=simulation_abi.HASH_SYMBOL,
        structs=[_abi_struct(struct) for struct in simulation_abi.STRUCTS],
        functions=[
            {
                "name": function.name,
                "doc": function.doc,
                "parameters": ", ".join(f"const tmf::sim::{struct.__name__}&" for struct in function.arguments),
            }
            for function in simulation_abi.FUNCTIONS
        ],
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


def store_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of saved_state.hpp and store_facts.hpp; empty for firmware without a store."""
    facts, storage = design.manifest.store, design.board.storage
    if facts is None or storage is None:
        return {}
    return {
        "saved_state.hpp": render("saved_state.hpp.j2", command=command),
        "store_facts.hpp": render(
            "store_facts.hpp.j2",
            board=design.board.name,
            storage=storage,
            facts=facts,
            pages=2 * facts.slot_pages + facts.key_pages,
            command=command,
            **vars(protocol_cpp.store_parts()),
        ),
    }


def measure_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that measures itself, by name; empty for any other firmware."""
    if not design.experiment.board.measures:
        return {}
    return {
        "measures.hpp": render("measures.hpp.j2", command=command),
        "measure_facts.hpp": render("measure_facts.hpp.j2", records=protocol_cpp.measure_records(), command=command),
    }


def kept_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that keeps activations, by name; empty for any other firmware."""
    kept = design.manifest.kept
    if kept is None:
        return {}
    prefixes = kept_activations.prefixes(design.graph)
    return {
        "kept_activations.hpp": render("kept_activations.hpp.j2", command=command),
        "kept_facts.hpp": render(
            "kept_facts.hpp.j2",
            command=command,
            kept=kept,
            variants=[
                {
                    "constant": cpp_constant(variant.name),
                    "name": variant.name.lower(),
                    "layers": len(prefix.calls),
                    "boundary": cpp_constant(prefix.boundary.name),
                    "floats": prefix.boundary.floats,
                }
                for variant, prefix in prefixes.items()
            ],
        ),
    }


def coded_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that codes the values of its updates, by name; empty for any other firmware."""
    if not design.experiment.strategy.codes_values:
        return {}
    return {
        "coded_update.hpp": render("coded_update.hpp.j2", command=command),
        "coded_facts.hpp": coded_facts_header(command),
    }


def coded_facts_header(command: str) -> str:
    """The text of coded_facts.hpp: the messages of firmware that codes the values of its updates."""
    facts = {"escape": VALUE_ESCAPE, "first": FIRST_INDEX_BYTES}
    return render("coded_facts.hpp.j2", command=command, **facts, **vars(protocol_cpp.coded_parts()))


def sensor_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware with a sensor, by name; empty for any other firmware.

    Raises:
        SpecError: The user's sensor cannot be used.
    """
    facts, file = design.manifest.sensor, design.experiment.board.sensor
    if facts is None or file is None:
        return {}
    sha256 = sensor.digest(Path(file))
    heard = log_mel_facts.of_experiment(design.experiment, design.source)
    texts = {
        "sensing.hpp": render("sensing.hpp.j2", command=command),
        "sensor_facts.hpp": render(
            "sensor_facts.hpp.j2",
            board=design.board.name,
            facts=facts,
            header="sensor/windows.hpp" if heard is None else "sound/front_end.hpp",
            front_end=_windows(facts) if heard is None else "sound::FrontEnd<sound::LogMelFacts>",
            replayed=str(facts.replayed).lower(),
            rate=float_literal(facts.rate),
            columns=json.dumps(facts.header, ensure_ascii=False),
            command=command,
            **vars(protocol_cpp.sensor_parts()),
        ),
    }
    if heard is not None:
        texts["log_mel_facts.hpp"] = log_mel_header(heard, command)
    if not facts.replayed:
        texts["own_sensor.hpp"] = render("own_sensor.hpp.j2", path=Path(file).as_posix(), sha256=sha256, command=command)
    return texts


def privacy_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of private_update.hpp and privacy_facts.hpp; empty for updates that are not private.

    Raises:
        SpecError: The grid of private updates does not fit the dtype of the uplink.
    """
    experiment = design.experiment
    facts = private_update.facts(experiment, design.graph.n_global, design.source)
    if facts is None:
        return {}
    seed = experiment.privacy.public_seed
    return {
        "private_update.hpp": render("private_update.hpp.j2", command=command),
        "privacy_facts.hpp": render(
            "privacy_facts.hpp.j2",
            command=command,
            facts=facts,
            clip=experiment.privacy.clip,
            noise=experiment.privacy.noise,
            clip_literal=float_literal(experiment.privacy.clip or 0.0),
            uplink=cpp_constant(experiment.strategy.uplink.upper()),
            step=hexadecimal_literal(facts.step),
            steps_per_unit=hexadecimal_literal(1 / facts.step),
            sigma=f"{facts.sigma:.6g}",
            bits=private_update.THRESHOLD_BITS,
            has_public_seed=str(seed is not None).lower(),
            seed_note="noise comes from secret random bytes"
            if seed is None
            else "everybody can compute the noise: for tests only",
            public_seed=seed or 0,
            thresholds=in_lines([f"{threshold:#018x}u" for threshold in facts.thresholds()], 5),
        ),
    }


def secure_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of secure_sum.hpp and secure_facts.hpp; empty for firmware without secure aggregation."""
    facts = secure_sum.facts(design.experiment, design.graph.n_global, design.source)
    if facts is None:
        return {}
    return {
        "secure_sum.hpp": render("secure_sum.hpp.j2", command=command),
        "secure_facts.hpp": render(
            "secure_facts.hpp.j2",
            command=command,
            facts=facts,
            least=LEAST_PARTICIPANTS,
            levels=float_literal(float(facts.levels)),
            per_unit=float_literal(1 / facts.step),
            records=protocol_cpp.secure_records(),
        ),
    }


def difference_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of held_version.hpp and difference_facts.hpp; empty for firmware that gets all weights in each round."""
    if not design.experiment.strategy.takes_differences:
        return {}
    return {
        "held_version.hpp": render("held_version.hpp.j2", command=command),
        "difference_facts.hpp": render(
            "difference_facts.hpp.j2",
            command=command,
            step_escape=optional_messages.STEP_ESCAPE,
            factor=f"{optional_messages.FINGERPRINT_FACTOR:#018x}u",
            records=protocol_cpp.difference_records(),
        ),
    }


def _windows(facts: sensor.SensorFacts) -> str:
    """The C++ type of the front end that cuts windows."""
    return f"Windows<kChannels, {facts.window}, {facts.stride}, {str(facts.majority).lower()}, kClasses>"


def authentication_headers(design: Design, command: str, key: bytes | None) -> dict[str, str]:
    """The texts of the headers of authenticated firmware, by name; empty for any other firmware."""
    if not design.experiment.run.is_authenticated:
        return {}
    holder = _key_holder(design, is_compiled_in=key is not None)
    return {
        "authentication.hpp": render(
            "authentication.hpp.j2", key_header=f"{holder}.hpp", stores_key=holder == "key_in_store", command=command
        ),
        board_key.HEADER: render(
            "authentication_facts.hpp.j2",
            mac_bytes=optional_messages.MAC_BYTES,
            key_bytes=optional_messages.KEY_BYTES,
            has_key=str(key is not None).lower(),
            key=", ".join(f"0x{byte:02x}" for byte in key or bytes(optional_messages.KEY_BYTES)),
            records=protocol_cpp.authentication_records(),
            command=command,
        ),
    }


def _key_holder(design: Design, *, is_compiled_in: bool) -> str:
    """Which header of firmware/core/authentication says where the board's key is."""
    if is_compiled_in:
        return "key_compiled_in"
    if design.manifest.store is not None:
        return "key_in_store"
    return "key_compiled_in" if design.board.real else "key_in_memory"


def own_source_header(path: str, sha256: str, command: str) -> str:
    """The text of own_source.hpp: includes the user's sample source, for firmware/app/source_own.cpp."""
    return render("own_source.hpp.j2", path=path, sha256=sha256, command=command)


@dataclass(frozen=True)
class _AbiField:
    """A field of a struct as C++ text, with its offset in bytes."""

    name: str
    type: str
    doc: str
    offset: int


@dataclass(frozen=True)
class _AbiStruct:
    """A struct of the simulation's ABI as C++ text, with its size in bytes."""

    name: str
    doc: str
    size: int
    fields: list[_AbiField]


def _abi_struct(struct: type[simulation_abi.Struct]) -> _AbiStruct:
    layout = struct.c_type()
    fields = [_AbiField(each.name, each.kind.cpp_type, each.doc, getattr(layout, each.name).offset) for each in struct.fields()]
    return _AbiStruct(struct.__name__, struct.__doc__ or "", ctypes.sizeof(layout), fields)
