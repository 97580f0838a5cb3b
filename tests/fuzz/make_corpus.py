"""Makes the corpus: generated inputs for every stored state of the device, and inputs that once found a fault."""

from __future__ import annotations

import argparse
import struct
import subprocess
import tempfile
from pathlib import Path

import fuzzer

from tinymetafed_codegen.protocol import Await, Dtype, Fetch, Hello, Load, Predict, Pull, Request

# numbered as in fuzz.cpp
STATES = ["fresh", "configured", "loading", "loaded", "training", "last-step", "done-f32", "done-f16", "done-i8"]
STATES += ["diverging", "overflowing", "kept"]
CODEC, DECODER = 14, 15
FRAME, WORK = 1, 4
TOKEN = 5  # of the stored states
PER_STATE = 3
LARGEST = 1000


def operation(kind: int, data: bytes) -> bytes:
    return struct.pack("<BH", kind, len(data)) + data


def ask(message: Request) -> bytes:
    return operation(FRAME, bytes([message.type_id, 1]) + message.pack())


def written_by_hand() -> dict[str, bytes]:
    """Each message that only reads, and the inputs that have found faults of the firmware."""
    done = bytes([STATES.index("done-f32")])
    predict = Predict(Dtype.U8, 0.01, bytes(20))  # complete inputs of both models
    reads = ask(Hello()) + ask(Fetch(0, 9)) + ask(predict) + ask(Await(TOKEN, 0)) + operation(WORK, b"\1")
    return {
        "every-read": done + reads + ask(Pull(TOKEN, 0)) + ask(Load(TOKEN, 0, Dtype.I8, 0.0, bytes(40))),
        "answer-longer-than-the-window": done + ask(Pull(TOKEN, 0)),
    }


def generated(program: Path) -> dict[str, bytes]:
    """The longest of several random inputs of moderate size, for each stored state, the codec and the frame decoder."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "--seed", "1", "--executions", "200", "--write", folder], check=True, capture_output=True)
        inputs = sorted((file.read_bytes() for file in Path(folder).iterdir()), key=len, reverse=True)
    found: dict[str, bytes] = {}
    for data in inputs:
        start = data[0] % 16
        name = {CODEC: "codec", DECODER: "decoder"}.get(start) or STATES[start % len(STATES)]
        free = [f"{name}-{i}" for i in range(PER_STATE) if f"{name}-{i}" not in found]
        if free and len(data) <= LARGEST:
            found[free[0]] = data
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to build the harness")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    fuzzer.CORPUS.mkdir(exist_ok=True)
    for name, data in (generated(fuzzer.build("streamed", folder)) | written_by_hand()).items():
        (fuzzer.CORPUS / f"{name}.bin").write_bytes(data)
