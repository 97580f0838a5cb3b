"""Tasks whose features boards compute: they have those of the front end, and name recordings that no board could hear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_keywords import tone, wav, write_digits

from tinymetafed.learn.tasks import HELD_OUT
from tinymetafed.learn.tasks.board_log_mel import BoardLogMel
from tinymetafed.learn.tasks.keywords import Keywords
from tinymetafed.learn.tasks.own_data.reading import read_folder
from tinymetafed_codegen import emit, spec
from tinymetafed_codegen.board import boards
from tinymetafed_codegen.design import design
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.options import log_mel_facts
from tinymetafed_codegen.spec import FolderTask, KeywordsTask, SoundOptions, SpecError

BOARD = SoundOptions(arithmetic="board", rate=8000)


def keywords(archive: Path, **sound: Any) -> Keywords:
    keys: dict[str, Any] = {"kind": "keywords", "adapt": 2, "held_out": ("b",), "ways": 2, "sound": SoundOptions(**sound)}
    return Keywords(KeywordsTask(**keys), archive, 1)


def folder(path: Path, **keys: Any) -> FolderTask:
    return FolderTask.model_validate({"kind": "folder", "path": str(path), "sound": BOARD, **keys})


def test_keywords_have_the_spectrograms_of_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = write_digits(tmp_path / "digits.zip", speakers="ab", digits=2, takes=12)
    by_board, by_host = keywords(archive, arithmetic="board"), keywords(archive)
    facts = log_mel_facts.facts(SoundOptions(), 8000, 32, 20, "test")
    expected = BoardLogMel(facts).spectrograms((32767 * tone(310, seconds=0.1)).astype(np.int16) / 32768)
    levels = by_board.test_samples(HELD_OUT, 0).levels, by_host.test_samples(HELD_OUT, 0).levels
    assert levels[0] is not None and levels[1] is not None
    pools = np.concatenate(by_board.pools(HELD_OUT))[..., 0]
    assert (pools == expected[0]).all(axis=(1, 2)).sum() == 1
    assert np.abs(levels[0].astype(int) - levels[1]).max() <= 1
    assert len(list((tmp_path / "cache" / "tinymetafed" / "features").iterdir())) == 2
    again = keywords(archive, arithmetic="board").test_samples(HELD_OUT, 0).levels
    np.testing.assert_array_equal(again, levels[0])


def test_a_file_with_several_sounds_has_a_sample_of_each(tmp_path: Path) -> None:
    pause, twice = np.zeros(4000), {"high": (900, 1100), "low": (300, 350)}
    for client in ("ann", "bob"):
        for label, (first, second) in twice.items():
            file = tmp_path / client / label / "0.wav"
            file.parent.mkdir(parents=True)
            file.write_bytes(wav(np.concatenate([tone(first), pause, tone(second)])))
    reading = read_folder(tmp_path, folder(tmp_path), None, 0, ())
    assert not reading.problems and reading.classes == {"high": 0, "low": 1}
    assert [len(each.recording) for each in reading.recordings] == [4, 4]
    assert any("8 samples: some recordings have several sounds" in note for note in reading.notes)


def test_files_that_a_board_would_not_hear_are_named(tmp_path: Path) -> None:
    for client, label, name, sound, rate in (
        ("ann", "low", "good", tone(300), 8000),
        ("ann", "low", "quiet", 0.0001 * tone(300), 8000),
        ("ann", "low", "fast", tone(300), 16000),
    ):
        file = tmp_path / client / label / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(wav(sound, rate))
    said = [str(problem) for problem in read_folder(tmp_path, folder(tmp_path), None, 0, ()).problems]
    assert len(said) == 2
    assert "fast.wav" in said[0] and "its rate is 16000 Hz, task.sound.rate 8000 Hz" in said[0]
    assert "quiet.wav" in said[1] and "no sound in it is above task.sound.floor_db = -70" in said[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["task.sound.rate=16000"], r"task\.sound\.rate = 16000, but fsdd has 8000"),
        (["task.sound.longest_seconds=60", "task.sound.hop_seconds=0.001"], "60 are 60,000 frames, at most"),
    ],
)
def test_options_that_do_not_fit_the_words_are_named(changes: list[str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        log_mel_facts.of_experiment(
            spec.load(find("examples/digits.toml"), ["task.sound.arithmetic=board", *changes]), "e.toml"
        )


def test_a_folder_needs_the_rate_of_the_microphone() -> None:
    with pytest.raises(SpecError, match=r"needs task\.sound\.rate, the sampling rate in Hz"):
        folder(Path("x"), sound=SoundOptions(arithmetic="board")).check("e.toml")


@pytest.mark.parametrize("board", ["mps2", "nano33ble"])
def test_keywords_run_on_a_board_with_a_microphone(board: str) -> None:
    sensor = find("examples/sensors/nano33ble_microphone.cpp")
    changes = ["task.sound.arithmetic=board", f"board.sensor={sensor}"]
    made = design(spec.load(find("examples/digits.toml"), changes), boards.load(board), "test")
    facts = made.manifest.sensor
    assert facts is not None and facts.sound and (facts.rate, facts.channels) == (8000, 1)
    texts = emit.headers(made, "pytest")
    assert "using FrontEnd = sound::FrontEnd<sound::LogMelFacts>;" in texts["sensor_facts.hpp"]
    assert "log_mel_facts.hpp" in texts and ("own_sensor.hpp" in texts) is (board == "nano33ble")
    plain = design(spec.load(find("examples/digits.toml"), changes[:1]), boards.load(board), "test")
    higher = design(spec.load(find("examples/digits.toml"), [*changes, "task.sound.floor_db=-50"]), boards.load(board), "test")
    assert len({each.manifest.model_hash for each in (made, plain, higher)}) == 3
    with pytest.raises(SpecError, match=r"a microphone needs task\.sound\.arithmetic = 'board'|needs task.kind = 'folder'"):
        design(spec.load(find("examples/digits.toml"), changes[1:]), boards.load(board), "test")
