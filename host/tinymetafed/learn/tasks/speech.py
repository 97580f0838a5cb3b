"""Corpora of spoken words: reads their archives; a cache stores their log-mel spectrograms."""

from __future__ import annotations

import hashlib
import io
import re
import wave
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.options.log_mel_facts import facts
from tinymetafed_codegen.spec import KeywordsTask

from . import Bytes, DataError
from .archives import Archive, downloaded, files, sha256_of
from .board_log_mel import BoardLogMel
from .kept_arrays import Arrays, kept_arrays
from .log_mel import Waveform, log_mel

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """A data set of recorded words.

    Attributes:
        title: Name of the data set.
        archive: Its archive.
        layout: Path of a recording in the archive, for error messages.
        path: Pattern of that path, with groups ``word`` and ``speaker``.
        personal: Whether every speaker has enough recordings of every word to be a client alone.
        fault: Describes how recordings differ from the supported version; "" if they do not differ.
    """

    title: str
    archive: Archive
    layout: str
    path: re.Pattern[str]
    personal: bool
    fault: Callable[[Recordings], str]


def _fsdd_fault(found: Recordings) -> str:
    known = "" if found.sha256 == FSDD_SHA256 else f"{len(found.levels)} recordings whose digest is {found.sha256}"
    return known and f"{known}; version 1.0.10 has 3,000 of {FSDD_SHA256}"


def _speech_commands_fault(found: Recordings) -> str:
    words = set(found.words)
    missing, unknown = (", ".join(sorted(some)) for some in (SPEECH_COMMANDS - words, words - SPEECH_COMMANDS))
    return " and ".join(f"it {verb} {some}" for verb, some in (("lacks", missing), ("has also", unknown)) if some)


# SHA-256 over the recordings, not over the archive: GitHub may repack the archive of a release.
FSDD_SHA256 = "faa529d78e35489b48f6b4f6502cea219732185b6c3b5af2a886b26df6f503fa"
SPEECH_COMMANDS = {
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy", "house"),
    *("learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree"),
    *("two", "up", "visual", "wow", "yes", "zero"),
}
CORPORA = {
    "fsdd": Corpus(
        "Free Spoken Digit Dataset",
        Archive(
            "free-spoken-digit-dataset-1.0.10.zip",
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
            aliases=("fsdd_recordings.zip", "v1.0.10.zip"),
        ),
        "DIGIT_SPEAKER_INDEX.wav",
        re.compile(r"(?:.*/)?(?P<word>\d)_(?P<speaker>[^_/]+)_\d+\.wav"),
        True,
        _fsdd_fault,
    ),
    "speech_commands": Corpus(
        "Speech Commands",
        Archive("speech_commands_v0.02.tar.gz", "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"),
        "WORD/SPEAKER_nohash_INDEX.wav",
        re.compile(r"(?:.*/)?(?P<word>[a-z]+)/(?P<speaker>[0-9a-f]+)_nohash_\d+\.wav"),
        False,
        _speech_commands_fault,
    ),
}


@dataclass(frozen=True)
class Recordings:
    """The spectrograms of a corpus; sound i is the word ``words[word[i]]`` by ``speakers[speaker[i]]``.

    Attributes:
        levels: Spectrograms, uint8 [n, bands, frames].
        word: Index of each sound's word, int64 [n].
        speaker: Index of each sound's speaker, int64 [n].
        words: Names of the words, sorted.
        speakers: Names of the speakers, sorted.
        sha256: SHA-256 over names and contents of the recordings, hexadecimal; independent of the archive's packing.
    """

    levels: Bytes
    word: Indices
    speaker: Indices
    words: tuple[str, ...]
    speakers: tuple[str, ...]
    sha256: str


class Features:
    """Makes the spectrograms of recordings as a task says."""

    def __init__(self, spec: KeywordsTask) -> None:
        """Raises SpecError if the options do not fit the corpus."""
        self.sound, self.bands, self.frames = spec.sound, spec.bands, spec.frames
        self.board: BoardLogMel | None = None
        options, rate = spec.board_sound
        if options is not None and rate is not None:
            self.board = BoardLogMel(facts(options, rate, self.bands, self.frames, "task.sound"))

    @property
    def recipe(self) -> str:
        """Names all that the features depend on besides the recordings. Raises BuildError."""
        if self.board is not None:
            return f"{self.board.library.parent.name} {self.board.library.name}"
        sound = self.sound
        # Increase the last number when the computation of the features changes.
        return (
            f"{self.bands}x{self.frames} {sound.lowest_hz} Hz {sound.window_seconds}/{sound.hop_seconds} s {sound.range_db} dB "
            f"{sound.silence} 1"
        )

    def of(self, sound: Waveform, rate: int, where: str) -> Bytes:
        """The spectrograms of a recording's sounds, uint8 [sounds, bands, frames]. Raises DataError for another rate."""
        if self.board is None:
            return log_mel(sound, rate, self.bands, self.frames, self.sound)[None]
        if rate != self.board.facts.rate:
            raise DataError(f"{where} has a rate of {rate} Hz, expected {self.board.facts.rate}")
        return self.board.spectrograms(sound)


def read_recordings(corpus: Corpus, data: Path | None, features: Features) -> Recordings:
    """Reads all recordings of a corpus.

    Args:
        corpus: The corpus.
        data: The archive, or a folder with it; None to download it into the cache.
        features: Makes their spectrograms.

    Returns:
        The recordings as spectrograms.

    Raises:
        DataError: The archive is missing, damaged, or of another data set. An unknown version is an error too, unless ``data``
            is the path of the archive itself.
    """
    path = data or downloaded(corpus.archive)
    if path.is_dir():
        path = corpus.archive.within(path) or _absent(corpus, path)
    recordings = _recordings(corpus, path, features)
    if path != data and (fault := corpus.fault(recordings)):
        raise DataError(
            f"{path}: another version of the {corpus.title}: {fault}; download {corpus.archive.url}, or pass "
            "the path of this file with --data to use it anyway"
        )
    return recordings


def _absent(corpus: Corpus, folder: Path) -> NoReturn:
    raise DataError(
        f"{folder}: no {corpus.archive.name} here; get it from {corpus.archive.url}, put it into this folder as it is (do not "
        "unpack it), or give its path with --data"
    )


def _recordings(corpus: Corpus, path: Path, features: Features) -> Recordings:
    """The recordings, computed once for all runs."""
    recipe = f"{features.recipe} {sha256_of(path)}"
    names = [field.name for field in fields(Recordings)]
    arrays = kept_arrays(f"features/{corpus.archive.name}", recipe, names, lambda: _as_arrays(_read(corpus, path, features)))
    words, speakers = (tuple(arrays[name].tolist()) for name in ("words", "speakers"))
    return Recordings(arrays["levels"], arrays["word"], arrays["speaker"], words, speakers, sha256=str(arrays["sha256"]))


def _as_arrays(made: Recordings) -> Arrays:
    return {name: np.asarray(value) for name, value in vars(made).items()}


def _read(corpus: Corpus, path: Path, features: Features) -> Recordings:
    found: dict[tuple[str, str, str], tuple[str, Bytes]] = {}
    for name, content in files(path, corpus.archive.url):
        if match := corpus.path.fullmatch(name):
            key = match["word"], match["speaker"], Path(name).name
            found[key] = hashlib.sha256(content).hexdigest(), features.of(*_sound(path, name, content), f"{path}: {name}")
    if not found:
        raise DataError(f"{path}: another data set; the {corpus.title} has {corpus.layout} (see {corpus.archive.url})")
    words, speakers = (tuple(sorted({key[i] for key in found})) for i in (0, 1))
    keys = sorted(found)
    counts = [len(found[key][1]) for key in keys]
    return Recordings(
        np.concatenate([found[key][1] for key in keys]),
        np.repeat([words.index(word) for word, _, _ in keys], counts),
        np.repeat([speakers.index(speaker) for _, speaker, _ in keys], counts),
        words,
        speakers,
        hashlib.sha256("".join(f"{'/'.join(key)} {found[key][0]}\n" for key in keys).encode()).hexdigest(),
    )


def _sound(path: Path, name: str, content: bytes) -> tuple[Waveform, int]:
    """The waveform of a WAV file, between -1 and 1, and its sampling rate in Hz."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            layout, rate, data = (
                (file.getnchannels(), file.getsampwidth()),
                file.getframerate(),
                file.readframes(file.getnframes()),
            )
    except (wave.Error, EOFError) as error:
        raise DataError(f"{path}: {name} is not a readable WAV file ({error})") from None
    if layout != (1, 2) or len(data) < 2:
        raise DataError(f"{path}: {name} has {layout[0]} channel(s) of {8 * layout[1]} bits, expected 16-bit mono with sound")
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768, rate
