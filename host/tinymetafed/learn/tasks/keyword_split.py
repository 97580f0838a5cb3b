"""Splits the speakers and words of a corpus between the groups of clients."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import KeywordsTask

from .. import prng
from ..client_groups import ClientGroup, validation_share
from . import DataError
from .speech import Recordings

_TRAINING, _VALIDATION, _TEST = ClientGroup


@dataclass(frozen=True)
class Side:
    """Speakers and words of a group of clients, as indices into the names in ``Recordings``."""

    speakers: Sequence[int]
    words: Sequence[int]


@dataclass(frozen=True)
class _Parted:
    """Speakers, or words, by what they are for; the same for all groups if none are ``test``."""

    n: int
    test: Sequence[int] = ()
    validation: Sequence[int] = ()

    def of(self, kind: ClientGroup) -> Sequence[int]:
        if not self.test:
            return range(self.n)
        if kind is _TRAINING:
            return [i for i in range(self.n) if i not in self.test and i not in self.validation]
        return sorted(self.test if kind is _TEST else self.validation)

    def sharing(self, share: int) -> _Parted:
        """With the last ``share`` of those for the test used for validation."""
        return _Parted(self.n, self.test[:-share], self.test[-share:]) if self.test else self

    def taking(self, validation: Sequence[int]) -> _Parted:
        """With some of those for training used for validation."""
        return _Parted(self.n, self.test, validation)


def split_keywords(recordings: Recordings, spec: KeywordsTask, seed: int, where: str, chooses: bool) -> dict[ClientGroup, Side]:
    """The speakers and words of each group of clients.

    Args:
        recordings: The corpus.
        spec: The experiment's [task].
        seed: ``run.seed``, which chooses where no names are given.
        where: The data, in errors.
        chooses: Whether the run chooses its weights by validation clients.

    Returns:
        The groups, in the order TRAINING, TEST, VALIDATION; without the last where nobody is left for it.

    Raises:
        DataError: A name is unknown, or too few speakers or words are left for a group.
    """
    speakers, words = _Parted(len(recordings.speakers)), _Parted(len(recordings.words))
    if spec.split != "word":
        named = [_index(recordings.speakers, name, "held_out", "speaker", where) for name in spec.held_out or ()]
        speakers = _Parted(speakers.n, named or _third(seed, 0, speakers.n, 1))
    if spec.split != "speaker":
        words = _Parted(words.n, _third(seed, 1, words.n, spec.ways))
    has_validation = False
    if spec.validation is None:
        of_speakers, of_words = (
            validation_share(len(part.test), chooses, needed) for part, needed in ((speakers, 1), (words, spec.ways))
        )
        if has_validation := all(share for share, part in ((of_speakers, speakers), (of_words, words)) if part.test):
            speakers, words = speakers.sharing(of_speakers), words.sharing(of_words)
    elif has_validation := spec.validation != 0:
        if spec.split != "word":
            speakers = speakers.taking(_taken(recordings.speakers, speakers, spec.validation, seed, "speaker", where))
            of_words = validation_share(len(words.test), needed=spec.ways)
            if of_words:
                words = words.sharing(of_words)
            elif words.test:
                words = words.taking(_taken(recordings.words, words, spec.ways, seed, "word", where))
        else:
            words = words.taking(_taken(recordings.words, words, spec.validation, seed, "word", where))
    kinds = (_TRAINING, _TEST, _VALIDATION) if has_validation else (_TRAINING, _TEST)
    sides = {kind: Side(speakers.of(kind), words.of(kind)) for kind in kinds}
    if not sides[_TRAINING].speakers:
        keys = "task.held_out" if spec.validation is None else "task.held_out and task.validation"
        raise DataError(f"{where}: all speakers are held out, none is left to train on; name fewer in {keys}")
    fewest = min(kinds, key=lambda kind: len(sides[kind].words))
    if (left := len(sides[fewest].words)) < spec.ways:
        raise DataError(
            f"{where}: {words.n} words, of which task.split = '{spec.split}' leaves {left} for {fewest}, are not enough for "
            f"task.ways = {spec.ways}; lower task.ways{'' if fewest is not _VALIDATION else ' or raise task.validation'}"
        )
    return sides


def _index(names: Sequence[str], name: str, key: str, what: str, where: str) -> int:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {len(names)}, as {names[0]}"
        raise DataError(f"{where}: task.{key} names '{name}', which is no {what} here; {hint}")
    return names.index(name)


def _third(seed: int, draw: int, n: int, least: int) -> list[int]:
    return list(map(int, prng.permutation(seed, 0, draw, Stream.DATA_SPLIT, n)[: max(least, round(n / 3))]))


def _taken(names: Sequence[str], part: _Parted, asked: int | Sequence[str], seed: int, what: str, where: str) -> list[int]:
    """Those for training that ``task.validation`` asks for, by name or by number. Raises DataError if they are not there."""
    pool = [i for i in range(part.n) if i not in part.test]
    if isinstance(asked, int):
        if asked >= len(pool):
            raise DataError(
                f"{where}: {asked} {what}s for validation leave none of {len(pool)} to train on; lower task.validation"
            )
        return [pool[i] for i in prng.permutation(seed, 0, 2, Stream.DATA_SPLIT, len(pool))[:asked]]
    chosen = [_index(names, name, "validation", what, where) for name in asked]
    if both := [i for i in chosen if i in part.test]:
        raise DataError(
            f"{where}: task.validation names '{names[both[0]]}', a {what} of the test; name the {what}s of the test in "
            "task.held_out, and others in task.validation"
        )
    return chosen
