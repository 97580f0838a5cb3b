"""Spoken words: spectrograms, splits without leaks, a cache that is rebuilt if damaged, and checks of archives."""

from __future__ import annotations

import io
import tarfile
import wave
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import DATA

from tinymetafed.learn.tasks import HELD_OUT, DataError, Task, is_held_out
from tinymetafed.learn.tasks.keywords import Keywords
from tinymetafed.learn.tasks.log_mel import BANDS, FRAMES, log_mel, mel_filters
from tinymetafed.learn.tasks.speech import FSDD_SHA256, SPEECH_COMMANDS
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import KeywordsTask, SoundOptions

FSDD = "fsdd_recordings.zip"
needs_fsdd = pytest.mark.skipif(
    not (DATA / FSDD).is_file(), reason=f"no {FSDD} in {DATA} (TINYMETAFED_TEST_DATA names another folder)"
)


@pytest.fixture(autouse=True, scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Path]:
    """The folder of the feature cache for this module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "tinymetafed" / "features"


def task_of(data: Path, seed: int = 1, **keys: Any) -> Keywords:
    return Keywords(KeywordsTask(kind="keywords", **keys), data, seed)


@pytest.fixture(scope="module")
def digits(features: Path) -> Keywords:
    return task_of(DATA)


def tone(hertz: float, rate: int = 8000, seconds: float = 0.2, silence: float = 0.1) -> np.ndarray:
    sound = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    return np.pad(sound, int(rate * silence))


def wav(sound: np.ndarray, rate: int = 8000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32767 * sound).astype("<i2").tobytes())
    return out.getvalue()


def write_digits(path: Path, speakers: Iterable[str] = "abc", digits: int = 10, takes: int = 16) -> Path:
    """An archive in the layout of the spoken digits: one tone per word, another length for every recording."""
    with zipfile.ZipFile(path, "w") as archive:
        for s, speaker in enumerate(speakers):
            for digit in range(digits):
                for take in range(takes):
                    sound = tone(300 + 100 * digit + 10 * s, seconds=0.1 + 0.01 * take)
                    archive.writestr(f"dataset-1.0/recordings/{digit}_{speaker}_{take}.wav", wav(sound))
    return path


def write_commands(path: Path, words: Iterable[str], speakers: int = 9, takes: int = 2) -> Path:
    """An archive in the layout of Speech Commands: one folder per word, the speaker's hash in each file name."""
    with tarfile.open(path, "w:gz") as archive:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

        add("./testing_list.txt", b"bed/0000000a_nohash_0.wav\n")
        add("./_background_noise_/pink_noise.wav", wav(np.zeros(16000), 16000))
        for w, word in enumerate(words):
            for s in range(speakers):
                for take in range(takes):
                    sound = tone(200 + 50 * w + 3 * s, 16000, 0.3 + 0.01 * take)
                    add(f"./{word}/{s:08x}_nohash_{take}.wav", wav(sound, 16000))
    return path


# Spectrograms


def test_a_rising_tone_climbs_the_bands_from_first_frame_to_last() -> None:
    rate = 8000
    seconds = np.arange(rate) / rate
    sound = 0.3 * np.sin(2 * np.pi * (200 + 1500 * seconds) * seconds)  # at time t of 200 + 3000 t Hz
    spectrogram = log_mel(np.pad(sound, 3000), rate)
    assert spectrogram.shape == (BANDS, FRAMES) and spectrogram.dtype == np.uint8
    peaks = spectrogram.argmax(axis=0)
    centres = np.array([np.average(np.fft.rfftfreq(256, 1 / rate), weights=band) for band in mel_filters(rate, 256)])
    expected = [np.abs(centres - (200 + 3000 * (frame + 0.5) / FRAMES)).argmin() for frame in range(FRAMES)]
    assert np.abs(peaks - expected).max() <= 1
    assert spectrogram.max() == 255


def test_spectrograms_ignore_silence_around_a_word_and_its_loudness_and_accept_silence_alone() -> None:
    # The silence is a multiple of the hop, so that windows cover the same samples.
    word = tone(700, silence=0)
    alone, framed = log_mel(np.pad(word, 8 * 64), 8000), log_mel(np.pad(word, (40 * 64, 60 * 64)), 8000)
    np.testing.assert_array_equal(alone, framed)
    assert np.abs(log_mel(0.01 * np.pad(word, 8 * 64), 8000).astype(int) - alone).max() <= 1
    assert log_mel(np.zeros(4000), 8000).shape == log_mel(np.ones(1), 16000).shape == (BANDS, FRAMES)


@pytest.mark.parametrize("arithmetic", ["host", "board"])
def test_bands_and_frames_are_those_of_the_task_and_the_model_has_them_too(tmp_path: Path, arithmetic: str) -> None:
    archive = write_digits(tmp_path / "digits.zip")
    sound = SoundOptions(arithmetic=arithmetic, rate=8_000 if arithmetic == "board" else None)
    sizes = {}
    for bands, frames in ((10, 49), (32, 20)):  # one cache, two sizes
        task = task_of(archive, ways=3, adapt=2, bands=bands, frames=frames, sound=sound)
        sizes[bands] = task.samples(0, 0, SampleSet.SUPPORT, 3).inputs.shape
        assert task.shapes.input == (bands, frames, 1)
    assert sizes == {10: (3, 10, 49, 1), 32: (3, 32, 20, 1)}


# Splits


@needs_fsdd
def test_fsdd_is_known_and_held_out_clients_have_speakers_of_their_own(digits: Keywords) -> None:
    task: Task = digits
    assert task.data_sha256 == FSDD_SHA256 and task.spec.classes == 4 and task.adapt_limit == 4 * 40
    assert [len(side.speakers) for side in digits.sides] == [4, 2]
    trained = {task.describe(client) for client in range(300)}
    tested = {task.describe(HELD_OUT + client) for client in range(300)}
    speakers = [{text.partition(":")[0] for text in texts} for texts in (trained, tested)]
    assert not speakers[0] & speakers[1] and len(speakers[0] | speakers[1]) == 6
    assert len(trained) > 250  # few clients are alike
    assert task.describe(5) == task_of(DATA).describe(5) and task.describe(5) != task_of(DATA, seed=2).describe(5)


@needs_fsdd
@pytest.mark.parametrize("client", [0, HELD_OUT + 3])
def test_support_query_adaptation_and_test_share_nothing(digits: Keywords, client: int) -> None:
    def shown(samples: Any) -> list[bytes]:
        return [image.tobytes() for image in samples.levels]

    support, query = (shown(digits.samples(client, 2, which, 4 * 25)) for which in (SampleSet.SUPPORT, SampleSet.QUERY))
    adapt, test = shown(digits.samples(client, 2, SampleSet.ADAPT, 160)), shown(digits.test_samples(client, 2))
    assert len({*support, *query}) == len({*adapt, *test}) == 200
    np.testing.assert_array_equal(shown(digits.samples(client, 2, SampleSet.ADAPT, 4)), adapt[:4])
    with pytest.raises(ValueError, match="at most 40 of each"):
        digits.samples(client, 2, SampleSet.ADAPT, 161)


@pytest.mark.parametrize(("split", "shared"), [("speaker", (False, True)), ("word", (True, False)), ("both", (False, False))])
def test_held_out_clients_are_unseen_in_what_the_split_says(tmp_path: Path, split: str, shared: tuple[bool, bool]) -> None:
    archive = write_digits(tmp_path / "digits.zip")
    task = task_of(archive, split=split, ways=3, adapt=2)

    def drawn(offset: int) -> tuple[set[str], set[str]]:
        texts = [task.describe(offset + client).split(": ") for client in range(100)]
        return {who for who, _ in texts}, {word for _, words in texts for word in words.split(", ")}

    overlap = tuple(bool(train & test) for train, test in zip(drawn(0), drawn(HELD_OUT), strict=True))
    assert overlap == shared
    test = task.test_samples(HELD_OUT, 0)
    assert len(test) == 30 and is_held_out(HELD_OUT) and len(np.unique(test.levels, axis=0)) == 30


def test_speakers_may_be_named(tmp_path: Path) -> None:
    archive = write_digits(tmp_path / "digits.zip", ("ann", "bob", "cora"))
    task = task_of(archive, held_out=("bob",), adapt=2)
    assert {task.describe(HELD_OUT + client).partition(":")[0] for client in range(50)} == {"bob"}
    with pytest.raises(DataError, match="held_out names 'bop', which is no speaker here; did you mean 'bob'"):
        task_of(archive, held_out=("bop",), adapt=2)
    with pytest.raises(DataError, match="all speakers are held out"):
        task_of(archive, held_out=("ann", "bob", "cora"), adapt=2)


# Archives and cache


def test_speech_commands_clients_are_words_by_all_speakers_of_their_side(tmp_path: Path) -> None:
    write_commands(tmp_path / "speech_commands_v0.02.tar.gz", sorted(SPEECH_COMMANDS))
    task = task_of(
        tmp_path,
        corpus="speech_commands",
        support=3,
        query=3,
        adapt=1,
        held_out=("00000000", *("0000000" + c for c in "12345")),
    )
    assert task.describe(0).startswith("3 speakers: ") and task.describe(HELD_OUT).startswith("6 speakers: ")
    assert (len(task.sides[0].words), task.adapt_limit) == (35, 4 * 2)


def test_another_version_is_refused_unless_its_own_path_is_given(tmp_path: Path) -> None:
    old = write_commands(
        tmp_path / "speech_commands_v0.02.tar.gz", sorted(SPEECH_COMMANDS - {"visual", "learn"} | {"hm"}), 3, 1
    )
    keys: dict[str, Any] = {"corpus": "speech_commands", "support": 1, "query": 1, "adapt": 2, "ways": 2}
    with pytest.raises(
        DataError, match=r"gz: another version of the Speech Commands: it lacks learn, visual and it has also hm; download"
    ):
        task_of(tmp_path, **keys)
    with pytest.raises(DataError, match="need 12 of each word"):
        task_of(old, **keys)
    write_digits(tmp_path / FSDD, takes=16)
    with pytest.raises(DataError, match=f"480 recordings whose digest is .* has 3,000 of {FSDD_SHA256}"):
        task_of(tmp_path)
    assert len(task_of(tmp_path / FSDD, adapt=2).sides[0].speakers) == 2


def test_features_are_computed_once_and_again_where_the_cache_is_damaged(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_digits(tmp_path / "digits.zip", takes=12)
    before = set(features.glob("*"))
    first = task_of(archive, adapt=2, support=2, query=2).test_samples(HELD_OUT, 0).levels
    (kept,) = set(features.glob("*")) - before
    monkeypatch.setattr("tinymetafed.learn.tasks.speech.log_mel", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(task_of(archive, adapt=2).test_samples(HELD_OUT, 0).levels, first)
    monkeypatch.undo()
    whole = kept.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:500] + bytes(2000) + whole[2500:]):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(task_of(archive, adapt=2).test_samples(HELD_OUT, 0).levels, first)
        assert kept.read_bytes() == whole and set(features.glob("*")) == {*before, kept}


def test_bad_archives_are_named_with_their_fault(tmp_path: Path) -> None:
    path = tmp_path / "digits.zip"

    def refusal(*entries: tuple[str, bytes]) -> str:
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries:
                archive.writestr(name, content)
        with pytest.raises(DataError) as caught:
            task_of(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "another data set; the Free Spoken Digit Dataset has DIGIT_SPEAKER_INDEX.wav" in refusal(("a.txt", b""))
    assert "0_a_0.wav is not a readable WAV file" in refusal(("0_a_0.wav", b"RIFF"))
    assert "0_a_0.wav has 2 channel(s) of 16 bits, expected 16-bit mono" in refusal(("0_a_0.wav", wav(tone(300), channels=2)))
    assert "expected 16-bit mono with sound" in refusal(("0_a_0.wav", wav(np.zeros(0))))
    path.write_bytes(write_digits(tmp_path / "whole.zip").read_bytes()[:-5000])
    with pytest.raises(DataError, match="damaged or not a zip or tar archive"):
        task_of(path)
    gone = tmp_path / "gone.zip"
    with pytest.raises(DataError, match=r"gone\.zip: cannot be read"):
        task_of(gone)
    with pytest.raises(DataError, match=r"no free-spoken-digit-dataset-1\.0\.10\.zip here; get it from https.*--data"):
        task_of(tmp_path)


def test_corpora_with_too_few_recordings_or_words_are_refused(tmp_path: Path) -> None:
    archive = write_digits(tmp_path / "digits.zip", digits=6)
    with pytest.raises(DataError, match=r"16 recording\(s\) of '\d' by \w, but task.adapt = 8 and 10 to test need 18 of each"):
        task_of(archive)
    with pytest.raises(DataError, match=r"16 recording\(s\) .* but task.support \+ task.query = 17 need 17 of each"):
        task_of(archive, adapt=2, support=9, query=8)
    with pytest.raises(DataError, match=r"6 words, .* 'both' leaves 2 for .*, are not enough for task.ways = 4"):
        task_of(archive, adapt=2, split="both")
    with pytest.raises(DataError, match=r"6 words.* are not enough for task.ways = 7"):
        task_of(archive, adapt=2, ways=7)
