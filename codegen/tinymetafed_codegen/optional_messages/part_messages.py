"""Messages of firmware whose samples are larger than one message: a sample and an input in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..messages.field_kinds import F32, U32, Tail
from ..messages.wire_record import Record, Request
from ..protocol import InputDtype, State, Status


@dataclass(frozen=True, slots=True)
class SampleTaken(Record):
    """The progress of the cycle, and what the device has of the sample that comes in parts."""

    token: Annotated[U32, "the token of the cycle in progress"]
    state: Annotated[State, "state of the device"]
    fault: Annotated[Status, "the reason where the state is FAILED, else OK"]
    step: Annotated[U32, "number of trained steps of all phases"]
    ticks: Annotated[U32, "time spent in training steps"]
    position: Annotated[U32, "the bytes of all trained samples and those of the next one that the device has, modulo 2^32"]


@dataclass(frozen=True, slots=True)
class SamplePart(Request):
    """A part of a sample, in place of `Sample`; the device trains on the sample before it answers the last part."""

    type_id = 0x10
    answer = SampleTaken
    token: Annotated[U32, "the token of the cycle in progress"]
    position: Annotated[U32, "the bytes of samples before this part, over all steps, modulo 2^32; parts may have any length"]
    dtype: Annotated[InputDtype, "format of the inputs; the same for the whole sample"]
    scale: Annotated[F32, "an input in U8 is its byte times this; the same for the whole sample"]
    data: Annotated[Tail, "bytes of the sample, which is its targets as f32, then its inputs"]


@dataclass(frozen=True, slots=True)
class InputTaken(Record):
    """What the device has of the input that comes in parts."""

    position: Annotated[U32, "bytes of the input that the device has"]
    data: Annotated[Tail, "once it has all of them: the outputs of the model, each as f32; else empty"]


@dataclass(frozen=True, slots=True)
class InputPart(Request):
    """A part of one input, in place of `Predict`; after the last part the device runs the model forward."""

    type_id = 0x11
    answer = InputTaken
    number: Annotated[U32, "number of the input, another one for each; its part at position 0 begins it"]
    position: Annotated[U32, "bytes of the input before this part; parts may have any length"]
    dtype: Annotated[InputDtype, "format of the input; the same for all of it"]
    scale: Annotated[F32, "an input in U8 is its byte times this; the same for all of it"]
    data: Annotated[Tail, "bytes of the input"]


PART_REQUESTS: tuple[type[Request], ...] = (SamplePart, InputPart)
