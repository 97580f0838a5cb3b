"""The task ``keywords``: every client classifies a few spoken words; the host streams their spectrograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import CLIENTS, KeywordsTask, RunSpec, TaskShapes

from .. import prng
from ..client_groups import ClientGroup
from . import Bytes, DataError
from .keyword_split import Side, split_keywords
from .speech import CORPORA, Features, Recordings, read_recordings
from .ways import Ways


class Keywords(Ways):
    """A client has ``ways`` random words of one speaker, or of many in Speech Commands, where speakers have few recordings.

    ``split`` says whether held-out clients have other speakers, other words, or both. ``seed`` selects a third of these, unless
    ``held_out`` names the speakers. Those for validation are taken from training if ``validation`` asks for some, otherwise a
    third of the held-out ones is, where enough are left for the test.

    Attributes:
        sides: The speakers and words for training, for the test, and for validation if there are any.
    """

    test_shots = 10

    def __init__(self, spec: KeywordsTask, data: Path | None, seed: int, clients: int = CLIENTS, chooses: bool = False) -> None:
        """Reads the corpus at ``data``, or downloads it. Raises DataError if it is missing or too small."""
        corpus = CORPORA[spec.corpus]
        recordings = read_recordings(corpus, data, Features(spec))
        where = f"{data or corpus.archive.name}: {corpus.title}"
        self.data_sha256 = recordings.sha256
        self._names = recordings.words
        self.names_to_hold_out = () if spec.split == "word" else recordings.speakers
        self._personal = corpus.personal
        self._sides = split_keywords(recordings, spec, seed, where, chooses)
        if (short := self._short(recordings, spec)) and spec.validation is None and ClientGroup.VALIDATION in self._sides:
            self._sides = split_keywords(recordings, spec.model_copy(update={"validation": 0}), seed, where, chooses)
            short = self._short(recordings, spec)
        if short:
            raise DataError(f"{where}: {short}; ask for fewer")
        self.sides = tuple(self._sides.values())
        self.validation_clients = None if ClientGroup.VALIDATION in self._sides else 0
        self.unit = self._unit(spec)
        held_out = [group for kind, groups in self._groups.items() if kind is not ClientGroup.TRAINING for group in groups]
        smallest = min(len(pool) for group in held_out for pool in group.pools.values())
        super().__init__(spec, spec.shapes, seed, clients, smallest)

    def _short(self, recordings: Recordings, spec: KeywordsTask) -> str:
        """Gathers the recordings of each group's clients; what they have too few of, "" if nothing."""
        self._groups = {kind: _groups(recordings, side, self._personal) for kind, side in self._sides.items()}
        trained = (spec.support + spec.query, f"task.support + task.query = {spec.support + spec.query} need")
        adapted = (spec.adapt + self.test_shots, f"task.adapt = {spec.adapt} and {self.test_shots} to test need")
        for kind, groups in self._groups.items():
            needed, why = trained if kind is ClientGroup.TRAINING else adapted
            for group in groups:
                word, pool = min(group.pools.items(), key=lambda item: len(item[1]))
                if len(pool) < needed:
                    there = f"{len(pool)} recording(s) of '{recordings.words[word]}' by {group.name}"
                    return f"{there}, but {why} {needed} of each word"
        return ""

    @classmethod
    def open(cls, spec: KeywordsTask, run: RunSpec, shapes: TaskShapes, data: Path | None) -> Self:
        """Reads the corpus, or downloads it. Raises DataError if it is missing or too small."""
        return cls(spec, data, run.seed, run.clients or CLIENTS, run.chooses)

    def pools(self, client: int) -> Sequence[Bytes]:
        """All recordings of each of the client's words by its speaker or speakers."""
        group, words = self._classes(client)
        return [group.pools[word] for word in words]

    def pool_units(self, client: int) -> Sequence[Sequence[str]]:
        """The speaker of each recording, its word, or all words, as ``unit`` says."""
        group, words = self._classes(client)
        if self.unit == "speaker":
            return [group.speakers[word] for word in words]
        every = ", ".join(sorted(self._names[word] for word in words))
        return [[self._names[word] if self.unit == "word" else every] * len(group.pools[word]) for word in words]

    def _unit(self, spec: KeywordsTask) -> str:
        """What unseen clients are unseen in: words where these are split, and fewer than the speakers where both are.

        If all unseen clients have the same words, in another order, their tasks are one task.
        """
        test = self._sides[ClientGroup.TEST]
        if spec.split == "speaker":
            return "speaker"
        if len(test.words) == spec.ways:
            return "word set"
        return "speaker" if spec.split == "both" and len(test.speakers) < len(test.words) else "word"

    def describe(self, client: int) -> str:
        """The client's speaker, or number of speakers, and its words."""
        group, words = self._classes(client)
        return f"{group.name}: {', '.join(self._names[word] for word in words)}"

    def classes_of(self, client: int) -> Sequence[str]:
        """The client's words."""
        return [self._names[word] for word in self._classes(client)[1]]

    def _classes(self, client: int) -> tuple[_Group, list[int]]:
        """The client's speakers, and its words in the order of their targets."""
        kind = self.group_of(client)
        groups, words = self._groups[kind], self._sides[kind].words
        order = prng.permutation(self.seed, client, 0, Stream.CLIENT_TASK, len(words))[: self.output_size]
        drawn, _ = prng.draw(self.seed, client, 0, Stream.CLIENT_TASK, np.arange(len(words), len(words) + 1))
        return groups[int(drawn[0]) % len(groups)], [words[i] for i in order]


@dataclass(frozen=True)
class _Group:
    """The speakers of one client, all their recordings of each word, uint8 [count, bands, frames, 1], and who spoke each."""

    name: str
    pools: Mapping[int, Bytes]
    speakers: Mapping[int, Sequence[str]]


def _groups(recordings: Recordings, side: Side, personal: bool) -> list[_Group]:
    def group(name: str, speakers: Sequence[int]) -> _Group:
        theirs = np.isin(recordings.speaker, speakers)
        of_word = {w: np.flatnonzero(theirs & (recordings.word == w)) for w in side.words}
        return _Group(
            name,
            {w: recordings.levels[found][..., None] for w, found in of_word.items()},
            {w: [recordings.speakers[i] for i in recordings.speaker[found]] for w, found in of_word.items()},
        )

    if personal:
        return [group(recordings.speakers[speaker], [speaker]) for speaker in side.speakers]
    return [group(f"{len(side.speakers)} speakers", side.speakers)]
