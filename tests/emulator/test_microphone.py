"""Keywords from raw sound: boards hear recordings, make their spectrograms, and learn with the bits of the host.

`pio test` compares the bits of spectrograms on every emulated board.
"""

from __future__ import annotations

import wave
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from clocks import HUNG_SECONDS
from small_runs import DATA, Quiet, needs_board

import tinymetafed as tmf
from tinymetafed.devices.running import running
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.learn.tasks import DataError, Floats
from tinymetafed.learn.tasks.board_log_mel import BoardLogMel
from tinymetafed.learn.tasks.own_data.media_files import read_wav
from tinymetafed.learn.tasks.own_data.replayed import sound_rows
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.messages import Example
from tinymetafed_codegen import spec
from tinymetafed_codegen.optional_messages.sensor_messages import SensorState
from tinymetafed_codegen.options import adaptation, log_mel_facts
from tinymetafed_codegen.protocol import Program, Recipe
from tinymetafed_codegen.spec import Experiment

EXPERIMENT = """
[task]
kind = "folder"
path = "digits"
support = 4
query = 4
adapt = 8

[task.sound]
arithmetic = "board"
rate = 8000

[board]
sensor = "microphone.cpp"

[data]
normalise = "none"

[model]
input = [32, 20, 1]
loss = "softmax_cross_entropy"
layers = [
  { op = "conv2d", filters = 4, kernel = 3, stride = 2, activation = "relu" },
  { op = "conv2d", filters = 8, kernel = 3, stride = 2, activation = "relu" },
  { op = "flatten" },
  { op = "dense", units = 4, local = true },
]

[strategy]
kind = "tinymetafed"
downlink = "f32"
"""
WORDS = {"0": "zero", "1": "one", "2": "two", "3": "three"}
TAKES = 3
ARCHIVE = DATA / "fsdd_recordings.zip"
URLS = [pytest.param("qemu:1", marks=needs_board("mps2")), pytest.param("native:1", marks=needs_board("native"))]


@dataclass(frozen=True)
class Heard:
    """The experiment, and a held-out speaker's recordings as the host knows them: levels uint8 [n, 32, 20, 1], labels."""

    experiment: Experiment
    folder: Path
    levels: np.ndarray
    labels: list[int]


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """Four spoken digits of one speaker, each recorded a few times."""
    if not ARCHIVE.is_file():
        pytest.skip(f"no {ARCHIVE.name} in {DATA} (TINYMETAFED_TEST_DATA names another folder)")
    folder = tmp_path_factory.mktemp("microphone")
    with zipfile.ZipFile(ARCHIVE) as archive:
        for name in archive.namelist():
            digit, speaker, take = (*Path(name).stem.split("_"), "", "")[:3]
            if digit in WORDS and speaker == "theo" and int(take) < TAKES:
                file = folder / "digits" / speaker / WORDS[digit] / f"{take}.wav"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))
    (folder / "digits.toml").write_text(EXPERIMENT)
    (folder / "microphone.cpp").write_text("class Sensor {};  // a process replays recordings instead\n")
    experiment = spec.load(folder / "digits.toml")
    facts = log_mel_facts.of_experiment(experiment, "test")
    assert facts is not None
    board, levels, labels = BoardLogMel(facts), [], []
    for label, word in enumerate(sorted(WORDS.values())):
        for file in sorted((folder / "digits" / "theo" / word).iterdir()):
            found = board.spectrograms(read_wav(file)[0])
            levels += list(found[..., None])
            labels += [label] * len(found)
    return Heard(experiment, folder, np.stack(levels), labels)


def weights_after(heard: Heard, url: str, *, from_host: bool) -> tuple[Floats, float]:
    """All weights after a board has learned all sounds once, and its error before learning them.

    It hears the recordings; or the host sends it the spectrograms, and there is no such error.
    """
    made = design_of(heard.experiment, "test")
    manifest, count = made.manifest, len(heard.labels)
    (*_, last) = adaptation.phases(heard.experiment, 1)
    begin = replace(last, passes=1)
    learned = replace(last, passes=1, count=count)
    start = open_strategy(heard.experiment, manifest).download(initial(manifest, 1, heard.experiment.model.init))
    targets = np.array(heard.labels, np.float32)[:, None]
    samples = [Example(wanted, level, 1 / 255) for wanted, level in zip(targets, heard.levels, strict=True)]
    replayed = "" if from_host else f"?replay={heard.folder / 'digits'}"
    with running(made, [url + replayed], Quiet()) as fleet:
        session = fleet.devices[0].session
        session.configure(Program.ADAPT, Recipe((begin, learned) if from_host else (begin,)))
        token = session.next_token()
        session.load(token, start)
        session.train(token, Program.ADAPT, 1, 0, 0)
        session.stream(token, samples[:1] + (samples if from_host else []))
        error = 1.0
        if not from_host:
            until = session.clock.monotonic() + HUNG_SECONDS
            while (report := session.sensor()) is None or report.state != SensorState.ENDED:
                assert session.clock.monotonic() < until, report
                session.clock.sleep(0.1)
            assert (report.samples, report.learned) == (count, count)
            inspection = session.inspect()
            assert inspection is not None and inspection.learned == count
            error = inspection.error
        return session.fetch(0, manifest.n_parameters), error


@pytest.fixture(scope="module")
def by_host(heard: Heard) -> Floats:
    """The weights where the host computes the spectrograms."""
    return weights_after(heard, "native:1", from_host=True)[0]


@pytest.mark.parametrize("url", URLS)
def test_a_board_that_hears_words_learns_what_the_host_computes(heard: Heard, by_host: Floats, url: str) -> None:
    found, _ = weights_after(heard, url, from_host=False)
    assert np.array_equal(found.view(np.uint32), by_host.view(np.uint32))


@needs_board("native")
def test_a_microphone_is_recorded_into_wav_files_of_its_samples(heard: Heard, tmp_path: Path) -> None:
    take = heard.folder / "digits" / "theo" / "two" / "0.wav"
    for label, place in ((None, "2/0001.wav"), ("yes", "yes/0001.wav")):
        found = tmf.record(
            f"native:1?replay={take}",
            tmp_path,
            client="ann",
            label=label,
            experiment=tmf.load(heard.folder / "digits.toml"),
            progress=False,
        )
        assert found.files == (tmp_path / "ann" / place,)
        with wave.open(str(found.files[0])) as made, wave.open(str(take)) as played:
            assert made.getparams()[:4] == played.getparams()[:4]
            assert made.readframes(found.rows) == played.readframes(found.rows)


def test_recordings_that_the_microphone_cannot_have_made_are_named(heard: Heard, tmp_path: Path) -> None:
    task = heard.experiment.task
    rows = sound_rows(heard.folder / "digits", task)
    assert [(each.client, each.labels[0], each.after_gap.sum()) for each in rows] == [("theo", 0, 4 * TAKES)]
    with wave.open(str(tmp_path / "fast.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    (tmp_path / "text.wav").write_text("no sound")
    for place, message in (
        ("fast.wav", "its rate is 16000 Hz, that of the board's microphone 8000 Hz"),
        ("text.wav", "cannot be read"),
        (".", "CLIENT/CLASS"),
    ):
        with pytest.raises(DataError, match=message):
            sound_rows(tmp_path / place, task)
