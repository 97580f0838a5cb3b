"""Places blocks of memory that are in use for a time, so that blocks in use at the same time share nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

# Limits of the search, as counts and not as times, so that every machine finds the same placement: blocks placed in one
# attempt, and blocks times steps looked at in all attempts, which take about 0.1 s.
MOST_PLACED = 500
MOST_LOOKED_AT = 20_000_000
# The search tries to take no more memory than is in use at once, then so many thousandths more.
ALLOWANCES = (0, 5, 10, 20, 30, 50, 80, 120)


@dataclass(frozen=True)
class Block:
    """Memory of ``size`` units that is in use from step ``first`` to step ``last``."""

    size: int
    first: int
    last: int

    @property
    def area(self) -> int:
        """Units times steps."""
        return self.size * (self.last - self.first + 1)

    def meets(self, other: Block) -> bool:
        """Whether both are in use at the same step."""
        return self.first <= other.last and other.first <= self.last


# Orders in which the blocks are placed; equal ones stay in the order given.
_ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda block: (-block.area,),
    lambda block: (block.first - block.last, -block.size),
    lambda block: (-block.last, -block.size),
    lambda block: (-block.size,),
)


def live_maximum(blocks: Sequence[Block]) -> int:
    """The most units in use at one step; no placement takes less memory."""
    begins = ((block.first, block.size) for block in blocks)
    ends = ((block.last + 1, -block.size) for block in blocks)  # sorted before those that begin at the same step
    return max(accumulate((change for _, change in sorted([*begins, *ends])), initial=0))


def place(blocks: Sequence[Block]) -> list[int]:
    """Places blocks in little memory; the result follows from the blocks alone.

    First-fit in the order given is kept wherever it takes no more than is in use at once. Otherwise other orders are tried,
    and then a search with backtracking tries to come closer to that bound.

    Args:
        blocks: The blocks, the largest first.

    Returns:
        The offset of each block.
    """
    least, found = live_maximum(blocks), first_fit(blocks, range(len(blocks)))
    if height(blocks, found) == least:
        return found
    orders = [sorted(range(len(blocks)), key=lambda each: order(blocks[each])) for order in _ORDERS]
    found = min([found, *(first_fit(blocks, order) for order in orders)], key=lambda offsets: height(blocks, offsets))
    search = _Search(blocks)
    for allowance in ALLOWANCES:
        limit = least + least * allowance // 1000
        if limit >= height(blocks, found):
            break
        for order in orders:
            better = search.within(limit, order)
            if better is not None:
                return better
    return found


def height(blocks: Sequence[Block], offsets: Sequence[int]) -> int:
    """The memory that placed blocks take."""
    return max((offset + block.size for block, offset in zip(blocks, offsets, strict=True)), default=0)


def first_fit(blocks: Sequence[Block], order: Sequence[int]) -> list[int]:
    """Puts one block after the other into the lowest gap that fits."""
    offsets: dict[int, int] = {}
    for each in order:
        offset = 0
        for other in sorted((o for o in offsets if blocks[o].meets(blocks[each])), key=lambda o: offsets[o]):
            if offset + blocks[each].size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + blocks[other].size)
        offsets[each] = offset
    return [offsets[each] for each in range(len(blocks))]


@dataclass(frozen=True)
class _State:
    """Some blocks placed, from the bottom up.

    At each step, no other block begins below ``floor``, and the blocks in use that are not placed yet take ``remaining`` units.
    """

    offsets: dict[int, int]
    left: list[int]
    floor: list[int]
    remaining: list[int]


class _Search:
    """A search with backtracking for a placement within a limit.

    It places blocks in the order of their offsets, each as low as it goes, as does Moffitt, "MiniMalloc: A Lightweight Memory
    Allocator for Hardware-Accelerated Machine Learning", ASPLOS 2023.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._sizes = [block.size for block in blocks]
        begins = sorted({block.first for block in blocks})  # steps between two of these have the same blocks in use, or fewer
        self._steps = [
            (begins.index(block.first), sum(begin <= block.last for begin in begins)) for block in blocks
        ]  # as slices of begins
        self._left_to_look_at = MOST_LOOKED_AT
        self._n_steps = len(begins)

    def within(self, limit: int, order: list[int]) -> list[int] | None:
        """Offsets with which all blocks end within ``limit``; None if there are none, or if the search becomes too long.

        Args:
            limit: Units of memory.
            order: The blocks; of those that go equally low, the first is tried first.
        """
        remaining = [0] * self._n_steps
        for each in order:
            for step in range(*self._steps[each]):
                remaining[step] += self._sizes[each]
        start = _State({}, order, [0] * self._n_steps, remaining)
        path = [(start, self._choices(start))]
        for _ in range(MOST_PLACED):
            while path and (choice := next(path[-1][1], None)) is None:
                path.pop()
            if not path or self._left_to_look_at <= 0:
                return None
            assert choice is not None
            state = self._placed(path[-1][0], *choice, limit)
            if state is None:
                continue
            if not state.left:
                return [state.offsets[each] for each in range(len(self._sizes))]
            path.append((state, self._choices(state)))
        return None

    def _choices(self, state: _State) -> Iterator[tuple[int, int]]:
        """The blocks that may come next, with their offsets, the lowest first."""
        self._left_to_look_at -= len(state.left) * self._n_steps
        lowest = [(max(state.floor[slice(*self._steps[each])]), each) for each in state.left]
        # A block that begins above the end of another one can wait for that: the other fits below it.
        end = min(offset + self._sizes[each] for offset, each in lowest)
        return iter(sorted((choice for choice in lowest if choice[0] < end), key=lambda choice: choice[0]))

    def _placed(self, state: _State, offset: int, each: int, limit: int) -> _State | None:
        """The state with one more block; None if the remaining blocks cannot all fit above it."""
        floor, remaining = list(state.floor), list(state.remaining)
        for step in range(*self._steps[each]):
            floor[step] = offset + self._sizes[each]
            remaining[step] -= self._sizes[each]
        floor = [max(below, offset) for below in floor]  # later blocks begin no lower than this one
        if any(units and below + units > limit for below, units in zip(floor, remaining, strict=True)) or max(floor) > limit:
            return None
        return _State(state.offsets | {each: offset}, [other for other in state.left if other != each], floor, remaining)
