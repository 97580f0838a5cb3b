"""The headers of the parts that firmware has or has not, and which of them belong to which part."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from numpy import float32

from ..board import board_key
from ..cpp_literals import float_literal, hexadecimal_literal, in_lines
from ..design import Design
from ..memory import kept_activations
from ..messages import protocol_cpp
from ..messages.level_format import LevelFormat
from ..messages.protocol_cpp import cpp_constant
from ..optional_messages import authentication_messages, difference_messages, level_messages
from ..optional_messages.coded_messages import FIRST_INDEX_BYTES, VALUE_ESCAPE
from ..optional_messages.part_messages import SamplePart
from ..optional_messages.secure_messages import LEAST_PARTICIPANTS
from ..protocol import RICE_RAW_BITS
from ..rendering import render
from . import augmentation, log_mel_facts, private_update, sample_parts, secure_sum, sensor
from .log_mel_cpp import log_mel_header


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
    prefixes = kept_activations.prefixes(design.lowered)
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


def kept_sample_headers(design: Design, command: str) -> dict[str, str]:
    """The text of the header of firmware that keeps samples, by name; empty for any other firmware."""
    kept = design.manifest.kept_samples
    if kept is None:
        return {}
    return {"kept_samples.hpp": render("kept_samples.hpp.j2", command=command, kept=kept, dtype=cpp_constant(kept.dtype))}


def coded_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that codes the values of its updates, by name; empty for any other firmware."""
    levels = design.experiment.strategy.uplink_levels
    if levels is not None:
        return {
            "coded_update.hpp": render("level_update.hpp.j2", command=command, **_levels(levels)),
            "level_facts.hpp": level_facts_header(command),
        }
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


def level_load_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that gets its weights as levels, by name; empty for any other firmware."""
    levels = design.experiment.strategy.downlink_levels
    if levels is None:
        return {}
    return {
        "level_load.hpp": render("level_load.hpp.j2", command=command, **_levels(levels)),
        "level_facts.hpp": level_facts_header(command),
    }


def _levels(levels: LevelFormat) -> dict[str, object]:
    return {"bits": levels.bits, "ranged": str(levels.is_ranged).lower()}


def level_facts_header(command: str) -> str:
    """The text of level_facts.hpp: the messages of firmware with levels, and the facts of their code."""
    facts = {
        "chance": level_messages.CHANCE_BITS,
        "coder": level_messages.CODER_BITS,
        "slowest": level_messages.SLOWEST,
        "gaps": level_messages.GAP_CLASSES,
        "gap_bits": RICE_RAW_BITS,
        "first": FIRST_INDEX_BYTES,
    }
    return render("level_facts.hpp.j2", command=command, **facts, **vars(protocol_cpp.level_parts()))


def part_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of the headers of firmware that takes samples in parts, by name; empty for any other firmware."""
    if not design.manifest.takes_parts:
        return {}
    return {
        "sample_parts.hpp": render("sample_parts.hpp.j2", command=command),
        "sample_parts_facts.hpp": render(
            "sample_parts_facts.hpp.j2",
            reads_bytes=str(design.reads_bytes).lower(),
            part_bytes=sample_parts.part_bytes(SamplePart, design.manifest.receive_window, design.manifest.mac_bytes),
            records=protocol_cpp.part_records(),
            command=command,
        ),
    }


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
            step_escape=difference_messages.STEP_ESCAPE,
            factor=f"{difference_messages.FINGERPRINT_FACTOR:#018x}u",
            records=protocol_cpp.difference_records(),
        ),
    }


def wave_headers(design: Design, command: str) -> dict[str, str]:
    """The text of sine_waves.hpp, by name; empty for firmware that makes no sine waves."""
    waves = design.experiment.task.waves
    if waves is None:
        return {}
    drawn = {"amplitude": waves.amplitude, "phase": waves.phase, "frequency": waves.frequency}
    ranges = {
        key: [float_literal(low), float_literal(float(float32(high) - float32(low)))] for key, (low, high) in drawn.items()
    }
    return {"sine_waves.hpp": render("sine_waves.hpp.j2", command=command, **ranges)}


def augmentation_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of augmentation.hpp and augment_facts.hpp; empty for firmware that trains samples as they come."""
    experiment = design.experiment
    facts = augmentation.augment_facts(experiment)
    if facts is None:
        return {}
    keys, jitter = experiment.augment, augmentation.jitter(experiment)
    return {
        "augmentation.hpp": render("augmentation.hpp.j2", command=command),
        "augment_facts.hpp": render(
            "augment_facts.hpp.j2",
            command=command,
            facts=facts,
            training=str(keys.training).lower(),
            adaptation=str(keys.adaptation).lower(),
            stream=augmentation.STREAM,
            inputs=design.graph.input.size,
            turns=str(keys.rotation > 0).lower(),
            rotation=f"{keys.rotation:g}",
            tangent=float_literal(augmentation.tangent(experiment)),
            scale=float_literal(keys.scale),
            jitters=str(bool(jitter)).lower(),
            jitter_channels=max(1, len(jitter)),
            jitter=", ".join(map(float_literal, jitter or (0.0,))),
            deviation=f"{augmentation.DEVIATION:.2f}",
        ),
    }


def averaging_headers(design: Design, command: str) -> dict[str, str]:
    """The texts of averaging.hpp and average_facts.hpp; empty for firmware that predicts each input once."""
    facts = augmentation.average_facts(design.experiment)
    if facts is None:
        return {}
    return {
        "averaging.hpp": render("averaging.hpp.j2", command=command),
        "average_facts.hpp": render(
            "average_facts.hpp.j2",
            command=command,
            facts=facts,
            value="uint8_t" if design.reads_bytes else "float",
            reads_bytes=str(design.reads_bytes).lower(),
            along_columns=str(facts.along_columns).lower(),
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
            mac_bytes=authentication_messages.MAC_BYTES,
            key_bytes=authentication_messages.KEY_BYTES,
            has_key=str(key is not None).lower(),
            key=", ".join(f"0x{byte:02x}" for byte in key or bytes(authentication_messages.KEY_BYTES)),
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


@dataclass(frozen=True)
class OptionalPart:
    """A part that firmware has where its headers are: their names, of which one design may need some only, and their texts."""

    headers: tuple[str, ...]
    texts: Callable[[Design, str], dict[str, str]]


_AUTHENTICATION = ("authentication.hpp", board_key.HEADER)  # a part too, whose texts depend on the board's key
PARTS = (
    OptionalPart(("saved_state.hpp", "store_facts.hpp"), store_headers),
    OptionalPart(("measures.hpp", "measure_facts.hpp"), measure_headers),
    OptionalPart(("sensing.hpp", "sensor_facts.hpp", "own_sensor.hpp", "log_mel_facts.hpp"), sensor_headers),
    OptionalPart(("private_update.hpp", "privacy_facts.hpp"), privacy_headers),
    OptionalPart(("secure_sum.hpp", "secure_facts.hpp"), secure_headers),
    OptionalPart(("kept_activations.hpp", "kept_facts.hpp"), kept_headers),
    OptionalPart(("kept_samples.hpp",), kept_sample_headers),
    OptionalPart(("coded_update.hpp", "coded_facts.hpp", "level_facts.hpp"), coded_headers),
    OptionalPart(("level_load.hpp", "level_facts.hpp"), level_load_headers),
    OptionalPart(("held_version.hpp", "difference_facts.hpp"), difference_headers),
    OptionalPart(("sample_parts.hpp", "sample_parts_facts.hpp"), part_headers),
    OptionalPart(("sine_waves.hpp",), wave_headers),
    OptionalPart(("augmentation.hpp", "augment_facts.hpp"), augmentation_headers),
    OptionalPart(("averaging.hpp", "average_facts.hpp"), averaging_headers),
)
NAMES = frozenset((*_AUTHENTICATION, *(name for part in PARTS for name in part.headers)))


def texts(design: Design, command: str, key: bytes | None) -> dict[str, str]:
    """The texts of the headers of all parts that a design's firmware has, by name.

    Args:
        design: The design.
        command: The command that generates them.
        key: The board's key that is compiled in; None if there is none.

    Raises:
        SpecError: The user's sensor cannot be used, or the grid of private updates does not fit the dtype of the uplink.
    """
    made = authentication_headers(design, command, key)
    return made | {name: text for part in PARTS for name, text in part.texts(design, command).items()}
