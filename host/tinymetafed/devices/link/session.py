"""A device's whole work as typed calls; here those that configure and train it, and stream its samples."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from tinymetafed_codegen import protocol
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.optional_messages import part_messages
from tinymetafed_codegen.options.sample_parts import is_whole, part_bytes
from tinymetafed_codegen.protocol import Program, Recipe, State, Status

from ...federation.clients import TrainingFailed
from ...wire.messages import ArrayLike, EncodedSample, Example, encode_sample
from .clock import SYSTEM_CLOCK, Clock
from .deadline import Deadline
from .exchange import DEADLINE_SECONDS, PATIENCE, RETRIES, SHORTEST_SECONDS
from .link_errors import DeviceGarbled, DeviceRefused, without_parts
from .outputs import Outputs
from .transport import Transport
from .updates_up import UpdatesUp
from .weights_down import WeightsDown

REPORT_SECONDS = 0.5  # between two progress reports of a training board
STALL_SECONDS = 120.0  # longer than any single training step
MOST_BYTES = 1 << 32  # of the samples that a program is sent in parts


class Session(WeightsDown, UpdatesUp, Outputs):
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
        self.manifest: ModelManifest | None = None  # says what the board keeps of samples, which are then sent once
        self._training: float | None = None  # seconds that the last program took, without streamed samples

    # --- A round ---

    def configure(self, program: Program, recipe: Recipe) -> None:
        """Sets the recipe of ``program``. Raises WireError for an invalid recipe."""
        self._ask(protocol.Configure(self.session, program, recipe), protocol.ConfigureAnswer)

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
        """Waits while the device trains samples that it has kept; the bytes of that count as those of samples.

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
        with self._in_place_of_samples():
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
                f"{self.name}: is at step {step} of {total_steps} and much slower than at first; reset the board, or find out "
                "what slows it down",
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
            if step < first:
                raise DeviceGarbled(f"{self.name}: has no sample {step}, and claims to have trained {first}; reset the board")
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
            raise without_parts(refusal, self.name, self.window, f"sample {start} takes {size} bytes") from None

    def _is_whole(self, sample: EncodedSample) -> bool:
        return is_whole(len(sample.data), self.window, self.mac_bytes)
