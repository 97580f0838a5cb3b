"""A device's work as typed calls: configure, load, train, stream, pull, fetch, predict."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen import protocol
from tinymetafed_codegen.manifest import KeptActivations
from tinymetafed_codegen.optional_messages import (
    coded_messages,
    difference_messages,
    level_messages,
    part_messages,
    secure_messages,
)
from tinymetafed_codegen.protocol import FRAME_HEADER_BYTES, Dtype, Program, Recipe, State, Status
from tinymetafed_codegen.sample_parts import is_whole, part_bytes

from ...federation.clients import TrainingFailed
from ...learn.codecs.difference import Coded, Version, Versions
from ...learn.codecs.downlink import Segment
from ...learn.codecs.level_load import LeveledWeights
from ...wire.messages import (
    ArrayLike,
    EncodedSample,
    Example,
    FloatArray,
    checked_length,
    encode_inputs,
    encode_sample,
    levels_on_wire,
    load_chunk,
    loads_on_wire,
    predict_batch,
    tail_capacity,
    weights_payload,
)
from .clock import SYSTEM_CLOCK, Clock
from .deadline import Deadline
from .exchange import DEADLINE_SECONDS, PATIENCE, RETRIES, SHORTEST_SECONDS, Sent
from .link_errors import DeviceGarbled, DeviceRefused, LinkError, SampleTooLarge
from .questions import Questions
from .transport import Transport

REPORT_SECONDS = 0.5  # between two progress reports of a training board
STALL_SECONDS = 120.0  # longer than any single training step
_HOLDS_ANOTHER = (Status.BAD_STATE, Status.BAD_VALUE, Status.NOT_FINITE)  # refusals of a difference
MOST_BYTES = 1 << 32  # of the samples that a program is sent in parts
IntegerArray = NDArray[np.uint16]
_Question = TypeVar("_Question", protocol.Pull, coded_messages.PullCoded, level_messages.PullLevels)
_Chunk = TypeVar("_Chunk", protocol.Delta, coded_messages.CodedDelta, level_messages.LevelDelta)
_SMALLER = "send uint8 levels with a scale, use smaller inputs, or a board with more memory"


class Session(Questions):
    """One device on an open line. Every call may raise a LinkError, as `request` does."""

    def __init__(
        self,
        transport: Transport,
        *,
        name: str | None = None,
        deadline: float = DEADLINE_SECONDS,
        retries: int = RETRIES,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(transport, name=name, deadline=deadline, retries=retries, clock=clock)
        self.session = int.from_bytes(os.urandom(4), "little")  # a new number ends an earlier host's session on the board
        self._token = 0
        self._inputs = self.session  # number of the last input that was sent in parts
        self.kept: KeptActivations | None = None  # what the board keeps of samples, which are then sent once
        self.versions: Versions | None = None  # those that boards may hold, for a download by difference
        self.on_event: Callable[[str], None] = lambda line: None  # told of what does not end the board's work
        self._held: bytes | None = None  # fingerprint of the version that the board holds
        self._has_stated = False  # whether the board was asked for it
        self._training: float | None = None  # seconds that the last program took, without streamed samples

    # --- A round ---

    def configure(self, program: Program, recipe: Recipe) -> None:
        """Sets the recipe of ``program``. Raises WireError for an invalid recipe."""
        self._ask(protocol.Configure(self.session, program, recipe), protocol.ConfigureAnswer)

    def load(self, token: int, segments: Sequence[Segment]) -> None:
        """Sends the global weights, or what differs from those that the board holds where that is less.

        Args:
            token: Token of the new cycle.
            segments: Consecutive segments from weight 0 on.

        Raises:
            ValueError: The segments leave a gap, or hold NaN or infinity.
        """
        if self.versions is None:
            self._load_all(token, segments)
            return
        version = self.versions.newest(segments)
        before = sum(self._down)
        if self._load_difference(token, self.versions, version):
            self._spared += self._full(segments) - (sum(self._down) - before)
        else:
            self._spared -= sum(self._down) - before
            self._load_all(token, segments)
        self._held = version.fingerprint

    def _full(self, segments: Sequence[Segment]) -> int:
        """Bytes on the line of all weights."""
        levels = segments[0].levels if segments else None
        if levels is None:
            return loads_on_wire(segments, self.window, self.mac_bytes)[1]
        messages = LeveledWeights.of(segments, levels).messages(self._level_capacity)
        return levels_on_wire(messages, self.mac_bytes)[1]

    @property
    def _level_capacity(self) -> int:
        return tail_capacity(level_messages.LoadLevels, self.window, self.mac_bytes)

    def _load_difference(self, token: int, versions: Versions, version: Version) -> bool:
        """Sends what differs from the version that the board states to hold; returns whether it has the new one now."""
        if not self._has_stated:
            held = self._ask(difference_messages.AskHeld(), difference_messages.Held)
            self._held, self._has_stated = held.version if held.whole else None, True
        base, self._held = self._held, None  # unknown until all of the new version is there
        coded = None if base is None else versions.difference(base, version)
        if base is None or coded is None:
            return False
        try:
            self._send_difference(token, coded)
        except DeviceRefused as refusal:
            if refusal.message not in difference_messages.DIFFERENCE_REQUESTS or refusal.status not in _HOLDS_ANOTHER:
                raise
            what = "it was reset since, or never held it"
            if refusal.status != Status.BAD_STATE:
                what = f"the result is not version {version.fingerprint.hex()}, so it gets no more differences"
                self.versions = None
            self.on_event(
                f"{self.name}: refused a difference to version {base.hex()} of the weights, which it stated to hold: {what}; "
                "it gets all weights"
            )
            return False
        return True

    def _send_difference(self, token: int, coded: Coded) -> None:
        capacity = weights_payload(self.window, self.mac_bytes)

        def message_at(position: int) -> tuple[protocol.Request, int] | None:
            if position > coded.entries:
                raise DeviceGarbled(
                    f"{self.name}: claims {position} entries of a difference of {coded.entries}; reset the board"
                )
            return coded.message(token, position, capacity) if position < coded.entries else None

        if coded.entries:
            for _ in self._in_order(message_at, difference_messages.Taken, lambda answer: answer.next):
                pass
        elif taken := self._ask(coded.message(token, 0, capacity)[0], difference_messages.Taken).next:
            raise DeviceGarbled(f"{self.name}: claims {taken} entries of a difference without any; reset the board")

    def _load_all(self, token: int, segments: Sequence[Segment]) -> None:
        parts = [segment for segment in segments if segment.data]
        total = checked_length(parts)
        levels = parts[0].levels if parts else None
        leveled = None if levels is None else LeveledWeights.of(parts, levels)

        def chunk_at(position: int) -> tuple[protocol.Request, int] | None:
            if position > total:
                raise DeviceGarbled(f"{self.name}: claims {position} weights, {total} were sent; reset the board")
            if position == total:
                return None
            if leveled is not None:
                return leveled.message(token, position, self._level_capacity)
            return load_chunk(parts, token, position, self.window, self.mac_bytes)

        if leveled is None:
            deque(self._in_order(chunk_at, protocol.LoadAnswer, lambda answer: answer.next_offset), maxlen=0)
        else:
            deque(self._in_order(chunk_at, level_messages.LevelsLoaded, lambda answer: answer.next_offset), maxlen=0)

    def next_token(self) -> int:
        """A token for this device's next cycle, higher than all before; the device refuses messages with an older one."""
        self._token += 1
        return self._token

    def train(self, token: int, program: Program, seed: int, client: int, round: int) -> protocol.Progress:
        """Starts ``program``; if it was started already, the device only reports its progress.

        Args:
            token: Token of the loaded weights.
            program: Program to run.
            seed: Seed of the run; seed, client and round determine the samples.
            client: Number of the client.
            round: Number of the round.

        Returns:
            The device's progress.
        """
        return self._trained(token, self._ask(protocol.Train(token, program, seed, client, round), protocol.Progress))

    def await_done(
        self, token: int, total_steps: int, on_progress: Callable[[protocol.Progress], None] | None = None
    ) -> protocol.Progress:
        """Waits until the device has finished training.

        The device is asked to answer at the step that it should reach in REPORT_SECONDS at its measured pace, so a short
        training costs one message. If it is slower, it is asked for its progress.

        Args:
            token: Token of the cycle.
            total_steps: Steps of the program.
            on_progress: Called about twice a second.

        Returns:
            The final progress.

        Raises:
            TrainingFailed: Training diverged, stalled or was interrupted.
            DeviceGarbled: The device reports a progress that cannot be.
        """
        target = total_steps
        called = began = moved = self.clock.monotonic()
        deadline = Deadline(total_steps, called)
        first: int | None = None
        last = -1
        # A program that took a few milliseconds before need not be waited for a whole second when its answer is lost.
        patience = 2 * REPORT_SECONDS if self._training is None else max(SHORTEST_SECONDS, PATIENCE * self._training)
        while True:
            progress = self._await(token, target, min(patience, 2 * REPORT_SECONDS))
            patience = 2 * REPORT_SECONDS
            now = self.clock.monotonic()
            if on_progress is not None:
                on_progress(progress)
            if self._trained(token, progress).step < last or progress.step > total_steps:
                raise DeviceGarbled(
                    f"{self.name}: claims step {progress.step} of {total_steps} after step {max(0, last)}; reset the board"
                )
            if progress.state == State.DONE:
                self.require_done(progress, total_steps)
                self._training = now - called
                return progress
            if progress.state != State.TRAINING:
                raise TrainingFailed(
                    f"{self.name}: stands at {progress.state.name}, expected TRAINING or DONE; "
                    "it was reset or has not received Train: start again from Load", Status.BAD_STATE
                )  # fmt: skip
            if first is None:
                first, began = progress.step, now
            if progress.step != last:
                last, moved = progress.step, now
            elif now - moved > STALL_SECONDS:
                raise TrainingFailed(
                    f"{self.name}: has stood at step {last} of {total_steps} for {STALL_SECONDS:g} s; reset the board",
                    Status.BAD_STATE,
                )
            self._require_pace(deadline, progress.step, total_steps)
            pace = (progress.step - first) / (now - began) if now > began else 0.0
            target = min(total_steps, progress.step + max(1, int(pace * REPORT_SECONDS)))

    def await_step(
        self, token: int, step: int, progress: protocol.Progress, total_steps: int, deadline: Deadline
    ) -> protocol.Progress:
        """Waits while the device trains samples that it has kept.

        Args:
            token: Token of the cycle.
            step: Step before which it needs no sample.
            progress: The last progress of the cycle.
            total_steps: Steps of the program.
            deadline: That of the program.

        Returns:
            The progress at that step, or where the device has not moved for a second: it has kept less than expected.

        Raises:
            TrainingFailed: Training diverged, or the board is much slower than at first.
            DeviceGarbled: The device claims steps beyond that one, which need samples.
        """
        last = -1
        while progress.state == State.TRAINING and last < progress.step < step:
            last = progress.step
            progress = self._trained(token, self._await(token, step, 2 * REPORT_SECONDS))
            self._require_pace(deadline, progress.step, total_steps)
        if progress.step > step:
            raise DeviceGarbled(f"{self.name}: claims step {progress.step}, it has samples up to step {step}; reset the board")
        return progress

    def _await(self, token: int, target: int, patience: float) -> protocol.Progress:
        sent = self._prepare(protocol.Await(token, target))
        self._send(sent)
        frame = self._receive((sent.sequence,), sent.message.type_id, self.clock.monotonic() + patience, hurry=True)
        if frame is not None:
            return self._open(frame, sent, protocol.Progress)
        self._pace.pop(sent.message.type_id, None)  # the time to reach a target is no measure for an immediate answer
        return self._ask(protocol.Await(token, 0), protocol.Progress)

    def _require_pace(self, deadline: Deadline, step: int, total_steps: int) -> None:
        """Raises TrainingFailed if a board that has trained ``step`` steps should have ended long ago."""
        if deadline.has_passed(step, self.clock.monotonic()):
            raise TrainingFailed(
                f"{self.name}: is at step {step} of {total_steps} and much slower than at first; reset the board, or look what "
                "slows it down",
                Status.BAD_STATE,
            )

    def require_done(self, progress: protocol.Progress, total_steps: int) -> None:
        """Raises DeviceGarbled unless a program of so many steps has been trained to its end."""
        if (progress.state, progress.step) != (State.DONE, total_steps):
            raise DeviceGarbled(
                f"{self.name}: stands at {progress.state.name}, step {progress.step}, expected DONE, step {total_steps}; "
                "reset the board"
            )

    def _trained(self, token: int, progress: protocol.Progress) -> protocol.Progress:
        """The progress of the cycle ``token``. Raises TrainingFailed, and DeviceGarbled for that of another cycle."""
        if progress.token != token:
            raise DeviceGarbled(
                f"{self.name}: asked for the progress of cycle {token}, got that of {progress.token}; reset the board"
            )
        if progress.state != State.FAILED:
            return progress
        raise TrainingFailed(
            f"{self.name}: training failed at step {progress.step}: {progress.fault.name}; "
            "a learning rate that is too high is the usual cause", progress.fault
        )  # fmt: skip

    def sample(self, token: int, step: int, targets: ArrayLike, inputs: ArrayLike, scale: float = 1.0) -> protocol.Progress:
        """Trains one streamed sample.

        Args:
            token: Token of the cycle.
            step: Number of the training step.
            targets: Sent as float32.
            inputs: float32, or uint8 in units of ``scale``.
            scale: Factor on uint8 inputs.

        Returns:
            The device's progress.
        """
        example = Example(targets, inputs, scale)
        sample = encode_sample(example, f"sample {step}")
        if self._is_whole(sample):
            return self._trained(token, self._ask(sample.whole(token, step), protocol.Progress))
        return self.stream(token, [example], start=step)

    def stream(
        self,
        token: int,
        samples: Iterable[Example],
        on_progress: Callable[[protocol.Progress], None] | None = None,
        start: int = 0,
        total_steps: int | None = None,
        deadline: Deadline | None = None,
        reaches: int = 0,
    ) -> protocol.Progress:
        """Trains streamed samples, as many in flight as the receive window holds.

        Samples that the device has trained already are not sent again.

        Args:
            token: Token of the cycle.
            samples: The samples in order.
            on_progress: Called with every answer.
            start: Step of the first sample.
            total_steps: Steps of the program, for its deadline; None for none.
            deadline: That of the program where other samples came before; None to begin one.
            reaches: Step that the device may reach by itself after the last sample.

        Returns:
            The final progress.

        Raises:
            TrainingFailed: Training diverged, or the board is much slower than at first.
            SampleTooLarge: A sample does not fit the receive window, and the board does not take it in parts.
            ValueError: A sample holds NaN or infinity; the text gives its step.
        """
        source = iter(samples)
        kept: deque[EncodedSample] = deque()  # not yet acknowledged, from step `first` on
        first = start
        if deadline is None and total_steps is not None:
            deadline = Deadline(total_steps, self.clock.monotonic())

        def sample_at(step: int) -> EncodedSample | None:
            while first + len(kept) <= step:
                example = next(source, None)
                if example is None and first + len(kept) < step and step > reaches:
                    raise DeviceGarbled(f"{self.name}: claims {step} samples, {first + len(kept)} were there; reset the board")
                if example is None:
                    return None
                kept.append(encode_sample(example, f"sample {first + len(kept)}"))
            return kept[step - first]

        progress: protocol.Progress | None = None
        for progress in self._samples_in_order(token, sample_at, start):
            while kept and first < self._trained(token, progress).step:
                kept.popleft()
                first += 1
            if total_steps is not None and progress.step < total_steps:
                if progress.state == State.DONE:
                    self.require_done(progress, total_steps)
                if deadline is not None:
                    self._require_pace(deadline, progress.step, total_steps)
            if on_progress is not None:
                on_progress(progress)
        if progress is None:  # nothing was sent: ask for the progress
            progress = self._trained(token, self._ask(protocol.Await(token, 0), protocol.Progress))
        return progress

    def _samples_in_order(
        self, token: int, sample_at: Callable[[int], EncodedSample | None], start: int
    ) -> Iterator[protocol.Progress]:
        """Sends the samples of the steps from ``start`` on, each in one message if it fits, else in parts."""
        example = sample_at(start)
        if example is None:
            return

        def whole(step: int) -> tuple[protocol.Request, int] | None:
            sample = sample_at(step)
            return None if sample is None else (sample.whole(token, step), step + 1)

        if self._is_whole(example):
            yield from self._in_order(whole, protocol.Progress, lambda answer: answer.step, start)
            return
        size, most = len(example.data), part_bytes(part_messages.SamplePart, self.window, self.mac_bytes)

        def part(position: int) -> tuple[protocol.Request, int] | None:
            sample = sample_at(position // size)
            if sample is None:
                return None
            if len(sample.data) != size:
                raise ValueError(f"sample {position // size} has {len(sample.data)} bytes, those before it {size}")
            if position + most > MOST_BYTES:
                raise ValueError(
                    f"step {position // size} of samples of {size} bytes is beyond what a program can count; train fewer"
                )
            message = sample.part(token, position, most)
            return message, position + len(message.data)

        try:
            for taken in self._in_order(part, part_messages.SampleTaken, lambda answer: answer.position, start * size):
                yield protocol.Progress(taken.token, taken.state, taken.fault, taken.step, taken.ticks)
        except DeviceRefused as refusal:
            raise self._without_parts(refusal, f"sample {start} takes {size} bytes") from None

    def _is_whole(self, sample: EncodedSample) -> bool:
        return is_whole(len(sample.data), self.window, self.mac_bytes)

    def _without_parts(self, refusal: DeviceRefused, what: str) -> LinkError:
        """The error where a board refuses a part: one that does not know parts takes no such sample."""
        if refusal.status != Status.UNKNOWN_TYPE:
            return refusal
        return SampleTooLarge(f"{self.name}: {what}, more than this board's receive window of {self.window} bytes; {_SMALLER}")

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

    def pull_levels(self, token: int, count: int) -> list[level_messages.LevelDelta]:
        """As ``pull``, from firmware whose updates are levels."""
        return self._pull_all(level_messages.PullLevels, level_messages.LevelDelta, token, count)

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

    # --- Reading and using weights ---

    def fetch(self, offset: int, count: int) -> FloatArray:
        """The device's current weights, float32[count] from index ``offset`` on, in manifest order."""
        most = min(tail_capacity(protocol.Weights, self.window, self.mac_bytes) // 4, 0xFFFF)
        parts: list[bytes] = []
        got = 0
        while got < count:
            wanted = min(count - got, most)
            answer = self._ask(protocol.Fetch(offset + got, wanted), protocol.Weights)
            size = len(answer.data)
            if answer.offset != offset + got or size % 4 or not 4 <= size <= 4 * wanted:
                raise DeviceGarbled(
                    f"{self.name}: asked for {wanted} weights from {offset + got}, got {size} bytes from {answer.offset}"
                )
            parts.append(answer.data)
            got += size // 4
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)

    def scores_of_bytes(self, levels: NDArray[np.uint8], scale: float) -> FloatArray:
        """As ``scores`` for bytes in units of ``scale``, of a board whose first layer reads bytes."""
        return self._predict_in_parts(Dtype.U8, scale, levels.tobytes(), None)

    def scores(self, inputs: ArrayLike) -> FloatArray:
        """The network's outputs for one input of finite float32, where their number is not known. Float32 [outputs]."""
        data = np.ascontiguousarray(inputs, "<f4").tobytes()
        if len(data) > tail_capacity(protocol.Predict, self.window, self.mac_bytes):
            return self._predict_in_parts(Dtype.F32, 1.0, data, None)
        answer = self._ask(protocol.Predict(Dtype.F32, 1.0, data), protocol.Outputs).data
        if not answer or len(answer) % 4:
            raise DeviceGarbled(f"{self.name}: asked for a prediction, got {len(answer)} bytes")
        return np.frombuffer(answer, "<f4").astype(np.float32)

    def predict(self, inputs: ArrayLike, output_size: int, scale: float = 1.0) -> FloatArray:
        """The network's outputs with the device's current weights.

        Args:
            inputs: [n, *shape], float32, or uint8 in units of ``scale``.
            output_size: Outputs per input.
            scale: Factor on uint8 inputs.

        Returns:
            float32 [n, output_size].

        Raises:
            ValueError: An input is not finite; the text gives its number.
            SampleTooLarge: One input does not fit the receive window, and the board does not take it in parts.
        """
        dtype, data = encode_inputs(inputs)
        if len(inputs) == 0:
            return np.zeros((0, output_size), np.float32)
        finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"sample {int(np.argmin(finite))}: its input is NaN or infinite; clean the data")
        if not np.isfinite(scale):
            raise ValueError(f"scale {scale} is not finite")
        each = len(data) // len(inputs)
        batch = predict_batch(each, output_size, self.window, self.mac_bytes)
        if batch == 0:
            given = [data[at : at + each] for at in range(0, len(data), each)]
            return np.stack([self._predict_in_parts(dtype, scale, one, output_size) for one in given])
        rows: list[bytes] = []
        for at in range(0, len(inputs), batch):
            count = min(batch, len(inputs) - at)
            message = protocol.Predict(dtype, scale, data[at * each : (at + count) * each])
            answer = self._ask(message, protocol.Outputs).data
            if len(answer) != 4 * count * output_size:
                raise DeviceGarbled(
                    f"{self.name}: asked for {count} predictions of {output_size} outputs, got {len(answer)} bytes"
                )
            rows.append(answer)
        return np.frombuffer(b"".join(rows), "<f4").astype(np.float32).reshape(len(inputs), output_size)

    def _predict_in_parts(self, dtype: Dtype, scale: float, data: bytes, output_size: int | None) -> FloatArray:
        """The outputs for one input, which is sent in parts; ``output_size``: their number, None if it is not known."""
        most = part_bytes(part_messages.InputPart, self.window, self.mac_bytes)
        self._inputs = number = self._inputs + 1 & 0xFFFF_FFFF

        def part(position: int) -> tuple[protocol.Request, int] | None:
            sent = data[position : position + most]
            return (part_messages.InputPart(number, position, dtype, scale, sent), position + len(sent)) if sent else None

        outputs = b""
        try:
            for taken in self._in_order(part, part_messages.InputTaken, lambda answer: answer.position):
                outputs = taken.data
        except DeviceRefused as refusal:
            raise self._without_parts(refusal, f"an input takes {len(data)} bytes") from None
        if not outputs or len(outputs) % 4 or (output_size is not None and len(outputs) != 4 * output_size):
            wanted = "" if output_size is None else f" of {output_size} outputs"
            raise DeviceGarbled(f"{self.name}: asked for a prediction{wanted}, got {len(outputs)} bytes")
        return np.frombuffer(outputs, "<f4").astype(np.float32)
