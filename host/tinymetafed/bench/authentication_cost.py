"""Cost of authentication on a board: flash, RAM, bytes and instructions of a round with it and without."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment

from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.strategies import open_strategy
from ..runs.setup import measured_design
from . import board_round, in_qemu, keeping_nothing, stack

_OURS = ("Authentication", "Blake2s", "Poly1305")  # in the names of functions


@dataclass(frozen=True)
class RoundCost:
    """One round of one kind of firmware: memory in bytes, bytes on the line, instructions of everything that the board does.

    ``mac_instructions`` are those of the functions that compute MACs.
    """

    flash: int
    static_ram: int
    stack: int
    bytes_down: int
    bytes_up: int
    instructions: int
    mac_instructions: int

    @property
    def ram(self) -> int:
        """Static RAM and deepest stack."""
        return self.static_ram + self.stack

    @property
    def bytes(self) -> int:
        """Bytes in both directions."""
        return self.bytes_down + self.bytes_up


@dataclass(frozen=True)
class AuthenticationCost:
    """A round of an experiment's firmware without and with authentication; ``window`` is its receive window in bytes."""

    board: str
    window: int
    steps: int
    plain: RoundCost
    authenticated: RoundCost


def measure(experiment: Experiment, source: str, board: str, observer: Observer) -> AuthenticationCost:
    """Measures one round of each in the board's emulator, without the handshake.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, SpecError or LinkError.
    """
    costs, window, steps = [], 0, 0
    for security in ("none", "authenticated"):
        chosen = keeping_nothing(experiment).model_copy(
            update={"run": experiment.run.model_copy(update={"security": security})}
        )
        designed = measured_design(chosen, source)
        facts = in_qemu(board, designed.boards)
        observer.stage(f"building firmware for {board}, run.security = '{security}'")
        built = build_firmware(designed, board)
        observer.stage(f"a round on {board}")
        done = board_round.measure(chosen, built, facts, (_OURS,))
        depth = stack.deepest(chosen, built, facts)
        costs.append(
            RoundCost(
                flash=built.flash_bytes,
                static_ram=built.ram_bytes,
                stack=depth,
                bytes_down=done.traffic.down,
                bytes_up=done.traffic.up,
                instructions=done.instructions,
                mac_instructions=done.counted[0],
            )
        )
        window = built.manifest.receive_window
        steps = open_strategy(chosen, built.manifest).training_recipe().steps
    return AuthenticationCost(board, window, steps, *costs)
