"""Who was late in a run whose rounds have a deadline: by round and by board."""

from __future__ import annotations

from collections.abc import Sequence

from ..federation.quorum import LateBoard
from .journal import RoundEntry


def late_boards(rounds: Sequence[RoundEntry]) -> tuple[LateBoard, ...]:
    """The boards that were late in some rounds, the most often first."""
    late = [each for entry in rounds for each in entry.late or () if each.device]
    returned = [each for entry in rounds for each in entry.returned or ()]
    boards = [
        LateBoard(
            device=device,
            rounds=sum(each.device == device for each in late),
            away=sum(each.device == device and each.away for each in late),
            longest=max((each.seconds for each in returned if each.device == device), default=None),
        )
        for device in dict.fromkeys(each.device for each in late)
    ]
    return tuple(sorted(boards, key=lambda board: (-board.rounds, board.device)))


def closed_early(rounds: Sequence[RoundEntry]) -> int:
    """How many rounds ended without some of their clients."""
    return sum(bool(entry.late) for entry in rounds)


def said(entry: RoundEntry) -> str:
    """A round that ended without some clients, in one sentence."""
    late = entry.late or ()
    boards = ", ".join(dict.fromkeys(f"{each.device}{' (away)' if each.away else ''}" for each in late if each.device))
    done = len(entry.contributions) - len(late)
    who = f"; late: {boards}" if boards else ""
    return f"round {entry.round} ended with {done} of {len(entry.contributions)} clients{who}"
