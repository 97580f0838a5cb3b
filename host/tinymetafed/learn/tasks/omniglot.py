"""The task ``omniglot``: every client classifies a few written characters; the host streams the images (Lake et al. 2015)."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import CLIENTS, OmniglotTask, RunSpec, TaskShapes

from . import Bytes, DataError
from .archives import Archive, downloaded, files, sha256_of
from .kept_arrays import Arrays, kept_arrays
from .omniglot_split import Part, alphabet_of, split_characters
from .ways import Ways, shuffle

DRAWERS = OmniglotTask.drawings
SIDE, ORIGINAL_SIDE = 28, 105
SOURCE = "https://github.com/brendenlake/omniglot"
_FILES = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
SMALL_SETS = (
    Archive(
        "images_background_small1.zip",
        _FILES + "images_background_small1.zip",
        "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
        ("omniglot_background_small1.zip",),
    ),
    Archive(
        "images_background_small2.zip",
        _FILES + "images_background_small2.zip",
        "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        ("omniglot_background_small2.zip",),
    ),
)
WHOLE_SET = Archive("images_background.zip", _FILES + "images_background.zip")  # its content is checked, not its SHA-256
_reading = threading.Lock()  # so that runs in several threads read the archives once
IMAGE_PATH = re.compile(r"images_background[^/]*/(?P<character>[^/]+/character\d+)/\d+_(?P<drawer>\d+)\.png")


@dataclass(frozen=True, slots=True)
class Characters:
    """Sorted ``names`` such as "Greek/character01", and ``levels`` uint8 [character, drawer, 28, 28], where ink is 255."""

    names: tuple[str, ...]
    levels: Bytes


def find_archives(data: Path | None) -> list[Path]:
    """The archives to read.

    Args:
        data: An archive, or a folder with archives; None to download the two small archives into the cache.

    Returns:
        Paths of the archives.

    Raises:
        DataError: The folder has no archive, or one that differs from the version that Omniglot's authors publish.
    """
    if data is None:
        return [downloaded(archive) for archive in SMALL_SETS]
    if data.is_file():
        return [data]
    if whole := WHOLE_SET.within(data):
        return [whole]
    found = {archive: path for archive in SMALL_SETS if (path := archive.within(data))}
    if not found:
        raise DataError(
            f"{data}: no Omniglot archive here. Get {' and '.join(archive.url for archive in SMALL_SETS)}, put both into this "
            "folder as they are (do not unpack them), or give the folder they are in with --data"
        )
    for archive, path in found.items():
        archive.require(path)
    return list(found.values())


def read_characters(archives: Sequence[Path]) -> Characters:
    """All characters in the archives; a character in several archives (same alphabet and number) counts once.

    Raises DataError if an archive is missing, damaged or not Omniglot; the message names it.
    """
    drawings: dict[str, dict[int, Bytes]] = {}
    for archive in archives:
        for character, drawn in _read_archive(archive).items():
            drawings.setdefault(character, drawn)
    names = tuple(sorted(drawings))
    # One character at a time: all drawings together would take hundreds of megabytes in float32.
    levels = [shrink(np.stack([drawings[name][drawer] for drawer in range(1, DRAWERS + 1)])) for name in names]
    return Characters(names, np.stack(levels))


def shrink(ink: Bytes) -> Bytes:
    """Shrinks images by an exact area average: ink 0 or 1, [count, 105, 105], to levels 0 to 255, uint8 [count, 28, 28]."""
    # 105/28 = 15/4: if every pixel is cut into 4x4 parts, each new pixel covers 15x15 parts.
    parts = np.zeros((SIDE, ORIGINAL_SIDE), np.float32)
    np.add.at(parts, (np.arange(4 * ORIGINAL_SIDE) // 15, np.arange(4 * ORIGINAL_SIDE) // 4), 1)
    covered = (parts @ ink.astype(np.float32) @ parts.T).astype(np.int32)
    return ((covered * 34 + 15) // 30).astype(np.uint8)  # round(covered * 255 / 225); a tie cannot happen


class Omniglot(Ways):
    """N-way classification of characters; every client has its own ``ways`` classes (Santoro et al. 2016).

    ``task.split`` says what held-out clients are unseen in; ``seed`` draws about a quarter of the characters (62 of 242 in the
    small archives) or of the alphabets, or half of the drawers, unless the experiment names the alphabets; some of these are
    for validation. Each of four rotations of a character is a class in meta-training; held-out clients have them unrotated.
    Within a round, different people drew a character's support and query samples; so they did its ADAPT and test samples.

    Attributes:
        split: The characters and drawers of each group of clients.
    """

    test_shots = OmniglotTask.test_shots
    unit = "alphabet"

    def __init__(self, spec: OmniglotTask, data: Path | None, seed: int, clients: int = CLIENTS) -> None:
        """Reads the archives at ``data``, see ``find_archives``. Raises DataError if they have too few characters."""
        archives = find_archives(data)
        content = tuple(map(sha256_of, archives))
        with _reading:
            self._characters = _characters_of(tuple(archives), content)
        self.data_sha256 = hashlib.sha256(" ".join(content).encode()).hexdigest()
        super().__init__(spec, spec.shapes, seed, clients, spec.smallest_pool)
        self.split = split_characters(self._characters.names, spec, seed, ", ".join(map(str, archives)))
        self.validation_clients = None if self.split.validation else 0

    @classmethod
    def open(cls, spec: OmniglotTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the archives, or downloads the small ones. Raises DataError if they have too few characters."""
        return cls(spec, data, run.seed, run.clients or CLIENTS)

    def classes(self, client: int) -> list[tuple[int, int]]:
        """The client's classes as (character, quarter turns), in the order of their targets."""
        part = self._part(client)
        order = shuffle(self.seed, client, 0, Stream.CLIENT_TASK, len(part.characters) * part.rotations)
        chosen = order[: self.output_size]
        return [(int(part.characters[c // part.rotations]), int(c % part.rotations)) for c in chosen]

    def pools(self, client: int) -> Sequence[Bytes]:
        """The drawings of each of the client's characters by the people of its part, rotated by its quarter turns."""
        drawers = self._part(client).drawers
        return [np.rot90(self._characters.levels[c][drawers], turns, (1, 2))[..., None] for c, turns in self.classes(client)]

    def _part(self, client: int) -> Part:
        return self.split.of(self.group_of(client))

    def pool_units(self, client: int) -> Sequence[Sequence[str]]:
        """The alphabet of each of the client's characters: its characters look alike, and the same people drew them."""
        drawings = len(self._part(client).drawers)
        return [[alphabet_of(self._characters.names[c])] * drawings for c, _ in self.classes(client)]

    def describe(self, client: int) -> str:
        """The client's characters and their rotations."""
        names = self._characters.names
        return ", ".join(names[c] + (f" turned {90 * turns}°" if turns else "") for c, turns in self.classes(client))


@lru_cache(maxsize=1)  # runs of several seeds share it
def _characters_of(archives: tuple[Path, ...], content: tuple[str, ...]) -> Characters:
    """The characters of archives with these SHA-256, read-only; thousands of pictures are read once for all runs."""

    def read() -> Arrays:
        characters = read_characters(archives)
        return {"names": np.array(characters.names), "levels": characters.levels}

    recipe = " ".join([f"{SIDE} pixels, 0 to 255", *content])
    arrays = kept_arrays("characters/omniglot", recipe, ("names", "levels"), read)
    levels: Bytes = arrays["levels"]
    levels.flags.writeable = False
    return Characters(tuple(arrays["names"].tolist()), levels)


def _read_archive(archive: Path) -> dict[str, dict[int, Bytes]]:
    """The drawings in an archive by character and drawer (1 to 20), ink 0 or 1, uint8 [105, 105]."""
    drawings: dict[str, dict[int, Bytes]] = {}
    for entry, content in files(archive, SOURCE):
        if match := IMAGE_PATH.fullmatch(entry):
            drawings.setdefault(match["character"], {})[int(match["drawer"])] = _ink(archive, entry, content)
    if not drawings:
        raise DataError(
            f"{archive}: another data set; Omniglot's has images_background*/ALPHABET/characterNN/NNNN_DD.png (see {SOURCE})"
        )
    for character, drawn in drawings.items():
        if sorted(drawn) != list(range(1, DRAWERS + 1)):
            raise DataError(f"{archive}: {character} has {len(drawn)} drawings, expected {DRAWERS}; get it again from {SOURCE}")
    return drawings


def _ink(archive: Path, entry: str, png: bytes) -> Bytes:
    from PIL import Image, UnidentifiedImageError  # imported here because most runs find the pictures in the cache

    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            paper = np.asarray(image.convert("L")) > 127
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{archive}: {entry} is not a readable image ({error})") from error
    if paper.shape != (ORIGINAL_SIDE, ORIGINAL_SIDE):
        raise DataError(
            f"{archive}: {entry} is {paper.shape[1]}x{paper.shape[0]} pixels, "
            f"expected {ORIGINAL_SIDE}x{ORIGINAL_SIDE}; Omniglot's original archives are at {SOURCE}"
        )
    return (~paper).astype(np.uint8)  # ink is black in Omniglot
