"""Chooses which clients of a folder are held out for the test, and which serve validation."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from tinymetafed_codegen.protocol import Stream
from tinymetafed_codegen.spec import FolderTask

from ... import prng
from .problems import Place, Problems


def choose_groups(
    path: Path, names: Sequence[str], known: Sequence[str], spec: FolderTask, seed: int, problems: Problems
) -> tuple[set[str], frozenset[str]]:
    """The clients that are not trained on.

    Args:
        path: The folder.
        names: Names of the clients that could be read.
        known: Names of all clients.
        spec: The experiment's [task]; with ``source`` no file is trained on, so all files may be held out.
        seed: ``run.seed``, which chooses where no names are given; for the test none that ``task.validation`` names.
        problems: Takes names that no client has, and groups that leave too few for the others.

    Returns:
        Names of all clients that are held out, and of those among them that ``task.validation`` asks for.
    """
    held_out = _held_out(path, names, known, spec, seed, problems)
    validation = _validation(path, names, known, held_out, spec, seed, problems)
    all_out = held_out | validation
    if spec.source is None and names and all_out >= set(names) and set(names) == set(known):
        problems.add(
            Place(path),
            f"all clients are held out ({', '.join(names)}), none is left to train on",
            f"add files, or name fewer in task.held_out{' and task.validation' if validation else ''}"
            + ("" if spec.client or len(names) > 1 else ", or name the column of the clients in task.client"),
        )
    return all_out, validation


def _held_out(
    path: Path, names: Sequence[str], known: Sequence[str], spec: FolderTask, seed: int, problems: Problems
) -> set[str]:
    if spec.held_out is not None:
        _require_known("held_out", spec.held_out, path, known, spec, problems)
        return set(spec.held_out)
    if spec.source is not None:
        return set(names)
    named = spec.validation if isinstance(spec.validation, tuple) else ()
    count = max(1, math.floor(len(names) / 4 + 0.5))
    drawn = [names[i] for i in prng.permutation(seed, 0, 0, Stream.DATA_SPLIT, len(names))] if names else []
    return set(islice((name for name in drawn if name not in named), count))


def _validation(
    path: Path,
    names: Sequence[str],
    known: Sequence[str],
    held_out: set[str],
    spec: FolderTask,
    seed: int,
    problems: Problems,
) -> frozenset[str]:
    """Names of the clients that ``task.validation`` asks for, of those that are not in the test."""
    if spec.validation is None:
        return frozenset()
    all_held_out = spec.source is not None and spec.held_out is None
    if isinstance(spec.validation, int):
        pool = [name for name in names if all_held_out or name not in held_out]
        chosen = frozenset(pool[i] for i in prng.permutation(seed, 0, 1, Stream.DATA_SPLIT, len(pool))[: spec.validation])
        if len(chosen) < spec.validation:
            problems.add(
                Place(path),
                f"task.validation = {spec.validation}, but {len(pool)} client(s) are not held out for the test",
                "ask for fewer, or name fewer in task.held_out",
            )
    else:
        _require_known("validation", spec.validation, path, known, spec, problems)
        chosen = frozenset(spec.validation)
        if spec.held_out is not None and (both := sorted(chosen & set(spec.held_out))):
            problems.add(
                Place(path),
                f"task.held_out and task.validation both name '{both[0]}'",
                "a client is either for the test or for validation: name it in one of them",
            )
    if all_held_out and chosen >= set(names) and names:
        problems.add(Place(path), "all clients are for validation, none is left for the test", "name fewer in task.validation")
    return chosen


def _require_known(
    key: str, asked: Sequence[str], path: Path, known: Sequence[str], spec: FolderTask, problems: Problems
) -> None:
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(known)}"
            what = "file" if spec.client is None else "client"
            problems.add(Place(path), f"task.{key} names '{name}', which is no {what} here", hint)
