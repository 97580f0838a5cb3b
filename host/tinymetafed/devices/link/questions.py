"""What a device is asked about itself, as typed calls: its identity, key, store, own program and sensor."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tinymetafed_codegen import protocol
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.optional_messages import (
    authentication_messages,
    measure_messages,
    own_program_messages,
    sensor_messages,
    store_messages,
)
from tinymetafed_codegen.protocol import Status

from ...wire import class_names
from ...wire.authentication import Handshake, same
from ...wire.frame import Frame
from .exchange import Exchange, Sent
from .link_errors import DeviceGarbled, DeviceRefused, NotEnrolled, WrongFirmware, WrongKey
from .transport import UNKNOWN_START_SECONDS

HELLO_SECONDS = 0.06
QUIET_SECONDS = 0.1  # after so long without a byte no late answer is expected


class Questions(Exchange):
    """The questions to one device on an open line. Every call may raise a LinkError, as `request` does."""

    store: store_messages.StoreReport | None = None  # the last report of firmware with a store
    name_bytes = 0  # of the names of classes in that store
    _run = 0

    # --- Identity and firmware ---

    def hello(self, start: float = UNKNOWN_START_SECONDS) -> protocol.HelloAnswer:
        """Sends Hello repeatedly until the device answers; this bridges its boot time and skips boot messages.

        Args:
            start: Seconds to try.

        Returns:
            The device's answer.

        Raises:
            WrongFirmware: The answer is of another protocol.
            LinkError: DeviceSilent, DeviceGarbled or DeviceSlow, if there is no valid answer.
        """
        message = protocol.Hello()
        asked: dict[int, Sent] = {}
        end = self.clock.monotonic() + start
        self._listen_afresh()
        while self.clock.monotonic() < end:
            # Each has its own sequence number and any answer counts: the first may wait in a board that is still booting.
            sent = self._prepare(message)
            self.delimit()  # opening the line may have caused stray bytes
            self._send(sent)
            asked[sent.sequence] = sent
            pause = HELLO_SECONDS + 10 * 2 * len(sent.frame) / self._transport.baud
            frame = self._receive(asked, message.type_id, min(end, self.clock.monotonic() + pause))
            if frame is not None:
                welcome = self._welcome(frame, asked.pop(frame.sequence))
                # The device answers the other Hellos too; wait for these answers, so that they do not disturb what follows.
                while asked and (late := self._receive(asked, message.type_id, self.clock.monotonic() + QUIET_SECONDS)):
                    del asked[late.sequence]
                return welcome
        raise self._no_answer(list(asked.values()) or [self._prepare(message)], start, None)

    def _welcome(self, frame: Frame, sent: Sent) -> protocol.HelloAnswer:
        ours = protocol.HelloAnswer
        fixed = ours.place("model_hash")  # the two fields before it have the same place in every protocol version
        if frame.type_id != protocol.ERROR_TYPE and fixed <= len(frame.payload) != ours.fixed_size():
            version, schema = ours.unpack_first(frame.payload, "schema_hash")
            raise WrongFirmware(f"{self._wrong_protocol(version, schema)}; flash the firmware of this version again")
        hello = self._open(frame, sent, ours)
        self.window = hello.receive_window
        return hello

    def _wrong_protocol(self, version: int, schema: bytes) -> str:
        return (
            f"{self.name}: the firmware speaks protocol {version}, schema {schema.hex()}; this host speaks protocol "
            f"{protocol.PROTOCOL_VERSION}, schema {protocol.schema_hash().hex()}"
        )

    def check(self, hello: protocol.HelloAnswer, manifest: ModelManifest, flash: str) -> None:
        """Checks that protocol, board and model of the firmware are those of this host and ``manifest``.

        Args:
            hello: The device's answer.
            manifest: The experiment's model on this board.
            flash: Command that flashes the right firmware, for the error's text.

        Raises:
            WrongFirmware: They differ.
        """
        board = board_name(hello)
        if (hello.protocol_version, hello.schema_hash) != (protocol.PROTOCOL_VERSION, protocol.schema_hash()):
            wrong = self._wrong_protocol(hello.protocol_version, hello.schema_hash)
        elif board != manifest.board:
            wrong = f"{self.name}: the firmware is of board {board}, the experiment was built for {manifest.board}"
        elif hello.model_hash.hex() != manifest.model_hash:
            wrong = (
                f"{self.name}: the firmware holds model {hello.model_hash.hex()}, the experiment has model "
                f"{manifest.model_hash}: they differ in the network, downlink, run.security, [privacy], board.store or "
                "board.sensor"
            )
            if manifest.mac_bytes:
                wrong += ", or authenticated firmware of an earlier version"
        else:
            # A window that the board does not have would be overrun, and waited for.
            self.window = min(self.window, manifest.receive_window)
            return
        raise WrongFirmware(f"{wrong}; flash this experiment's firmware: {flash}")

    # --- Authentication ---

    def authenticate(self, hello: protocol.HelloAnswer, keys: Sequence[bytes]) -> None:
        """Begins a session in which every frame has a MAC, after both sides have proved that they have the board's key.

        Args:
            hello: The board's answer to Hello, which the proofs cover.
            keys: The board's key; while it gets another one, both.

        Raises:
            WrongFirmware: The firmware does not authenticate, or as an earlier version did.
            NotEnrolled: The board has no key.
            WrongKey: The board has another key, or somebody else has answered in its place.
        """
        self.end()
        nonce = os.urandom(authentication_messages.NONCE_BYTES)
        response = self.challenge(nonce)
        if response is None:
            raise WrongFirmware(
                f"{self.name}: its firmware does not authenticate; flash firmware of an experiment with run.security = "
                "'authenticated'"
            )
        tried = [Handshake(key, hello.pack(), nonce, response.nonce) for key in keys]
        if any(same(each.earlier_board_proof, response.proof) for each in tried):
            raise WrongFirmware(
                f"{self.name}: its firmware authenticates as an earlier version did; flash this version's firmware"
            )
        handshake = next((each for each in tried if same(each.board_proof, response.proof)), None)
        if handshake is None:
            raise WrongKey(
                f"{self.name}: board {hello.unique_id.hex()} has another key than this host, or somebody else answers in its "
                "place; if it is the board, restore the file that has its key, or erase its flash and enroll it anew "
                "(docs/authentication.md)"
            )
        self._ask(authentication_messages.Prove(handshake.host_proof), authentication_messages.Proven)
        self.begin(handshake.session())

    def challenge(self, nonce: bytes) -> authentication_messages.Response | None:
        """The board's answer to the nonce of a handshake; None for firmware that does not authenticate.

        Raises:
            NotEnrolled: The board has no key.
        """
        try:
            return self._ask(authentication_messages.Challenge(nonce), authentication_messages.Response)
        except DeviceRefused as refusal:
            if refusal.status == Status.UNKNOWN_TYPE:
                return None
            if refusal.status != Status.BAD_STATE:
                raise
            raise NotEnrolled(
                f"{self.name}: the board has no key, and its firmware answers nobody without one; give it a key over a cable "
                f"of its own: `tinymetafed enroll {self.name} --name NAME`"
            ) from None

    def enroll(self, key: bytes) -> authentication_messages.Enrolled:
        """Gives the board its key.

        Raises:
            DeviceRefused: BAD_STATE if it has another key and this session is not authenticated by it, or cannot keep one;
                UNKNOWN_TYPE if its firmware does not authenticate.
        """
        return self._ask(authentication_messages.Enroll(key), authentication_messages.Enrolled)

    def forget_key(self) -> None:
        """Makes the board forget its key, which authenticates this session. Raises DeviceRefused if it is compiled in."""
        self._ask(authentication_messages.Forget(), authentication_messages.Forgotten)

    def refusals(self) -> authentication_messages.Refusals:
        """What the board has refused since its start, in an authenticated session."""
        return self._ask(authentication_messages.AskRefusals(), authentication_messages.Refusals)

    # --- The board's store ---

    def recall(self, run: int) -> store_messages.StoreReport:
        """Names the run of the cycles that follow, so that the board continues from states that it saved in this run.

        Only for firmware with a store.

        Args:
            run: The run's number, from 0 to 2^32 - 1; the same when it is continued.

        Returns:
            What the board's store holds; also in ``store`` from now on.
        """
        self._run = run
        self.store = self._ask(store_messages.Recall(run), store_messages.StoreReport)
        return self.store

    def keep(self, names: Sequence[str] = ()) -> store_messages.StoreReport:
        """Makes the board save its current weights, local ones included; it has them again after a reset.

        Args:
            names: The names of the classes, in the order of their indices; () if they have none.

        Returns:
            As ``recall``; its state is FULL, WORN or MISSING if they are not saved.

        Raises:
            DeviceRefused: BAD_STATE while weights are loaded or trained; NOT_FINITE if they have diverged.
        """
        self.store = self._ask(store_messages.Keep(class_names.encode(names, self.name_bytes)), store_messages.StoreReport)
        return self.store

    def refresh(self) -> store_messages.StoreReport:
        """As ``recall`` for the same run again."""
        return self.recall(self._run)

    def look(self) -> store_messages.Contents | None:
        """What is in the board's store, which does not change; None for firmware without one."""
        try:
            return self._ask(store_messages.Look(), store_messages.Contents)
        except DeviceRefused as refusal:
            if refusal.status != Status.UNKNOWN_TYPE:
                raise
            return None

    # --- What the board's own program does ---

    def inspect(self) -> own_program_messages.Inspection | None:
        """How the board has done on the samples that its own program has learned; None if it has learned none."""
        try:
            return self._ask(own_program_messages.Inspect(), own_program_messages.Inspection)
        except DeviceRefused as refusal:
            if refusal.status != Status.UNKNOWN_TYPE:
                raise
            return None

    def measurements(self) -> measure_messages.Measurements | None:
        """What the board has measured of itself; None for firmware without ``board.measures``."""
        try:
            return self._ask(measure_messages.Measure(), measure_messages.Measurements)
        except DeviceRefused as refusal:
            if refusal.status != Status.UNKNOWN_TYPE:
                raise
            return None

    def position(self) -> protocol.Progress | None:
        """The state of the board and its cycle, whatever its token; None if it has had no cycle since its start."""
        token = 0
        for _ in range(self.retries + 1):
            try:
                return self._ask(protocol.Await(token, 0), protocol.Progress)
            except DeviceRefused as refusal:
                if refusal.status == Status.BAD_STATE:
                    return None
                if refusal.status != Status.BAD_TOKEN or refusal.detail == token:
                    raise
                token = refusal.detail
        raise DeviceGarbled(f"{self.name}: names another cycle each time it is asked, the last is {token}; reset the board")

    # --- The board's sensor; firmware without one refuses with UNKNOWN_TYPE ---

    def sensor(self) -> sensor_messages.SensorReport | None:
        """How the board's sensor does; None for firmware without one."""
        try:
            return self._ask(sensor_messages.AskSensor(), sensor_messages.SensorReport)
        except DeviceRefused as refusal:
            if refusal.status != Status.UNKNOWN_TYPE:
                raise
            return None

    def columns(self) -> sensor_messages.Columns:
        """What a row of the sensor is."""
        return self._ask(sensor_messages.AskColumns(), sensor_messages.Columns)

    def pull_rows(self, recording: int, row: int) -> sensor_messages.Rows:
        """Fetches rows of a recording from number ``row`` on, as many as are there and fit into an answer.

        Args:
            recording: The recording's random number, above 0. A new one begins it and restarts the sensor; 0 ends it.
            row: Number of the first row that the host lacks; the board forgets those before it.

        Raises:
            DeviceRefused: BAD_STATE if the board knows nothing of this recording, because it was reset.
        """
        return self._ask(sensor_messages.PullRows(recording, row), sensor_messages.Rows)

    def label_sample(self, label: int) -> sensor_messages.SensorReport:
        """Labels the newest sample, which the board learns.

        Raises:
            DeviceRefused: BAD_VALUE for a label that the model does not have; BAD_STATE without a sample, without weights, or
                in a round; NOT_FINITE if the weights have diverged.
        """
        request = int.from_bytes(os.urandom(4), "little")
        return self._ask(sensor_messages.LabelSample(request, label), sensor_messages.SensorReport)


def board_name(hello: protocol.HelloAnswer) -> str:
    """The board's name as text."""
    return hello.board.rstrip(b"\0").decode("ascii", "backslashreplace")
