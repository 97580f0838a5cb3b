"""The three groups of clients: those that train, those that choices are made by, and those that a report is about."""

from __future__ import annotations

from enum import StrEnum


class ClientGroup(StrEnum):
    """What a client is for. A client, and the person, speaker, word or character behind it, is in one group only."""

    TRAINING = "training"
    VALIDATION = "validation"  # scores on the way, the choice of weights and settings
    TEST = "test"  # the final report, and nothing else


def validation_share(there: int, chooses: bool = False, needed: int = 1) -> int:
    """How many of counted unseen clients (or speakers, words, characters) are for validation unless an experiment says so.

    Args:
        there: How many are not trained on.
        chooses: Whether the run chooses weights by them (``run.keep = "best"``), so that it needs some even of two.
        needed: How many each of the two groups needs at least, for instance as many characters as a client has classes.

    Returns:
        A third; 0 where that leaves too few for one of the groups.
    """
    share = max(there // 3, needed if chooses or needed > 1 else 0)
    return share if needed <= share <= there - needed else 0
