"""The log-mel front end in the core's arithmetic: the spectrograms of NumPy, where sounds begin and end, and equal bits."""

from __future__ import annotations

import re
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from core_harness import REPOSITORY, SOUND, Core

from tinymetafed.learn.tasks.board_log_mel import BoardLogMel
from tinymetafed.learn.tasks.log_mel import log_mel
from tinymetafed_codegen.errors import Error
from tinymetafed_codegen.options.log_mel_cpp import log_mel_header
from tinymetafed_codegen.options.log_mel_facts import FULL_SCALE, LogMelFacts, facts
from tinymetafed_codegen.spec import SoundOptions

Samples = npt.NDArray[np.int16]
RATE = SOUND.rate
SECOND = RATE
UNIT_TEST = REPOSITORY / "tests" / "firmware" / "log_mel.cpp"
# The facts of tests/firmware/log_mel_facts.hpp.
SMALL = facts(
    SoundOptions(window_seconds=0.008, hop_seconds=0.004, longest_seconds=0.2, pause_seconds=0.05), 8000, 8, 4, "pytest"
)


def word(seed: int, seconds: float = 0.4, loudness: float = 0.3, rate: int = RATE) -> Samples:
    """Three tones that rise and fall, and noise, for a while: as uneven as a word."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    low, high, speed = random.uniform(100, 600, 3), random.uniform(0, rate / 4, 3), random.uniform(1, 8, 3)
    tones = sum(
        np.sin(2 * np.pi * (a + b * t) * t) * np.abs(np.sin(c * t + 0.3)) for a, b, c in zip(low, high, speed, strict=True)
    )
    return quantised(loudness * (tones + 0.01 * random.normal(size=t.size)) / 3)


def quantised(sound: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.rint(sound * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(2 * round(seconds * RATE / 2), np.int16)


def differences(made: npt.NDArray[np.uint8], wanted: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return np.abs(made.astype(np.int64) - wanted)


def test_spectrograms_are_those_of_numpy_to_one_level(core: Core) -> None:
    for seed in range(20):
        sound = word(seed, 0.1 + 0.02 * seed)
        (made,) = core.sounds(sound)
        assert differences(made, log_mel(sound / FULL_SCALE, RATE)).max() <= 1


@pytest.mark.parametrize(
    ("rate", "seconds", "bands", "frames", "change"),
    [
        (16000, 0.032, 40, 32, {}),
        (16000, 0.064, 300, 5, {}),
        (4000, 0.016, 8, 1, {"range_db": 200.0}),
        (8000, 0.002, 3, 50, {}),
    ],
)
def test_other_sizes_are_those_of_numpy_too(
    rate: int, seconds: float, bands: int, frames: int, change: dict[str, float]
) -> None:
    options = SoundOptions(window_seconds=seconds, floor_db=-90.0, **change)
    sound = word(1, 0.5, rate=rate)
    (made,) = BoardLogMel(facts(options, rate, bands, frames, "pytest")).spectrograms(sound / FULL_SCALE)
    assert differences(made, log_mel(sound / FULL_SCALE, rate, bands, frames, options)).max() <= 1


def test_the_host_computes_the_bits_of_the_core(core: Core) -> None:
    board = BoardLogMel(SOUND)
    for seed in range(5):
        sound = np.concatenate([word(seed), silence(0.3), word(seed + 50, 0.2)])
        np.testing.assert_array_equal(board.spectrograms(sound / FULL_SCALE), core.sounds(sound))


def test_a_pause_ends_a_sound_and_what_follows_is_another(core: Core) -> None:
    first, second = word(1), word(2, 0.3)
    apart = core.sounds(np.concatenate([first, silence(0.3), second, silence(0.1)]))
    together = core.sounds(np.concatenate([word(1, 0.2), silence(0.1), word(2, 0.2)]))
    assert (len(apart), len(together)) == (2, 1)
    np.testing.assert_array_equal(apart[0], core.sounds(first)[0])  # silence after it changes nothing
    # In a stream nothing is finished: the pause alone tells that the sound is over.
    stream = np.concatenate([silence(0.5), first, silence(0.3), np.zeros(1, np.int16)])
    np.testing.assert_array_equal(core.sounds(stream)[0], core.sounds(np.concatenate([silence(0.5), first]))[0])


def test_recordings_do_not_disturb_each_other(core: Core) -> None:
    alone = [core.sounds(each)[0] for each in (word(1), word(2, loudness=0.003), word(3))]
    np.testing.assert_array_equal(core.sounds(word(1), word(2, loudness=0.003), word(3)), alone)


def test_quiet_noise_before_and_after_a_word_is_no_sound(core: Core) -> None:
    hiss = quantised(0.001 * np.random.default_rng(1).normal(size=SECOND // 2))
    (alone,), found = core.sounds(word(1)), core.sounds(np.concatenate([hiss[: SECOND // 8], word(1), hiss]))
    assert len(found) == 1
    # The word's own quiet edges are longer or shorter by a frame, which stretches it a little.
    assert differences(found[0], alone).mean() < 12
    assert len(core.sounds(hiss)) == 1 and len(core.sounds(hiss // 64)) == 0


def test_a_sound_that_is_too_long_is_cut_and_nothing_of_it_is_lost(core: Core) -> None:
    hum = word(4, 1.5)
    found = core.sounds(hum)
    assert len(found) == 3  # of 0.6 s
    (first,) = core.sounds(hum[: SOUND.window // 2 + (SOUND.longest - 1) * SOUND.hop + 1])
    np.testing.assert_array_equal(found[0], first)


@pytest.mark.parametrize("sample", [-FULL_SCALE, FULL_SCALE - 1])
def test_the_loudest_samples_do_not_overflow(core: Core, sample: int) -> None:
    square = np.where(np.arange(4000) // 8 % 2, sample, -1 - sample).astype(np.int16)
    (made,) = core.sounds(square)
    assert made.max() == 255 and differences(made, log_mel(square / FULL_SCALE, RATE)).max() <= 1


def test_silence_and_recordings_without_samples_have_no_sound(core: Core) -> None:
    assert len(core.sounds(silence(1), silence(0), silence(0))) == 0


def test_levels_do_not_depend_on_the_number_of_sounds_that_the_host_has_room_for() -> None:
    clicks = np.tile(np.concatenate([word(1, 0.02), silence(0.3)]), 12)
    found = BoardLogMel(SOUND).spectrograms(clicks / FULL_SCALE)
    assert len(found) == 12 and all(differences(each, found[1]).max() <= 1 for each in found[2:])


@pytest.mark.parametrize(
    ("change", "rate", "message"),
    [
        ({"window_seconds": 1e-5}, 8000, "does not fit a rate of 8000 Hz"),
        ({"lowest_hz": 4000.0}, 8000, "does not fit a rate of 8000 Hz"),
        ({"longest_seconds": 60.0, "hop_seconds": 0.001}, 16000, r"longest_seconds = 60 are 60,000 frames, at most 3,288 are"),
    ],
)
def test_options_that_do_not_fit_are_named(change: dict[str, float], rate: int, message: str) -> None:
    with pytest.raises(Error, match=message):
        facts(SoundOptions(**change), rate, 32, 20, "e.toml")


# Boards


def test_the_facts_of_the_unit_test_on_boards_are_generated() -> None:
    assert UNIT_TEST.with_name("log_mel_facts.hpp").read_text() == log_mel_header(SMALL, "tests/core/test_log_mel_front_end.py")


def test_the_bits_recorded_for_boards_are_those_of_the_host() -> None:
    """`pio test` checks the same number on every board."""
    sound = zigzag(6000)
    spectrograms = BoardLogMel(SMALL).spectrograms(sound / FULL_SCALE)
    recorded = re.search(r"kRecorded = (0x[0-9A-F]{8});", UNIT_TEST.read_text())
    assert recorded and len(spectrograms) == 3
    assert zlib.crc32(spectrograms.tobytes()) == int(recorded[1], 16)


def zigzag(count: int) -> Samples:
    """The samples of tests/firmware/log_mel.cpp: a zigzag whose slope changes with time, twice interrupted."""
    made, at, slope = [], 0, 200
    for i in range(count):
        at += slope
        if at > 9000 or at < -9000:
            slope = -slope
            at += 2 * slope
        slope += 1 if slope > 0 else -1
        made.append(0 if i % 2000 > 1400 else at)
    return np.array(made, np.int16)


def test_tables_are_exact_where_they_can_be() -> None:
    made: LogMelFacts = SMALL
    quarter = made.transform // 4
    assert [made.sine[i * quarter] for i in range(3)] == [0, 1, 0] and made.hann[0] == 0
    assert all(0 <= share <= 1 for share in made.share) and made.band[0] == 0 and made.band[-1] == made.bands
