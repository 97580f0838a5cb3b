"""Omniglot: every client tells a few handwritten characters apart; the host streams the images (Lake et al. 2015)."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tinymetafed_codegen.protocol import SampleSet, Stream
from tinymetafed_codegen.spec import CLIENTS

from .. import prng
from . import ANY_NUMBER, Bytes, DataError, Floats, Metric, Samples, accuracy, is_held_out

DRAWERS = 20
TEST_DRAWERS = 4  # kept back from adaptation, the same ones however many samples adapt
SIDE, ORIGINAL_SIDE = 28, 105
SCALE = 1 / 255
ROTATIONS = 4  # quarter turns that make extra classes, in meta-training only
HELD_OUT_SHARE = 62 / 242  # of the characters
SOURCE = "https://github.com/brendenlake/omniglot"
ARCHIVES = (  # a whole set by itself, or the two halves of the small one
    ("images_background.zip",),
    (
        "images_background_small1.zip",
        "images_background_small2.zip",
        "omniglot_background_small1.zip",
        "omniglot_background_small2.zip",
    ),
)
IMAGE_PATH = re.compile(r"images_background[^/]*/(?P<character>[^/]+/character\d+)/\d+_(?P<drawer>\d+)\.png")


Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Characters:
    """``names`` sorted ("Greek/character01"), ``levels`` uint8 [character, drawer, 28, 28] with ink = 255."""

    names: tuple[str, ...]
    levels: Bytes


def find_archives(path: Path) -> list[Path]:
    """The Omniglot archives at ``path``: itself where it is a file, those inside where it is a folder.

    Raises DataError with the address to get them where there are none.
    """
    if path.is_file():
        return [path]
    for names in ARCHIVES:
        found = [path / name for name in names if (path / name).is_file()]
        if found:
            return found
    raise DataError(
        f"{path}: no Omniglot archive here. Get python/images_background_small1.zip and "
        f"python/images_background_small2.zip from {SOURCE}, put both into this folder unopened, "
        "or give the folder they are in with --data"
    )


def read_characters(archives: Sequence[Path]) -> Characters:
    """Every distinct character in the archives; one that several archives hold (by alphabet and number) counts once.

    Raises DataError naming the archive that is missing, damaged or something else than Omniglot.
    """
    drawings: dict[str, dict[int, Bytes]] = {}
    for archive in archives:
        for character, drawn in _read_archive(archive).items():
            drawings.setdefault(character, drawn)
    names = tuple(sorted(drawings))
    ink = np.stack([drawings[name][drawer] for name in names for drawer in range(1, DRAWERS + 1)])
    return Characters(names, shrink(ink).reshape(len(names), DRAWERS, SIDE, SIDE))


def shrink(ink: Bytes) -> Bytes:
    """Area average of ink [count, 105, 105] of 0 or 1 as levels [count, 28, 28] of 0 to 255, exact integers rounded."""
    # 105/28 = 15/4: cut every pixel into 4x4 parts, then each new pixel covers 15x15 of them.
    parts = np.zeros((SIDE, ORIGINAL_SIDE), np.float32)
    np.add.at(parts, (np.arange(4 * ORIGINAL_SIDE) // 15, np.arange(4 * ORIGINAL_SIDE) // 4), 1)
    covered = (parts @ ink.astype(np.float32) @ parts.T).astype(np.int32)
    return ((covered * 34 + 15) // 30).astype(np.uint8)  # round(covered * 255 / 225); a tie cannot happen


class Omniglot:
    """N-way classification of characters, each client with its own ``ways`` classes (Santoro et al. 2016).

    Characters are split by ``seed``: about a quarter (62 of the small sets' 242) only for held-out clients, unrotated;
    the others for meta-training, where each of four rotations is a class. Within a round, support and query are by
    different people, and so are adaptation and test. Samples go round the classes: 0, 1, …, ways - 1, 0, 1, …
    Shots are samples per class; they are checked here, before anything is trained.
    """

    name = "omniglot"
    input_shape = (SIDE, SIDE, 1)
    target_size = 1
    metric: Metric = "accuracy"
    unseen_clients = ANY_NUMBER
    data_sha256 = ""
    per_class = True

    def __init__(
        self,
        path: Path | Sequence[Path],
        seed: int,
        ways: int = 5,
        support_shots: int = 5,
        query_shots: int = 5,
        adapt_shots: int = 8,
        clients: int = CLIENTS,
    ) -> None:
        """Reads the archives at ``path``: a folder, an archive or several. Raises DataError if they do not suffice."""
        if support_shots + query_shots > DRAWERS:
            raise DataError(
                f"task: {support_shots} support and {query_shots} query samples per class, but Omniglot has {DRAWERS} "
                "drawings of a character: ask for fewer"
            )
        if adapt_shots > DRAWERS - TEST_DRAWERS:
            raise DataError(
                f"task: {adapt_shots} samples per class to adapt with, but of Omniglot's {DRAWERS} drawings of a "
                f"character {TEST_DRAWERS} are for testing: ask for {DRAWERS - TEST_DRAWERS} or fewer"
            )
        paths = [path] if isinstance(path, Path) else list(path)
        archives = [archive for one in paths for archive in find_archives(one)]
        self._characters = read_characters(archives)
        self.seed = seed
        self.clients = clients
        self.output_size = ways
        self.adapt_limit = ways * (DRAWERS - TEST_DRAWERS)
        n = len(self._characters.names)
        n_test = round(n * HELD_OUT_SHARE)
        if not 2 <= ways <= n_test:
            raise DataError(
                f"{', '.join(map(str, archives))}: {n} characters, {n_test} of them held out for meta-testing, are not "
                f"enough for {ways} ways: add archives from {SOURCE} or ask for 2 to {n_test} ways"
            )
        order = prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, n)
        self.test_characters = np.sort(order[:n_test])
        self.train_characters = np.sort(order[n_test:])

    def on_device(self, sample_set: SampleSet) -> bool:
        """Never."""
        return False

    def classes(self, client: int) -> list[tuple[int, int]]:
        """The client's classes as (character, quarter turns), in the order of their targets."""
        held_out = is_held_out(client)
        characters = self.test_characters if held_out else self.train_characters
        rotations = 1 if held_out else ROTATIONS
        order = prng.permutation(self.seed, client, 0, Stream.CLIENT_TASK, len(characters) * rotations)
        return [(int(characters[c // rotations]), int(c % rotations)) for c in order[: self.output_size]]

    def samples(self, client: int, round: int, sample_set: SampleSet, count: int) -> Samples:
        """Support from the first drawers of the round's order, query from its last; ADAPT from an order of its own.

        Raises ValueError for more samples than a set has, and for TEST, which ``test_samples`` gives.
        """
        shots = -(-count // self.output_size)
        limit = DRAWERS - TEST_DRAWERS if sample_set is SampleSet.ADAPT else DRAWERS
        if shots > limit or sample_set is SampleSet.TEST:
            raise ValueError(f"{count} {sample_set.name} samples of {self.output_size} classes; at most {limit} of each")
        stream = Stream.ADAPT if sample_set is SampleSet.ADAPT else Stream.SUPPORT
        drawers = self._drawers(client, round, stream)
        drawers = drawers[:, ::-1] if sample_set is SampleSet.QUERY else drawers
        return self._interleaved(client, drawers[:, :shots], count)

    def test_samples(self, client: int, round: int) -> Samples:
        """The last four drawers of the adaptation's order, every class: the same for any number of ADAPT samples."""
        drawers = self._drawers(client, round, Stream.ADAPT)[:, -TEST_DRAWERS:]
        return self._interleaved(client, drawers, self.output_size * TEST_DRAWERS)

    def score(self, outputs: Floats, test: Samples) -> float:
        """The fraction that is told right."""
        return accuracy(outputs, test, self.output_size)

    def describe(self, client: int) -> str:
        """The characters and how far each is turned."""
        names = self._characters.names
        return ", ".join(names[c] + (f" turned {90 * turns}°" if turns else "") for c, turns in self.classes(client))

    def _drawers(self, client: int, round: int, stream: Stream) -> Indices:
        """A shuffle of the drawers for each class, int [ways, 20]."""
        order = prng.permutation(self.seed, client, round, stream, self.output_size * DRAWERS)
        return np.stack([order[order // DRAWERS == k] % DRAWERS for k in range(self.output_size)])

    def _interleaved(self, client: int, drawers: Indices, count: int) -> Samples:
        levels = self._characters.levels
        images = [np.rot90(levels[c, drawers[k]], turns, (1, 2)) for k, (c, turns) in enumerate(self.classes(client))]
        round_the_ways = np.stack(images, axis=1).reshape(-1, *self.input_shape)[:count]
        targets = np.arange(count, dtype=np.float32) % self.output_size
        return Samples.from_levels(round_the_ways, SCALE, targets[:, None])


def _read_archive(archive: Path) -> dict[str, dict[int, Bytes]]:
    """Ink (0 or 1) [105, 105] by character and drawer (1 to 20)."""
    drawings: dict[str, dict[int, Bytes]] = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.namelist():
                if match := IMAGE_PATH.fullmatch(entry):
                    drawn = drawings.setdefault(match["character"], {})
                    drawn[int(match["drawer"])] = _ink(archive, entry, opened.read(entry))
    except FileNotFoundError:
        raise DataError(f"{archive}: no such file; Omniglot's archives are at {SOURCE}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive}: damaged or not a zip archive ({error}); get it again from {SOURCE}") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error})") from error
    if not drawings:
        raise DataError(
            f"{archive}: another data set; Omniglot's has images_background*/ALPHABET/characterNN/NNNN_DD.png (see {SOURCE})"
        )
    for character, drawn in drawings.items():
        if sorted(drawn) != list(range(1, DRAWERS + 1)):
            raise DataError(f"{archive}: {character} has {len(drawn)} drawings, expected {DRAWERS}; get it again from {SOURCE}")
    return drawings


def _ink(archive: Path, entry: str, png: bytes) -> Bytes:
    try:
        with Image.open(io.BytesIO(png)) as image:
            paper = np.asarray(image.convert("L")) > 127
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataError(f"{archive}: {entry} is not a readable image ({error})") from error
    if paper.shape != (ORIGINAL_SIDE, ORIGINAL_SIDE):
        raise DataError(
            f"{archive}: {entry} is {paper.shape[1]}x{paper.shape[0]} pixels, "
            f"expected {ORIGINAL_SIDE}x{ORIGINAL_SIDE}; Omniglot's original archives are at {SOURCE}"
        )
    return (~paper).astype(np.uint8)  # Omniglot draws in black
