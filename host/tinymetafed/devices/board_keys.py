"""Authenticates devices of this machine's key file, and enrolls boards."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tinymetafed_codegen.board import board_key
from tinymetafed_codegen.files import OWNER_ONLY
from tinymetafed_codegen.optional_messages.authentication_messages import KEY_BYTES, NONCE_BYTES
from tinymetafed_codegen.protocol import Status

from .device import Device
from .key_file import EnrolledBoard, EnrollError, KeyFile, KeyFileError
from .link.link_errors import DeviceRefused, LinkError, NotEnrolled, WrongFirmware, WrongKey


def authenticate(device: Device) -> None:
    """Authenticates a device of a run that asks for it: by the key that its process got at its start, else by the key file.

    Raises:
        NotEnrolled: The board or this machine has no key.
        WrongKey: The board has another key.
        WrongFirmware: Its firmware does not authenticate.
        KeyFileError: The key file cannot be used.
    """
    if device.key is not None:
        device.session.authenticate(device.hello, (device.key,))
        return
    known = KeyFile()
    unique_id = device.hello.unique_id.hex()
    board = known.of(unique_id)
    if board is None and device.process is not None:
        raise NotEnrolled(
            f"{device.url}: board {unique_id} has a key in the file of its flash, and neither the file beside it, whose name "
            f"ends in .key, nor {known.path} has the same; restore one of these, or remove the file of the flash below store="
        )
    if board is None:
        raise NotEnrolled(
            f"{device.url}: board {unique_id} is not enrolled: {known.path} has no key of it, and run.security = "
            f"'authenticated' takes no board without one; `tinymetafed enroll {device.url} --name NAME` gives it a key"
        )
    device.session.authenticate(device.hello, board.keys)


def authenticate_if_enrolled(device: Device) -> None:
    """Authenticates a board that is asked without an experiment, unless its firmware does not authenticate.

    A board that is enrolled is never asked without authentication: otherwise whoever is on the line could say in its place
    that it has none.

    Raises:
        LinkError, KeyFileError: As ``authenticate``.
    """
    known = KeyFile()
    board = known.of(device.hello.unique_id.hex())
    if board is None:
        if device.session.challenge(os.urandom(NONCE_BYTES)) is not None:
            raise NotEnrolled(
                f"{device.url}: board {device.hello.unique_id.hex()} answers only a host that has its key, and {known.path} "
                "has none; ask from the machine that has enrolled it"
            )
        return
    try:
        device.session.authenticate(device.hello, board.keys)
    except WrongFirmware:
        raise WrongFirmware(
            f"{device.url}: is enrolled as '{board.name}', but its firmware does not authenticate; flash the authenticated one "
            f"again, or remove its key: `tinymetafed enroll --forget '{board.name}'`"
        ) from None


@dataclass(frozen=True)
class Enrollment:
    """What has become of a board: ``is_kept`` if it has its key after a reset too; ``header`` of a key that is compiled in."""

    name: str
    unique_id: str
    board: str
    is_kept: bool
    header: Path | None = None


def enroll(device: Device, name: str, *, again: bool = False) -> Enrollment:
    """Gives a board a fresh key, over its line, and keeps it in the key file.

    Args:
        device: The board, connected by a cable that nobody else reads.
        name: Its name on this machine.
        again: Whether a board that this machine has a key of gets another one, even if it has lost that key.

    Raises:
        EnrollError: The name is taken, or this machine has a key of the board already.
        WrongKey: The board has a key of another host.
        LinkError: It does not answer, its firmware does not authenticate, or it cannot keep a key.
        KeyFileError: The key file cannot be used.
    """
    known, unique_id = KeyFile(), device.hello.unique_id.hex()
    before = known.of(unique_id)
    has_key = _has_key(device)
    if has_key and before is None:
        raise WrongKey(
            f"{device.url}: board {unique_id} has a key already, and this machine does not know it: only the host that has it "
            "can give it another; or erase the board's flash, as docs/authentication.md describes"
        )
    if has_key and before is not None:
        device.session.authenticate(device.hello, before.keys)
    _require_new(device, before, again=again, lacks_key=not has_key)
    fresh = os.urandom(KEY_BYTES)
    board = EnrolledBoard(name, unique_id, device.board, (fresh, *(before.keys[:1] if has_key and before is not None else ())))
    known.put(board)  # before the board has it: a key that nobody knows would lock the board
    try:
        kept = device.session.enroll(fresh).kept
    except DeviceRefused as refusal:
        _restore(known, unique_id, before)
        if refusal.status != Status.BAD_STATE:
            raise
        raise LinkError(
            f"{device.url}: cannot keep a key: its firmware has no store, or its flash is worn; set board.store = true, or "
            "compile the key in: --compiled-in HEADER"
        ) from None
    # With a handshake of its own, because a session of the former key goes on.
    device.session.authenticate(device.hello, (fresh,))
    known.put(replace(board, keys=(fresh,)))
    return Enrollment(name, unique_id, device.board, bool(kept))


def enroll_compiled_in(device: Device, name: str, header: Path, *, again: bool = False) -> Enrollment:
    """Makes a key for a board whose firmware has no store, and writes the header by which the next build has it.

    Args:
        device: The board, with any firmware.
        name: Its name on this machine.
        header: The file to write; it must not exist.
        again: As of ``enroll``.

    Raises:
        EnrollError: The name is taken, this machine has a key of the board already, or the file exists.
        KeyFileError: A file cannot be written.
    """
    known, unique_id, key = KeyFile(), device.hello.unique_id.hex(), os.urandom(KEY_BYTES)
    _require_new(device, known.of(unique_id), again=again)
    try:
        handle = os.open(header, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    except FileExistsError:
        raise EnrollError(f"--compiled-in {header}: exists; name another file, or remove this one") from None
    except OSError as error:
        raise KeyFileError(f"{header}: cannot be written: {error.strerror}; name another file") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(board_key.header(name, unique_id, key))
        known.put(EnrolledBoard(name, unique_id, device.board, (key,)))
    except BaseException:
        with suppress(OSError):
            header.unlink()
        raise
    return Enrollment(name, unique_id, device.board, True, header)


def forget(name: str, device: Device | None) -> EnrolledBoard:
    """Removes a board's key from this machine, and from the board if it is connected.

    Raises:
        EnrollError: No board has the name, or another board is connected.
        LinkError: The board does not answer, or its key is compiled in.
        KeyFileError: The key file cannot be used.
    """
    known = KeyFile()
    board = known.named(name)
    if device is not None:
        if device.hello.unique_id.hex() != board.unique_id:
            raise EnrollError(
                f"{device.url}: is board {device.hello.unique_id.hex()}, and '{name}' is {board.unique_id}; connect that one, "
                "or leave the device out"
            )
        device.session.authenticate(device.hello, board.keys)
        try:
            device.session.forget_key()
        except DeviceRefused as refusal:
            if refusal.status != Status.BAD_STATE:
                raise
            raise LinkError(
                f"{device.url}: cannot forget its key, which is compiled in, or its flash is worn; flash other firmware, and "
                "leave the device out"
            ) from None
    known.remove(board.unique_id)
    return board


def _require_new(device: Device, before: EnrolledBoard | None, *, again: bool, lacks_key: bool = False) -> None:
    """Raises EnrollError if this machine has a key of a board's id, unless it is enrolled again.

    The key would be replaced, and if the id were that of another board, nobody could reach that one any more.
    """
    if before is None or again:
        return
    known, remedy = f"{device.url}: board {before.unique_id} is enrolled as '{before.name}'", "--again gives it a fresh key and"
    if not lacks_key:
        raise EnrollError(f"{known}; {remedy} this name")
    raise EnrollError(
        f"{known} ({before.board}), but the one here ({device.board}) has no key; if its flash was erased, {remedy} this name; "
        f"if it is another one of the same id, the key of '{before.name}' would be lost"
    )


def _has_key(device: Device) -> bool:
    """Whether a board of authenticated firmware has a key. Raises WrongFirmware for any other firmware."""
    try:
        if device.session.challenge(os.urandom(NONCE_BYTES)) is not None:
            return True
    except NotEnrolled:
        return False
    raise WrongFirmware(
        f"{device.url}: its firmware does not authenticate, so it has no use for a key; flash firmware of an experiment with "
        "run.security = 'authenticated', or give a key to be compiled in: --compiled-in HEADER"
    )


def _restore(known: KeyFile, unique_id: str, before: EnrolledBoard | None) -> None:
    if before is None:
        known.remove(unique_id)
    else:
        known.put(before)
