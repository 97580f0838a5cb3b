"""The tables and sizes of the log-mel front end, which boards and the host compile into the same C++."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..section import SpecError
from ..spec import SPECTROGRAM, Experiment, SoundOptions

FRAME_UNITS = 256  # of a binary logarithm, in which frames are stored
FULL_SCALE = 32768  # the sample that is 1 for the window
LEVELS = 255  # the level of a spectrogram's loudest point
FADE_DB_PER_SECOND = 10  # after a sound its loudest power is forgotten so fast
_SUMS = 2**32 - 1  # the largest number in which a spectrogram's levels are computed


@dataclass(frozen=True)
class LogMelFacts:
    """Sizes and tables of firmware/core/sound/log_mel.hpp.

    Attributes:
        rate: Sampling rate in Hz.
        window: Samples of a Hann window.
        hop: Samples from one window to the next.
        transform: Samples of a Fourier transform: a power of two, at least ``window``.
        bands: Mel bands.
        frames: Frames of a spectrogram.
        longest: Frames of the longest sound; a longer one is cut into several.
        pause: Quiet frames that end a sound.
        span: From level 0 to 255, in units of 1/256 of a binary logarithm.
        floor: Power below which there is no sound.
        silence: Share of a sound's loudest power below which it is quiet.
        fade: Factor of the loudest power for each frame after a sound.
        first_bin: The first bin of the spectrum that belongs to a band.
        hann: The window, divided by FULL_SCALE.
        sine: sin(2 pi i / transform) for three quarters of a circle.
        band: For each bin the band whose centre is below it, counted from 1; 0 for a bin below the first band's centre.
        share: For each bin the share of its power that belongs to the next band.
    """

    rate: int
    window: int
    hop: int
    transform: int
    bands: int
    frames: int
    longest: int
    pause: int
    span: int
    floor: float
    silence: float
    fade: float
    first_bin: int
    hann: tuple[float, ...]
    sine: tuple[float, ...]
    band: tuple[int, ...]
    share: tuple[float, ...]

    @property
    def ram(self) -> int:
        """Bytes of static RAM that a board needs, without some words of state."""
        return 2 * self.window + 4 * self.transform + self.longest * (2 * self.bands + 4)

    @property
    def flash(self) -> int:
        """Bytes of the tables."""
        return 4 * (len(self.hann) + len(self.sine) + len(self.share)) + len(self.band)


def facts(options: SoundOptions, rate: int, bands: int, frames: int, source: str) -> LogMelFacts:
    """Computes the tables.

    Args:
        options: Windows, lowest frequency, range, and what ends a sound.
        rate: Sampling rate in Hz.
        bands: Mel bands.
        frames: Frames of a spectrogram.
        source: The experiment's name in errors.

    Raises:
        SpecError: The options do not fit the rate, or sounds are too long.
    """
    window, hop = round(options.window_seconds * rate), round(options.hop_seconds * rate)
    if window < 2 or hop < 1 or options.lowest_hz >= rate / 2:
        raise SpecError(f"{source}: task.sound does not fit a rate of {rate} Hz; see docs/data.md")
    transform = max(8, 1 << (window - 1).bit_length())
    span = max(1, round(options.range_db / 10 * math.log2(10) * FRAME_UNITS))
    longest = max(1, int(options.longest_seconds * rate / hop))
    if longest > (limit := _SUMS // (LEVELS + 1) // span):
        raise SpecError(
            f"{source}: task.sound.longest_seconds = {options.longest_seconds:g} are {longest:,} frames, at most {limit:,} are "
            "possible; lower it, or raise task.sound.hop_seconds"
        )
    # Hann's window as numpy.hanning has it.
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * i / (window - 1)) for i in range(window)]
    first, band, share = _bands(rate, transform, bands, options.lowest_hz)
    # By Parseval's theorem this is the power of a sine of amplitude 1, up to what the bands lack.
    full_scale = transform * sum(value**2 for value in hann) / 4
    return LogMelFacts(
        rate=rate,
        window=window,
        hop=hop,
        transform=transform,
        bands=bands,
        frames=frames,
        longest=longest,
        pause=max(1, round(options.pause_seconds * rate / hop)),
        span=span,
        floor=full_scale * 10 ** (options.floor_db / 10),
        silence=options.silence,
        fade=10 ** (-FADE_DB_PER_SECOND / 10 * hop / rate),
        first_bin=first,
        hann=tuple(value / FULL_SCALE for value in hann),
        sine=tuple(_sine(i, transform) for i in range(3 * transform // 4)),
        band=band,
        share=share,
    )


def of_experiment(experiment: Experiment, source: str) -> LogMelFacts | None:
    """The front end that computes an experiment's features on boards; None where the host computes them or there are none.

    Raises:
        SpecError: The options or the model's input do not fit.
    """
    options, rate = experiment.task.board_sound
    if options is None or rate is None:
        return None
    bands, frames = size(experiment.model.input, source)
    return facts(options, rate, bands, frames, source)


def size(shape: Sequence[int], source: str) -> tuple[int, int]:
    """Bands and frames of a model's input: [bands, frames], [bands, frames, 1] or [640]. Raises SpecError for any other."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] == 1):
        return shape[0], shape[1]
    if tuple(shape) == (math.prod(SPECTROGRAM),):
        return SPECTROGRAM
    raise SpecError(
        f"{source}: model.input = {list(shape)}, but the data are sounds; make it [BANDS, FRAMES, 1], for instance "
        f"{[*SPECTROGRAM, 1]}, or [{math.prod(SPECTROGRAM)}]"
    )


def _sine(i: int, circle: int) -> float:
    """sin(2 pi i / circle), where i and circle are whole; exact at multiples of a quarter of the circle."""
    quarter, rest = divmod(i, circle // 4)
    angle = 2 * math.pi * rest / circle
    value = math.sin(angle) if quarter % 2 == 0 else math.cos(angle)
    return value if quarter < 2 else -value


def _bands(rate: int, transform: int, bands: int, lowest_hz: float) -> tuple[int, tuple[int, ...], tuple[float, ...]]:
    """The first bin above the lowest frequency; and for it and all later ones the lower of its two bands, and the share of the
    upper one. Triangles are evenly spaced on O'Shaughnessy's mel scale, each from the centre of the last to that of the next.
    """

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    low, high = mel(lowest_hz), mel(rate / 2)
    at = [(mel(k * rate / transform) - low) / (high - low) * (bands + 1) for k in range(transform // 2 + 1)]
    first = next(k for k, position in enumerate(at) if position >= 0)
    band = tuple(min(int(position), bands) for position in at[first:])
    return first, band, tuple(position - lower for position, lower in zip(at[first:], band, strict=True))
