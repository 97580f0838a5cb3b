"""A device sends the changes that it trained, as typed calls: in the clear, or masked for secure aggregation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import coded_messages, secure_messages
from tinymetafed_codegen.protocol import FRAME_HEADER_BYTES

from .exchange import Sent
from .link_errors import DeviceGarbled
from .questions import Questions

IntegerArray = NDArray[np.uint16]
_Question = TypeVar("_Question", protocol.Pull, coded_messages.PullCoded)
_Chunk = TypeVar("_Chunk", protocol.Delta, coded_messages.CodedDelta)


class UpdatesUp(Questions):
    """Receives the updates of one device on an open line. Every call may raise a LinkError, as `request` does."""

    def pull(self, token: int, count: int) -> list[protocol.Delta]:
        """Receives the delta, which no longer changes once training is done.

        The beginning of a chunk says how many entries it has, so the next chunk is requested before this one is complete.

        Args:
            token: Token of the cycle.
            count: Entries of the whole delta.

        Returns:
            The chunks in order of rank.

        Raises:
            DeviceGarbled: A chunk has another token or rank, or too many entries.
        """
        return self._pull_all(protocol.Pull, protocol.Delta, token, count)

    def pull_coded(self, token: int, count: int) -> list[coded_messages.CodedDelta]:
        """As ``pull``, from firmware that codes the values of its updates."""
        return self._pull_all(coded_messages.PullCoded, coded_messages.CodedDelta, token, count)

    def _pull_all(self, question: type[_Question], answer: type[_Chunk], token: int, count: int) -> list[_Chunk]:
        chunks: list[_Chunk] = []
        rank = 0
        asked: Sent | None = None
        while rank < count:
            if asked is None or asked.after != rank:
                asked = self._pull(question(token, rank))
            delta, asked = self._chunk(question(token, rank), answer, count, asked)
            named = delta.token if isinstance(delta, protocol.Delta) else token
            if named != token or delta.rank != rank or delta.count > count - rank:
                raise DeviceGarbled(
                    f"{self.name}: asked for the delta's entries from {rank} of {count} under token {token}, "
                    f"got {delta.count} from {delta.rank} under token {named}"
                )
            chunks.append(delta)
            rank += delta.count
        return chunks

    def _pull(self, question: _Question) -> Sent:
        """Requests a chunk, without waiting for it."""
        sent = self._prepare(question, question.rank)
        self._send(sent)
        return sent

    def _chunk(self, question: _Question, answer: type[_Chunk], count: int, asked: Sent) -> tuple[_Chunk, Sent | None]:
        """The chunk that ``asked`` requests; and the request for the next chunk, if it could be sent early."""
        early: Sent | None = None

        def look_ahead() -> None:
            nonlocal early
            if early is None and question.rank < (following := self._following(asked, question.rank, answer)) < count:
                early = self._pull(type(question)(question.token, following))

        until = self.clock.monotonic() + self._patience(asked)
        frame = self._receive((asked.sequence,), question.type_id, until, hurry=True, on_bytes=look_ahead)
        if frame is None:
            return self._ask(question, answer), None
        delta = self._open(frame, asked, answer)
        if early is not None:
            early.since = self.clock.monotonic()  # the device begins with it now
        return delta, early

    def _following(self, asked: Sent, rank: int, answer: type[_Chunk]) -> int:
        """The rank after the incomplete chunk, read from its unchecked beginning; 0 if not enough bytes are there."""
        needed = FRAME_HEADER_BYTES + answer.place("count") + answer.kinds()["count"].size
        head = self._decoder.beginning(needed)
        if len(head) < needed:
            return 0
        type_id, sequence = head[:FRAME_HEADER_BYTES]
        *_, first, entries = answer.unpack_first(head[FRAME_HEADER_BYTES:], "count")
        is_answer = type_id == asked.message.type_id | protocol.ANSWER_BIT and sequence == asked.sequence and first == rank
        return first + entries if is_answer else 0

    # --- Secure aggregation; only for firmware with it ---

    def own_key(self, run: int) -> bytes:
        """The board's public key.

        Args:
            run: Random number of the run; for a new one the board draws a new key.
        """
        return self._ask(secure_messages.AskKey(run), secure_messages.OwnKey).key

    def take_seat(self, seat: int, key: bytes) -> None:
        """Names the board that has a seat by its public key; the board computes the secret that it shares with that one."""
        self._ask(secure_messages.Seat(seat, key), secure_messages.Seated)

    def pull_masked(self, token: int, attempt: int, seats: Iterable[int], count: int) -> IntegerArray:
        """Receives the masked update.

        Args:
            token: Token of the cycle, which is trained.
            attempt: Number of the attempt, above all earlier ones, or that of the latest.
            seats: The seats of all participants.
            count: Entries of the update.

        Returns:
            uint16[count], in the order of the indices.

        Raises:
            DeviceGarbled: A chunk has another token, attempt or rank, no entry, or too many.
        """
        bits = sum(1 << seat for seat in seats)
        parts: list[bytes] = []
        got = 0
        while got < count:
            question = secure_messages.PullMasked(token, attempt, bits & 0xFFFFFFFF, bits >> 32, got)
            answer = self._ask(question, secure_messages.Masked)
            entries, rest = divmod(len(answer.data), 2)
            if (answer.token, answer.attempt, answer.rank) != (token, attempt, got) or rest or not 0 < entries <= count - got:
                raise DeviceGarbled(
                    f"{self.name}: asked for masked entries from {got} of {count} in attempt {attempt} under token {token}, "
                    f"got {len(answer.data)} bytes from {answer.rank} in attempt {answer.attempt} under token {answer.token}"
                )
            parts.append(answer.data)
            got += entries
        return np.frombuffer(b"".join(parts), "<u2").astype(np.uint16)

    def open_mask(self, token: int, attempt: int) -> bytes:
        """The seed of the board's own mask in an attempt; from then on the board masks this cycle for no other attempt."""
        return self._ask(secure_messages.Open(token, attempt), secure_messages.Opened).seed
