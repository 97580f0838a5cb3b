"""The network of a real board: a header that the user writes and the environment names (docs/network-boards.md)."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import Error
from ..toolchain import NETWORK_VARIABLE
from .board_facts import Board

HEADER = "network_facts.hpp"  # the generated header, which includes the user's
_PORT = "network.cpp"  # the source of a port that has a network


class NetworkError(Error):
    """A header that cannot be used."""


def text(board: Board) -> str | None:
    """The generated header for a board; None without a network, as for boards that run on this machine.

    Raises:
        NetworkError: There is no such file, or the board's port has no network.
    """
    named = os.environ.get(NETWORK_VARIABLE)
    if not named or not board.real:
        return None
    if not Path(named).is_file():
        raise NetworkError(f"{NETWORK_VARIABLE}={named}: no such file; it names the header with the board's network")
    if not any((board.port_folder(port) / _PORT).is_file() for port in board.ports):
        raise NetworkError(f"{NETWORK_VARIABLE} is set, but the port of {board.name} has no network; unset it")
    return f'#include "{Path(named).resolve().as_posix()}"\n'
