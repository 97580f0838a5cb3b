"""Folders of images and of sounds, CLIENT/CLASS/FILE: exact values, sizes from the model, and what cannot be read."""

from __future__ import annotations

import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import reading_of, task_of, write
from PIL import Image

from tinymetafed.learn.tasks import HELD_OUT, DataError
from tinymetafed.learn.tasks.folder import with_dtype
from tinymetafed.learn.tasks.log_mel import log_mel
from tinymetafed.learn.tasks.own_data.media_files import read_wav
from tinymetafed_codegen import spec
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import SoundOptions, TaskShapes

GREY = TaskShapes((6, 8, 1), 2, "softmax_cross_entropy")
SOUND = TaskShapes((32, 20, 1), 2, "softmax_cross_entropy")
MODEL: dict[str, Any] = {
    "input": [6, 8, 1],
    "loss": "softmax_cross_entropy",
    "layers": [{"op": "flatten"}, {"op": "dense", "units": 2}],
}
FEW = {"support": 2, "query": 2, "adapt": 2}


def images(folder: Path, suffix: str = ".png", mode: str = "L", size: tuple[int, int] = (8, 6)) -> dict[str, Image.Image]:
    """Four images of two classes for each of two clients, by path."""
    made = {}
    noise = np.random.default_rng(1)
    for client in ("anna", "bob"):
        for i in range(8):
            channels = {"L": (), "RGB": (3,), "RGBA": (4,), "I;16": ()}[mode]
            kind = np.uint16 if mode == "I;16" else np.uint8
            pixels = noise.integers(0, np.iinfo(kind).max, (*size[::-1], *channels), dtype=kind)
            file = folder / client / ("cat", "dog")[i % 2] / f"{i}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            made[f"{client}/{i}"] = Image.fromarray(pixels)
            made[f"{client}/{i}"].save(file)
    return made


def sounds(folder: Path, rate: int = 8000, size: int = 2, channels: int = 1) -> None:
    for client, tone in (("anna", 300), ("bob", 350)):
        for i in range(8):
            file = folder / client / ("high", "low")[i % 2] / f"{i}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            wave_of(
                file, 0.5 * np.sin(2 * np.pi * tone * (1 + i % 2 + i / 20) * np.arange(rate // 2) / rate), rate, size, channels
            )


def wave_of(file: Path, sound: np.ndarray, rate: int = 8000, size: int = 2, channels: int = 1) -> None:
    whole = np.repeat(np.rint(sound * (2 ** (8 * size - 1) - 1)).astype("<i4"), channels)
    data = (whole + 128).astype(np.uint8) if size == 1 else np.ascontiguousarray(whole.view(np.uint8).reshape(-1, 4)[:, :size])
    with wave.open(str(file), "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(size)
        opened.setframerate(rate)
        opened.writeframes(data.tobytes())


def test_images_of_the_models_size_keep_their_pixels(tmp_path: Path) -> None:
    made = images(tmp_path)
    task = task_of(tmp_path, GREY, **FEW)
    own = task.trained[0]
    expected = [np.asarray(made[f"bob/{i}"]) for i in (0, 2, 4, 6, 1, 3, 5, 7)]
    assert np.array_equal(own.inputs[..., 0], np.stack(expected).astype(np.float32) * np.float32(1 / 255))
    assert own.targets[:, 0].tolist() == [0] * 4 + [1] * 4
    assert task.notes == ("16 images of 2 clients, made 6x8 in grey, values from 0 to 1",)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg", ".jpeg"])
@pytest.mark.parametrize("shape", [(3, 4, 1), (5, 5, 3), (16,), (48,), (12, 20)])
def test_images_are_made_to_fit_the_model(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    images(tmp_path, suffix, "RGB")
    own = task_of(tmp_path, TaskShapes(shape, 2, "softmax_cross_entropy"), **FEW).trained[0]
    assert own.inputs.shape == (8, *shape) and 0 <= own.inputs.min() < own.inputs.max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "RGB"])
def test_other_modes_become_grey(tmp_path: Path, mode: str) -> None:
    made = images(tmp_path, mode=mode)
    own = task_of(tmp_path, GREY, **FEW).trained[0]
    pixels = np.asarray(made["bob/0"]).astype(np.float64)
    if mode == "I;16":
        grey = pixels // 256
    else:
        opacity = pixels[..., 3:] / 255 if mode == "RGBA" else np.ones((6, 8, 1))
        grey = (pixels[..., :3] * opacity + 255 * (1 - opacity)) @ [0.299, 0.587, 0.114]
    assert 255 * own.inputs[0, ..., 0] == pytest.approx(grey, abs=2)


def test_images_without_a_model_have_their_own_size(tmp_path: Path) -> None:
    images(tmp_path, mode="RGB")
    reading = reading_of(tmp_path, None)
    assert [client.inputs.shape for client in reading.clients] == [(8, 6, 8, 3)] * 2 and not reading.problems


def test_images_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "bob" / "cat" / "0.png").write_bytes(b"no image")
    whole = (tmp_path / "bob" / "dog" / "1.png").read_bytes()
    (tmp_path / "bob" / "dog" / "1.png").write_bytes(whole[:60])
    problems = reading_of(tmp_path, GREY, **FEW).problems
    assert [problem.place.file.name for problem in problems] == ["0.png", "1.png"]
    assert "0.png: cannot be read (it is not an image); save it again, or remove it" in str(problems[0])


def test_pictures_in_other_places_are_refused_unless_there_are_rows(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "plot.png")
    with pytest.raises(DataError, match=r"plot\.png: expected CLIENT/CLASS/plot\.png"):
        task_of(tmp_path, GREY)
    rows = "".join(f"{i},{-i},{'ab'[i % 2]}\n" for i in range(30))
    write(tmp_path, anna=rows, bob=rows)
    assert task_of(tmp_path, TaskShapes((2,), 2, "softmax_cross_entropy")).clients == 1


@pytest.mark.parametrize(
    ("shapes", "keys", "message"),
    [
        (
            TaskShapes((6, 8, 2), 2, "softmax_cross_entropy"),
            {},
            r"model\.input = \[6, 8, 2\], but the data are images; make it",
        ),
        (TaskShapes((7,), 2, "softmax_cross_entropy"), {}, r"or as many numbers as a square image has"),
        (TaskShapes((6, 8, 1), 2, "mse"), {}, r"images have classes, but the model's loss is mse"),
        (GREY, {"window": 6}, r"task\.window is for CSV and NPZ files, but there are images; leave it out"),
        (
            TaskShapes((6, 8, 1), 3, "softmax_cross_entropy"),
            {},
            r"2 classes \(cat, dog\), but the model's last layer has 3 units",
        ),
    ],
)
def test_a_model_that_does_not_fit_images_is_named(
    tmp_path: Path, shapes: TaskShapes, keys: dict[str, int], message: str
) -> None:
    images(tmp_path)
    with pytest.raises(DataError, match=message):
        task_of(tmp_path, shapes, **FEW, **keys)


def test_sounds_become_spectrograms_as_the_keywords_have(tmp_path: Path) -> None:
    sounds(tmp_path)
    own = task_of(tmp_path, SOUND, **FEW).trained[0]
    sound, rate = read_wav(tmp_path / "bob" / "high" / "0.wav")
    assert rate == 8000 and np.array_equal(own.inputs[0, ..., 0], log_mel(sound, rate).astype(np.float32) * np.float32(1 / 255))
    coarse = SoundOptions(window_seconds=0.064, lowest_hz=100.0, range_db=40.0)
    other = task_of(tmp_path, TaskShapes((16, 10), 2, "softmax_cross_entropy"), **FEW, sound=coarse).trained[0]
    assert np.array_equal(other.inputs[0], log_mel(sound, rate, 16, 10, coarse).astype(np.float32) * np.float32(1 / 255))


@pytest.mark.parametrize(("size", "channels"), [(1, 1), (2, 2), (3, 1), (4, 2)])
def test_wav_files_of_all_sizes_are_one_waveform(tmp_path: Path, size: int, channels: int) -> None:
    sound = np.sin(np.arange(100))
    wave_of(tmp_path / "a.wav", sound, 8000, size, channels)
    read, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000 and read == pytest.approx(sound, abs=2.0 ** (2 - 8 * size))


def test_sounds_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    sounds(tmp_path)
    wave_of(tmp_path / "bob" / "low" / "fast.wav", np.sin(np.arange(900)), 16000)
    wave_of(tmp_path / "bob" / "low" / "mute.wav", np.zeros(900))
    (tmp_path / "bob" / "low" / "text.wav").write_text("no sound")
    problems = [str(problem) for problem in reading_of(tmp_path, SOUND, **FEW).problems]
    assert len(problems) == 3
    for problem, part in zip(
        problems, ("rate is 16000 Hz, that of 0.wav 8000 Hz", "it is silent", "cannot be read"), strict=True
    ):
        assert part in problem


@pytest.mark.parametrize("kind", ["images", "sounds", "rows"])
def test_bytes_are_sent_as_they_are_and_train_alike(tmp_path: Path, kind: str) -> None:
    shapes = {"images": GREY, "sounds": SOUND, "rows": TaskShapes((2,), 2, "softmax_cross_entropy")}[kind]
    if kind == "images":
        images(tmp_path)
    elif kind == "sounds":
        sounds(tmp_path)
    else:
        for client in ("anna", "bob"):
            write(tmp_path, **{client: "\n".join(f"{i * 31},{255 - i},{i % 2}" for i in range(8))})
    as_floats, as_bytes = (task_of(tmp_path, shapes, dtype=dtype, **FEW) for dtype in ("float32", "uint8"))
    for given, sent in zip(
        (as_floats.samples(0, 1, SampleSet.SUPPORT, 2), as_floats.test_samples(HELD_OUT, 0)),
        (as_bytes.samples(0, 1, SampleSet.SUPPORT, 2), as_bytes.test_samples(HELD_OUT, 0)),
        strict=True,
    ):
        assert given.levels is None and sent.levels is not None and sent.levels.dtype == np.uint8
        assert np.array_equal(sent.inputs, sent.levels.astype(np.float32) * np.float32(sent.scale))
        assert np.array_equal(sent.inputs, given.inputs) and np.array_equal(sent.targets, given.targets)


def test_images_are_bytes_unless_the_experiment_says_otherwise(tmp_path: Path) -> None:
    images(tmp_path)
    for dtype, found in ((None, "uint8"), ("uint8", "uint8"), ("float32", "float32")):
        task: dict[str, Any] = {"kind": "folder", "path": str(tmp_path)} | ({} if dtype is None else {"dtype": dtype})
        asked = spec.parse({"task": task, "model": MODEL, "data": {"normalise": "none"}}, "test")
        resolved = with_dtype(asked, None)
        assert resolved.task.own_files is not None and resolved.task.own_files.dtype == found
        assert resolved.as_asked(asked) == asked
        sent = task_of(tmp_path, GREY, dtype=dtype, **FEW).samples(0, 1, SampleSet.SUPPORT, 2)
        assert (sent.levels is not None) == (found == "uint8")


@pytest.mark.parametrize("wrong", ["0.5", "-1", "256", "1e30"])
def test_numbers_that_are_no_bytes_are_named(tmp_path: Path, wrong: str) -> None:
    for client in ("anna", "bob"):
        write(tmp_path, **{client: "\n".join(f"{i},{i % 2}" for i in range(8)) + f"\n{wrong},0"})
    with pytest.raises(
        DataError, match=rf"anna\.csv: task\.dtype = 'uint8' is for whole .* is {re.escape(f'{float(wrong):g}')}; set"
    ):
        task_of(tmp_path, TaskShapes((1,), 2, "softmax_cross_entropy"), dtype="uint8", **FEW)
