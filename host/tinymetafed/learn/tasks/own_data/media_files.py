"""Reads folders of images and sounds, CLIENT/CLASS/FILE, into tables: one per client."""

from __future__ import annotations

import math
import wave
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tinymetafed_codegen.options import log_mel_facts
from tinymetafed_codegen.spec import SPECTROGRAM, FolderTask, SpecError

from .. import Bytes, DataError
from ..board_log_mel import BoardLogMel
from ..log_mel import Waveform, log_mel
from .file_table import Table, Texts
from .folder_content import MediaKind
from .problems import Place, Problems

SUFFIXES: dict[str, MediaKind] = {
    ".png": "images",
    ".jpg": "images",
    ".jpeg": "images",
    ".bmp": "images",
    ".wav": "sounds",
}
# Pillow looks at the content, not at the suffix: it would give PostScript to another program.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF")
MEDIA_SCALE = np.float32(1 / 255)  # the input value of level 1, so that level 255 is 1
_UNREADABLE = (OSError, EOFError, SyntaxError, ValueError, wave.Error, Image.DecompressionBombError)
_FOR_ROWS = ("label", "features", "client", "time", "window")  # keys of [task] that are for files of rows


@dataclass(frozen=True, slots=True)
class MediaFolder:
    """A folder of images or sounds: ``files`` are (class, file) by client, sorted by name."""

    kind: MediaKind
    files: dict[str, tuple[tuple[str, Path], ...]]


def find_media(path: Path) -> MediaFolder | None:
    """The images or sounds of a folder, CLIENT/CLASS/FILE; None if it has none. Those in other places are ignored.

    Raises:
        DataError: It has both; or all lie in other places, and there are no CSV or NPZ files.
    """
    if not path.is_dir():
        return None
    found: dict[str, tuple[tuple[str, Path], ...]] = {}
    kinds: dict[MediaKind, Path] = {}
    elsewhere: Path | None = None
    for file in sorted(path.rglob("*")):
        parts = file.relative_to(path).parts
        kind = SUFFIXES.get(file.suffix.lower())
        if kind is None or any(part.startswith(".") for part in parts) or not file.is_file():
            continue
        if len(parts) != 3:
            elsewhere = elsewhere or file
            continue
        kinds.setdefault(kind, file)
        found[parts[0]] = (*found.get(parts[0], ()), (parts[1], file))
    if len(kinds) > 1:
        raise DataError(f"{path}: images and sounds, such as {' and '.join(map(str, kinds.values()))}; keep one kind")
    if elsewhere is not None and not kinds and not any(path.rglob("*.[cnCN][spSP][vzVZ]")):
        raise DataError(
            f"{elsewhere}: expected CLIENT/CLASS/{elsewhere.name} in {path}; put it into folders of its client and its class"
        )
    return MediaFolder(next(iter(kinds)), found) if kinds else None


def read_media(
    media: MediaFolder, spec: FolderTask, shape: tuple[int, ...], problems: Problems, notes: list[str]
) -> list[tuple[str, Table]]:
    """Reads images or sounds.

    Args:
        media: The files.
        spec: The experiment's [task].
        shape: The model's input shape; () for that of the first image, or usual spectrograms.
        problems: Takes everything that is wrong.
        notes: Takes what was decided.

    Returns:
        A table per client, with values from 0 to 1.

    Raises:
        DataError: The model's input is no shape of such data, or keys are set that are for rows.
    """
    first = next(iter(media.files.values()))[0][1]
    if given := [key for key in _FOR_ROWS if getattr(spec, key) is not None]:
        raise DataError(f"{first.parent}: task.{given[0]} is for CSV and NPZ files, but there are {media.kind}; leave it out")
    size = _size(media, shape)
    read = _read_image if media.kind == "images" else _Sounds(spec, size).read
    tables = []
    for client, files in media.files.items():
        levels, labels, kept = list[Bytes](), list[str](), list[Path]()
        for label, file in files:
            found = _attempt(read, file, size, problems)
            levels += found
            labels += [label] * len(found)
            kept += [file] * len(found)
        if levels:
            values = np.stack(levels).reshape(-1, *(shape or size)).astype(np.float32) * MEDIA_SCALE
            tables.append((client, _table(values, labels, kept)))
    count = sum(map(len, media.files.values()))
    what = "x".join(map(str, size[:2])) + (" in colour" if size[2] == 3 else " in grey")
    if media.kind == "sounds":
        what = f"spectrograms of {size[0]} bands and {size[1]} frames"
    if tables:
        notes.append(f"{count:,} {media.kind} of {len(media.files)} clients, made {what}, values from 0 to 1")
    if tables and (made := sum(len(table.values) for _, table in tables)) > count:
        notes.append(f"{made:,} samples: some recordings have several sounds, with pauses of task.sound.pause_seconds")
    return tables


def _table(values: NDArray[np.float32], labels: Sequence[str], files: Sequence[Path]) -> Table:
    names = tuple(dict.fromkeys(labels))
    return Table(
        file=files[0].parents[1],
        names=(),
        values=values,
        targets=np.empty((len(values), 0), np.float32),
        labels=Texts(np.array([names.index(label) for label in labels], np.int64), names),
        clients=None,
        time=None,
        time_name="",
        is_clock=False,
        breaks=np.zeros(len(values), bool),
        label_place=lambda i: Place(files[i]),
    )


def _size(media: MediaFolder, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of images, or bands, frames and 1 for sounds. Raises DataError."""
    files = [file for own in media.files.values() for _, file in own]
    if media.kind == "sounds":
        try:
            return (*log_mel_facts.size(shape or SPECTROGRAM, str(files[0].parents[2])), 1)
        except SpecError as error:
            raise DataError(str(error)) from None
    if not shape:
        for file in files:
            with suppress(*_UNREADABLE), Image.open(file, formats=_FORMATS) as image:
                return image.height, image.width, 1 if image.mode in ("1", "L") else 3
        return 1, 1, 1  # none can be read; each will be a problem
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        return shape[0], shape[1], 1 if len(shape) == 2 else shape[2]
    for channels in (1, 3):
        side = math.isqrt(math.prod(shape) // channels)
        if len(shape) == 1 and side * side * channels == shape[0]:
            return side, side, channels
    raise DataError(
        f"{files[0].parents[2]}: model.input = {list(shape)}, but the data are images; make it [HEIGHT, WIDTH, 1] for grey, "
        "[HEIGHT, WIDTH, 3] for colour, or as many numbers as a square image has"
    )


def _attempt(
    read: Callable[[Path, tuple[int, int, int]], Sequence[Bytes]], file: Path, size: tuple[int, int, int], problems: Problems
) -> Sequence[Bytes]:
    """The samples that ``read`` makes of a file; none and a problem if it cannot be read."""
    try:
        return read(file, size)
    except UnidentifiedImageError:
        reason = "it is not an image"
    except _UNREADABLE as error:
        reason = str(error) or "it ends too early"
    problems.add(Place(file), f"cannot be read ({reason})", "save it again, or remove it", cause="cannot be read")
    return ()


def _read_image(file: Path, size: tuple[int, int, int]) -> Sequence[Bytes]:
    """An image in the size, uint8 [height, width, channels]; transparent parts are white."""
    height, width, channels = size
    with Image.open(file, formats=_FORMATS) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I;16"):
            turned = Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8))
        elif turned.mode in ("I", "F"):
            raise ValueError(f"its pixels are of mode {turned.mode}, expected 8 or 16 bits")
        if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
            clear = turned.convert("RGBA")
            turned = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
        plain = turned.convert("L" if channels == 1 else "RGB")
        pixels: Bytes = np.asarray(plain.resize((width, height), Image.Resampling.BILINEAR), np.uint8)
    return (pixels.reshape(height, width, channels),)


class _Sounds:
    """Reads WAV files, all of one sampling rate."""

    def __init__(self, spec: FolderTask, size: tuple[int, int, int]) -> None:
        self.options = spec.sound
        self.first: tuple[str, int] | None = None
        self.board: BoardLogMel | None = None
        options, rate = spec.board_sound
        if options is not None and rate is not None:
            self.first = "task.sound.rate", rate
            self.board = BoardLogMel(log_mel_facts.facts(options, rate, size[0], size[1], spec.path))

    def read(self, file: Path, size: tuple[int, int, int]) -> Sequence[Bytes]:
        """The spectrograms of a recording's sounds, each uint8 [bands, frames, 1]. Raises ValueError."""
        sound, rate = read_wav(file)
        self.first = self.first or (f"that of {file.name}", rate)
        if rate != self.first[1]:
            raise ValueError(f"its rate is {rate} Hz, {self.first[0]} {self.first[1]} Hz; make them equal")
        window = round(self.options.window_seconds * rate)
        if window < 2 or round(self.options.hop_seconds * rate) < 1 or self.options.lowest_hz >= rate / 2:
            raise ValueError(f"task.sound does not fit its rate of {rate} Hz")
        if not sound.any():
            raise ValueError("it is silent")
        if self.board is None:
            return (log_mel(sound, rate, size[0], size[1], self.options)[..., None],)
        found = self.board.spectrograms(sound)
        if not len(found):
            raise ValueError(f"no sound in it is above task.sound.floor_db = {self.options.floor_db:g}")
        return tuple(found[..., None])


def read_wav(file: Path) -> tuple[Waveform, int]:
    """The waveform of a WAV file of 8, 16, 24 or 32 bits, between -1 and 1, channels averaged; and its rate in Hz.

    Raises:
        ValueError: It has no samples.
        wave.Error: It is no WAV file of integers.
        EOFError: It ends too early.
    """
    with wave.open(str(file)) as opened:
        channels, size, rate = opened.getnchannels(), opened.getsampwidth(), opened.getframerate()
        data = opened.readframes(opened.getnframes())
    data = data[: len(data) // (channels * size) * channels * size]
    if not data:
        raise ValueError("it has no sound")
    if size == 1:
        samples = np.frombuffer(data, np.uint8).astype(np.float64) / 128 - 1
    else:
        # Each sample becomes the upper bytes of 32 bits.
        wide = np.zeros((len(data) // size, 4), np.uint8)
        wide[:, 4 - size :] = np.frombuffer(data, np.uint8).reshape(-1, size)
        samples = wide.view("<i4").ravel().astype(np.float64) / 2**31
    return samples.reshape(-1, channels).mean(axis=1), rate
