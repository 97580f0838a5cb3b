"""How Omniglot's characters, alphabets or drawers are split between training clients and unseen ones."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import OmniglotTask

from .. import prng
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
    """What training clients have, and what unseen ones have."""

    training: Part
    test: Part


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
        Two parts that share no drawing: other characters, other alphabets, or the same characters by other people.

    Raises:
        DataError: A named alphabet is not in the archives, or a part has fewer characters than ``task.ways``.
    """
    everybody, everything = np.arange(spec.drawings), np.arange(len(names))
    if spec.split == "drawer":
        order = prng.permutation(seed, 0, _DRAWERS, Stream.DATA_SPLIT, spec.drawings)
        unseen = np.sort(order[: spec.unseen_drawers])
        parts = Split(Part(everything, np.setdiff1d(everybody, unseen), ROTATIONS), Part(everything, unseen))
    else:
        held_out = _held_out(names, spec, seed, where)
        parts = Split(Part(np.setdiff1d(everything, held_out), everybody, ROTATIONS), Part(held_out, everybody))
    if spec.ways > (fewest := min(len(parts.training.characters), len(parts.test.characters))):
        raise DataError(
            f"{where}: {len(names)} characters, {len(parts.test.characters)} of them held out for meta-testing, are not enough "
            f"for {spec.ways} ways: add archives or ask for {fewest} ways or fewer"
        )
    return parts


def _held_out(names: Sequence[str], spec: OmniglotTask, seed: int, where: str) -> Indices:
    """The characters that unseen clients have, sorted."""
    if spec.split == "character":
        order = prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))
        return np.sort(order[: round(len(names) * HELD_OUT_SHARE)])
    alphabets = sorted({alphabet_of(name) for name in names})
    chosen = _named(alphabets, spec.held_out_alphabets, where) if spec.held_out_alphabets else _drawn(alphabets, seed)
    if chosen >= set(alphabets):
        raise DataError(
            f"{where}: all alphabets are held out ({', '.join(alphabets)}), none is left to train on; name fewer in "
            "task.held_out_alphabets, or add archives"
        )
    return np.array([i for i, name in enumerate(names) if alphabet_of(name) in chosen], np.int64)


def _named(alphabets: Sequence[str], asked: Sequence[str], where: str) -> set[str]:
    for name in asked:
        if name not in alphabets:
            near = difflib.get_close_matches(name, alphabets, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise DataError(
                f"{where}: task.held_out_alphabets names '{name}', which is no alphabet here; {hint}there are: "
                f"{', '.join(alphabets)}"
            )
    return set(asked)


def _drawn(alphabets: Sequence[str], seed: int) -> set[str]:
    order = prng.permutation(seed, 0, _ALPHABETS, Stream.DATA_SPLIT, len(alphabets))
    return {alphabets[i] for i in order[: max(1, round(len(alphabets) * HELD_OUT_SHARE))]}
