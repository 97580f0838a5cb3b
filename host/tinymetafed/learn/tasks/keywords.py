"""The task ``keywords``: every client classifies a few spoken words; the host streams their spectrograms."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import CLIENTS, KeywordsTask, RunSpec, TaskShapes

from .. import prng
from . import Bytes, DataError, is_held_out
from .speech import CORPORA, Features, Recordings, read_recordings
from .ways import Ways


class Keywords(Ways):
    """A client has ``ways`` random words of one speaker, or of many in Speech Commands, where speakers have few recordings.

    ``split`` says whether held-out clients have other speakers, other words, or both. ``seed`` selects a third of these, unless
    ``held_out`` names the speakers.

    Attributes:
        sides: Speakers and words for meta-training, and those for held-out clients.
    """

    test_shots = 10

    def __init__(self, spec: KeywordsTask, data: Path | None, seed: int, clients: int = CLIENTS) -> None:
        """Reads the corpus at ``data``, or downloads it. Raises DataError if it is missing or too small."""
        corpus = CORPORA[spec.corpus]
        recordings = read_recordings(corpus, data, Features(spec))
        where = f"{data or corpus.archive.name}: {corpus.title}"
        self.data_sha256 = recordings.sha256
        self.sides = _split(recordings, spec, seed, where)
        self._names = recordings.words
        self.names_to_hold_out = () if spec.split == "word" else recordings.speakers
        self._groups = tuple(_groups(recordings, side, corpus.personal) for side in self.sides)
        asked = (
            (spec.support + spec.query, f"task.support + task.query = {spec.support + spec.query} need"),
            (spec.adapt + self.test_shots, f"task.adapt = {spec.adapt} and {self.test_shots} to test need"),
        )
        for groups, (needed, why) in zip(self._groups, asked, strict=True):
            for group in groups:
                word, pool = min(group.pools.items(), key=lambda item: len(item[1]))
                if len(pool) < needed:
                    raise DataError(
                        f"{where}: {len(pool)} recording(s) of '{recordings.words[word]}' by {group.name}, but {why} {needed} "
                        "of each word; ask for fewer"
                    )
        smallest = min(len(pool) for group in self._groups[1] for pool in group.pools.values())
        super().__init__(spec, spec.shapes, seed, clients, smallest)

    @classmethod
    def open(cls, spec: KeywordsTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the corpus, or downloads it. Raises DataError if it is missing or too small."""
        return cls(spec, data, run.seed, run.clients or CLIENTS)

    def pools(self, client: int) -> Sequence[Bytes]:
        """All recordings of each of the client's words by its speaker or speakers."""
        group, words = self._classes(client)
        return [group.pools[word] for word in words]

    def describe(self, client: int) -> str:
        """The client's speaker, or number of speakers, and its words."""
        group, words = self._classes(client)
        return f"{group.name}: {', '.join(self._names[word] for word in words)}"

    def classes_of(self, client: int) -> Sequence[str]:
        """The client's words."""
        return [self._names[word] for word in self._classes(client)[1]]

    def _classes(self, client: int) -> tuple[_Group, list[int]]:
        """The client's speakers, and its words in the order of their targets."""
        groups, words = self._groups[is_held_out(client)], self.sides[is_held_out(client)].words
        order = prng.permutation(self.seed, client, 0, Stream.CLIENT_TASK, len(words))[: self.output_size]
        drawn, _ = prng.draw(self.seed, client, 0, Stream.CLIENT_TASK, np.arange(len(words), len(words) + 1))
        return groups[int(drawn[0]) % len(groups)], [words[i] for i in order]


@dataclass(frozen=True)
class Side:
    """Speakers and words for meta-training or for the meta-test, as indices into the names in ``Recordings``."""

    speakers: Sequence[int]
    words: Sequence[int]


@dataclass(frozen=True)
class _Group:
    """The speakers of one client, and all their recordings of each word, uint8 [count, 32, 20, 1]."""

    name: str
    pools: Mapping[int, Bytes]


def _groups(recordings: Recordings, side: Side, personal: bool) -> list[_Group]:
    def group(name: str, speakers: Sequence[int]) -> _Group:
        theirs = np.isin(recordings.speaker, speakers)
        return _Group(name, {w: recordings.levels[theirs & (recordings.word == w), :, :, None] for w in side.words})

    if personal:
        return [group(recordings.speakers[speaker], [speaker]) for speaker in side.speakers]
    return [group(f"{len(side.speakers)} speakers", side.speakers)]


def _split(recordings: Recordings, spec: KeywordsTask, seed: int, where: str) -> tuple[Side, Side]:
    """Splits speakers and words between meta-training and held-out clients. Raises DataError if too few are left."""
    n_speakers, n_words = len(recordings.speakers), len(recordings.words)
    unseen_speakers = unseen_words = None
    if spec.split != "word":
        unseen_speakers = _named(recordings, spec.held_out or (), where) or _third(seed, 0, n_speakers, 1)
    if spec.split != "speaker":
        unseen_words = _third(seed, 1, n_words, spec.ways)
    speakers, words = _apart(n_speakers, unseen_speakers), _apart(n_words, unseen_words)
    if not speakers[0]:
        raise DataError(f"{where}: all speakers are held out, none is left to train on; name fewer in task.held_out")
    if (fewest := min(map(len, words))) < spec.ways:
        raise DataError(
            f"{where}: {n_words} words, of which task.split = '{spec.split}' leaves {fewest} for training or for the test, are "
            f"not enough for task.ways = {spec.ways}; lower task.ways"
        )
    return Side(speakers[0], words[0]), Side(speakers[1], words[1])


def _named(recordings: Recordings, names: Sequence[str], where: str) -> set[int]:
    for name in names:
        if name not in recordings.speakers:
            near = difflib.get_close_matches(name, recordings.speakers, n=1)
            hint = (
                f"did you mean '{near[0]}'?" if near else f"there are {len(recordings.speakers)}, as {recordings.speakers[0]}"
            )
            raise DataError(f"{where}: task.held_out names '{name}', which is no speaker here; {hint}")
    return {recordings.speakers.index(name) for name in names}


def _apart(n: int, unseen: set[int] | None) -> tuple[Sequence[int], Sequence[int]]:
    """Indices for training and for the test; all indices for both if ``unseen`` is None."""
    if unseen is None:
        return range(n), range(n)
    return [i for i in range(n) if i not in unseen], sorted(unseen)


def _third(seed: int, draw: int, n: int, least: int) -> set[int]:
    return set(prng.permutation(seed, 0, draw, Stream.DATA_SPLIT, n)[: max(least, round(n / 3))].tolist())
