"""Log-mel spectrograms of sounds, all of one shape however long the sound is."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tinymetafed_codegen.spec import SPECTROGRAM, SoundOptions

from . import Bytes

BANDS, FRAMES = SPECTROGRAM  # of a spectrogram where nothing says others
_USUAL = SoundOptions()

Waveform = NDArray[np.float64]


def log_mel(sound: Waveform, rate: int, bands: int = BANDS, frames: int = FRAMES, options: SoundOptions = _USUAL) -> Bytes:
    """The log-mel spectrogram of a word.

    Silence before and after the word is cut off, and the rest is stretched to ``frames`` frames.

    Args:
        sound: Waveform between -1 and 1, float64 [samples].
        rate: Sampling rate in Hz.
        bands: Mel bands.
        frames: Frames.
        options: Windows, lowest frequency and range.

    Returns:
        uint8 [bands, frames]: mel bands from the lowest frequency to half the sampling rate, then frames. 255 is the loudest
        point, 0 is ``range_db`` lower.
    """
    window, hop = round(options.window_seconds * rate), round(options.hop_seconds * rate)
    framed = sliding_window_view(np.pad(sound, (window // 2, window // 2 + hop)), window)[::hop]
    power = np.abs(np.fft.rfft(framed * np.hanning(window))) ** 2
    # einsum instead of BLAS: BLAS threads take longer than the sums, and its order of summation depends on the machine.
    mel = np.einsum("fk,bk->fb", power, mel_filters(rate, window, bands, options.lowest_hz)) + np.finfo(np.float32).tiny
    loudness = mel.sum(axis=1)
    heard = np.flatnonzero(loudness > options.silence * loudness.max())
    decibels = 10 * np.log10(mel[heard[0] : heard[-1] + 1])
    # Each new frame is the mean of the old frames that it covers, weighted by overlap.
    stretched = np.repeat(decibels, frames, axis=0).reshape(frames, len(decibels), bands).mean(axis=1).T
    levels: Bytes = np.rint(255 * np.clip((stretched - stretched.max()) / options.range_db + 1, 0, 1)).astype(np.uint8)
    return levels


@cache
def mel_filters(rate: int, window: int, bands: int = BANDS, lowest_hz: float = _USUAL.lowest_hz) -> NDArray[np.float64]:
    """Triangular filters over a window's spectrum, [bands, window // 2 + 1], evenly spaced on O'Shaughnessy's mel scale."""

    def mel(hertz: Any) -> Waveform:
        return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))

    edges = np.linspace(mel(lowest_hz), mel(rate / 2), bands + 2)[:, None]
    at = mel(np.fft.rfftfreq(window, 1 / rate))
    rising, falling = (at - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))
