"""Lies in messages that only some firmware has: differences, coded and ranged updates, samples in parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from lying_boards import HONEST, Boards, Events, Liar, Lie, bytes_at, changed, check, payload, refused, starting
from small_runs import sine

from tinymetafed.devices.link.weights_down import MOST_REFUSED
from tinymetafed.learn.weights import sha256
from tinymetafed.wire.frame import Frame
from tinymetafed_codegen import spec
from tinymetafed_codegen.optional_messages.coded_messages import CodedDelta, PullCoded, ValueCoding
from tinymetafed_codegen.optional_messages.difference_messages import AskHeld, Difference, Held, Taken
from tinymetafed_codegen.optional_messages.level_messages import LevelCoding, LevelDelta, LevelsLoaded, PullLevels
from tinymetafed_codegen.optional_messages.part_messages import SamplePart, SampleTaken
from tinymetafed_codegen.protocol import Coding, Record, State, Status

ROUNDS = 4


@pytest.fixture(scope="module")
def coded(built_once_for_module: None) -> Iterator[Boards]:
    """Boards that take differences, and send int8 values in Rice codes."""
    keys = ("strategy.download=difference", "strategy.uplink=i8", "strategy.uplink_coding=rice")
    with starting(sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", *keys), None) as started:
        yield started


@pytest.fixture(scope="module")
def ranged(built_once_for_module: None) -> Iterator[Boards]:
    """Boards that take and send levels in a range code."""
    keys = [f"strategy.{way}{key}" for way in ("uplink", "downlink") for key in ("=i4", "_coding=range")]
    with starting(sine(f"run.rounds={ROUNDS}", "run.devices_per_round=3", *keys), None) as started:
        yield started


@pytest.fixture(scope="module")
def in_parts(built_once_for_module: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    """Boards whose samples do not fit the receive window."""
    folder = tmp_path_factory.mktemp("long")
    random = np.random.default_rng(1)
    for name in ("a", "b", "c", "d", "e"):
        np.savez(folder / name, x=random.normal(size=(24, 1200)).astype(np.float32), y=np.arange(24) % 2)
    file = folder / "experiment.toml"
    file.write_text(
        f'[task]\nkind = "folder"\npath = "{folder}"\nheld_out = ["e"]\nsupport = 2\nquery = 2\nadapt = 2\n'
        '[data]\nnormalise = "none"\n'
        '[model]\ninput = [1200]\nloss = "softmax_cross_entropy"\n'
        'layers = [{ op = "dense", units = 2, activation = "relu" }, { op = "dense", units = 2, local = true }]\n'
        "[run]\nrounds = 2\ndevices_per_round = 3\n"
    )
    with starting(spec.load(file, ()), folder) as started:
        yield started


@pytest.fixture(scope="module")
def honestly_coded(coded: Boards) -> str:
    """The weights after all rounds of honest boards."""
    return sha256(coded.train(Events(), HONEST)[-1].weights)


@pytest.fixture(scope="module")
def honestly_ranged(ranged: Boards) -> str:
    """The same of boards with levels."""
    return sha256(ranged.train(Events(), HONEST)[-1].weights)


@pytest.fixture(scope="module")
def honestly_in_parts(in_parts: Boards) -> str:
    """The same of boards whose samples come in parts."""
    return sha256(in_parts.train(Events(), HONEST)[-1].weights)


def of(about: type[Record], **fields: Callable[[Record], object]) -> Lie:
    """Changes fields of every answer of a type, depending on it."""

    def lie(answer: Record, frame: Frame) -> Record:
        if not isinstance(answer, about):
            return answer
        return dataclasses.replace(answer, **{name: change(answer) for name, change in fields.items()})

    return lie


def one_more(about: type[Record], field: str, start: int = 0) -> Lie:
    """Takes one more each time, whatever came."""
    taken = start

    def lie(answer: Record, frame: Frame) -> Record:
        nonlocal taken
        if not isinstance(answer, about):
            return answer
        taken += 1
        return dataclasses.replace(answer, **{field: taken})

    return lie


HOLDS_NO_VERSION = changed(Held, whole=1, version=b"unheard!")
DIFFERENCES: dict[str, Lie] = {
    "holds a version that nobody knows": HOLDS_NO_VERSION,
    "all of a difference is there at once": changed(Taken, next=2**32 - 1),
    "nothing of a difference arrives": changed(Taken, next=0),
    "one entry of a difference each time": one_more(Taken, "next"),
    "every difference refused as one to another version": refused(Difference, Status.BAD_STATE),
    "every difference refused as one to other weights": refused(Difference, Status.BAD_VALUE),
    "a difference answered with nothing": payload(Difference, lambda said: b""),
    "a difference refused with TOO_LARGE": refused(Difference, Status.TOO_LARGE),
    "the question for a version refused": refused(AskHeld, Status.UNKNOWN_TYPE),
    "a version of no bytes": payload(AskHeld, lambda said: b""),
}
VALUES = CodedDelta.place("values")
CODED: dict[str, Lie] = {
    "a Rice parameter that does not exist": bytes_at(PullCoded, VALUES, b"\x63"),
    "a Rice parameter above all bits of a value": changed(CodedDelta, values=ValueCoding.RICE_6),
    "a Rice parameter of 0 for large values": changed(CodedDelta, values=ValueCoding.RICE_0),
    "signs alone": changed(CodedDelta, values=ValueCoding.SIGNS),
    "packed values in another dtype": changed(CodedDelta, values=ValueCoding.PACKED),
    "ones without end": of(CodedDelta, data=lambda said: b"\xff" * len(said.data)),  # type: ignore[attr-defined]
    "zeros without end": of(CodedDelta, data=lambda said: bytes(len(said.data))),  # type: ignore[attr-defined]
    "no coded data": changed(CodedDelta, data=b""),
    "one entry in a thousand bytes": of(CodedDelta, count=lambda said: 1),
    "gaps in another coding": changed(CodedDelta, indices=Coding.RICE_20),
    "a coded scale of 3e38": changed(CodedDelta, scale=3e38),
    "a coded scale of NaN": changed(CodedDelta, scale=float("nan")),
    "coded entries without end": changed(CodedDelta, count=0xFFFF),
    "no coded entry": bytes_at(PullCoded, CodedDelta.place("count"), b"\0\0"),
    "coded entries from another rank": of(CodedDelta, rank=lambda said: said.rank + 1),  # type: ignore[attr-defined]
}
RANGED: dict[str, Lie] = {
    "a range code of ones": of(LevelDelta, data=lambda said: b"\xff" * len(said.data)),  # type: ignore[attr-defined]
    "a range code of zeros": of(LevelDelta, data=lambda said: bytes(len(said.data))),  # type: ignore[attr-defined]
    "a range code with a byte too few": of(LevelDelta, data=lambda said: said.data[:-1]),  # type: ignore[attr-defined]
    "a range code with a byte too many": of(LevelDelta, data=lambda said: said.data + b"\0"),  # type: ignore[attr-defined]
    "a range code that is called packed": changed(LevelDelta, coding=LevelCoding.PACKED),
    "levels in a coding that does not exist": bytes_at(PullLevels, LevelDelta.place("coding"), b"\x63"),
    "a scale of levels of 3e38": changed(LevelDelta, scale=3e38),
    "no level": bytes_at(PullLevels, LevelDelta.place("count"), b"\0\0"),
    "one level in each message": of(LevelDelta, count=lambda said: 1),
    "one weight more each time": one_more(LevelsLoaded, "next_offset"),
    "more levels than were sent": changed(LevelsLoaded, next_offset=2**31),
}
PARTS: dict[str, Lie] = {
    "all bytes of all samples at once": changed(SampleTaken, position=2**32 - 1),
    "no byte of a sample": changed(SampleTaken, position=0),
    "one byte more each time": one_more(SampleTaken, "position"),
    "steps without their samples": of(SampleTaken, step=lambda said: said.step + 3),  # type: ignore[attr-defined]
    "trained at the first part": changed(SampleTaken, state=State.DONE),
    "failed in the middle of a sample": changed(SampleTaken, state=State.FAILED, fault=Status.NOT_FINITE),
    "parts refused": refused(SamplePart, Status.UNKNOWN_TYPE),
    "parts of another cycle": of(SampleTaken, token=lambda said: said.token + 1),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("lie", DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_lies_about_versions_reach_no_weight(coded: Boards, lie: Lie, honestly_coded: str) -> None:
    events = Events()
    done = coded.train(events, Liar(lie))
    assert sha256(done[-1].weights) == honestly_coded
    refusals = [event for event in events.seen if "refused a difference" in event]
    assert len(refusals) <= MOST_REFUSED + 1 < ROUNDS - 1, "a liar fills no journal"


@pytest.mark.parametrize("lie", CODED.values(), ids=CODED.keys())
def test_lies_in_coded_updates_reach_no_weight(coded: Boards, lie: Lie, honestly_coded: str) -> None:
    check(coded, Liar(lie), honestly_coded)


@pytest.mark.parametrize("lie", RANGED.values(), ids=RANGED.keys())
def test_lies_in_ranged_updates_reach_no_weight(ranged: Boards, lie: Lie, honestly_ranged: str) -> None:
    check(ranged, Liar(lie), honestly_ranged)


@pytest.mark.parametrize("lie", PARTS.values(), ids=PARTS.keys())
def test_lies_about_samples_in_parts_reach_no_weight(in_parts: Boards, lie: Lie, honestly_in_parts: str) -> None:
    check(in_parts, Liar(lie), honestly_in_parts)
