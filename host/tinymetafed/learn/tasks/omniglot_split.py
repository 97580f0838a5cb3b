"""How Omniglot's characters, alphabets or drawers are split between the three groups of clients."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import OmniglotTask

from .. import prng
from ..client_groups import ClientGroup, validation_share
from . import DataError

Indices = NDArray[np.int64]

HELD_OUT_SHARE = 62 / 242  # share of the characters that is held out, and about that of the alphabets
ROTATIONS = 4  # quarter turns of a character; each is a class of its own, in meta-training only
_ALPHABETS, _DRAWERS = 1, 2  # further draws of the stream that splits; 0 splits the characters


@dataclass(frozen=True, slots=True)
class Part:
    """The drawings that clients of one group have: sorted characters, sorted drawers (0 to 19), quarter turns (1: none)."""

    characters: Indices
    drawers: Indices
    rotations: int = 1


@dataclass(frozen=True, slots=True)
class Split:
    """What clients of each group have; ``validation`` is None where too little is held out for two groups."""

    training: Part
    test: Part
    validation: Part | None

    def of(self, group: ClientGroup) -> Part:
        """The part of a group; that for the test where there is none for validation."""
        if group is ClientGroup.TRAINING:
            return self.training
        return self.validation if group is ClientGroup.VALIDATION and self.validation else self.test


def alphabet_of(character: str) -> str:
    """The alphabet of a character such as "Greek/character01"."""
    return character.partition("/")[0]


def split_characters(names: Sequence[str], spec: OmniglotTask, seed: int, where: str) -> Split:
    """Splits the characters by ``task.split``.

    Args:
        names: Names of all characters, sorted.
        spec: The experiment's [task].
        seed: ``run.seed``, which draws what is held out and not named.
        where: The archives, for messages.

    Returns:
        Parts that share no drawing: of other characters, of other alphabets, or by other people. With split = "drawer" training
        has all characters, and test and validation have different alphabets, each of which other people drew.

    Raises:
        DataError: A named alphabet is not in the archives, or a part has fewer characters than ``task.ways``.
    """
    everybody, everything = np.arange(spec.drawings), np.arange(len(names))
    if spec.split == "character":
        order = prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))
        n_held_out = round(len(names) * HELD_OUT_SHARE)
        n_test = n_held_out - validation_share(n_held_out, needed=spec.ways)
        sides = np.sort(order[n_held_out:]), np.sort(order[:n_test]), np.sort(order[n_test:n_held_out])
    else:
        alphabets = sorted({alphabet_of(name) for name in names})
        chosen = _validation_alphabets(alphabets, seed) if spec.split == "drawer" else _alphabets(alphabets, spec, seed, where)
        test, validation = (np.array([alphabet_of(name) in some for name in names], bool) for some in chosen)
        if spec.split == "drawer":
            test = ~validation
        sides = everything[~(test | validation)], everything[test], everything[validation]
    trained, tested, validating = sides
    drawers = everybody, everybody
    if spec.split == "drawer":
        unseen = np.sort(prng.permutation(seed, 0, _DRAWERS, Stream.DATA_SPLIT, spec.drawings)[: spec.unseen_drawers])
        trained, drawers = everything, (np.setdiff1d(everybody, unseen), unseen)
    if spec.ways > (fewest := min(len(side) for side in (trained, tested, validating) if len(side))):
        raise DataError(
            f"{where}: {len(names)} characters, {len(tested)} of them held out for meta-testing and {len(validating)} for "
            f"validation, are not enough for {spec.ways} ways: add archives or ask for {fewest} ways or fewer"
        )
    validation_part = Part(validating, drawers[1]) if len(validating) else None
    return Split(Part(trained, drawers[0], ROTATIONS), Part(tested, drawers[1]), validation_part)


def _alphabets(alphabets: Sequence[str], spec: OmniglotTask, seed: int, where: str) -> tuple[set[str], set[str]]:
    """The alphabets to test, and those for validation. Raises DataError."""
    order = [alphabets[i] for i in prng.permutation(seed, 0, _ALPHABETS, Stream.DATA_SPLIT, len(alphabets))]
    if spec.held_out_alphabets:
        held_out = _named(alphabets, "held_out_alphabets", spec.held_out_alphabets, where)
    else:
        held_out = set(order[: max(1, round(len(alphabets) * HELD_OUT_SHARE))])
    others = [alphabet for alphabet in order if alphabet not in held_out]
    if isinstance(spec.validation, int):
        validation = set(others[: spec.validation])
    elif spec.validation is not None:
        validation = _named(alphabets, "validation", spec.validation, where)
        if both := sorted(validation & held_out):
            raise DataError(f"{where}: {both[0]} is in task.held_out_alphabets and in task.validation; leave it out of one")
    else:
        last = [alphabet for alphabet in order if alphabet in held_out][len(held_out) - validation_share(len(held_out)) :]
        validation, held_out = set(last), held_out - set(last)
    if held_out | validation >= set(alphabets):
        raise DataError(
            f"{where}: all alphabets are held out ({', '.join(alphabets)}), none is left to train on; name fewer in "
            "task.held_out_alphabets or task.validation, or add archives"
        )
    return held_out, validation


def _validation_alphabets(alphabets: Sequence[str], seed: int) -> tuple[set[str], set[str]]:
    """No alphabets of their own to test, and a quarter of all for validation, where there are two or more."""
    order = prng.permutation(seed, 0, _ALPHABETS, Stream.DATA_SPLIT, len(alphabets))
    count = max(1, round(len(alphabets) * HELD_OUT_SHARE)) if len(alphabets) > 1 else 0
    return set(), {alphabets[i] for i in order[:count]}


def _named(alphabets: Sequence[str], key: str, asked: Sequence[str], where: str) -> set[str]:
    for name in asked:
        if name not in alphabets:
            near = difflib.get_close_matches(name, alphabets, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise DataError(
                f"{where}: task.{key} names '{name}', which is not an alphabet here; {hint}there are: {', '.join(alphabets)}"
            )
    return set(asked)
