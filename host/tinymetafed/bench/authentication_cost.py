"""Cost of authentication on a board: flash, RAM, bytes and instructions of a round with it and without."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from tinymetafed_codegen.boards import Board, Catalogue
from tinymetafed_codegen.protocol import Program
from tinymetafed_codegen.spec import Experiment

from ..devices.device_clients import pulled
from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Firmware
from ..devices.running import build_firmware
from ..federation.clients import Traffic
from ..federation.observer import Observer
from ..learn.strategies import open_strategy
from ..learn.weights import initial
from ..runs.setup import measured_design
from . import BenchError, in_qemu, launched, stack, synthetic_samples
from .cycles import executions
from .cycles.executions import Uncountable

_MARK = "_ZN3tmf7Learner9configureERKNS_8protocol9ConfigureE"  # called before and after the round
_OURS = ("Authentication", "Blake2s")  # in the names of functions


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
        chosen = experiment.model_copy(update={"run": experiment.run.model_copy(update={"security": security})})
        designed = measured_design(chosen, source)
        facts = in_qemu(board, designed.boards)
        observer.stage(f"building firmware for {board}, run.security = '{security}'")
        built = build_firmware(designed, board)
        observer.stage(f"a round on {board}")
        traffic, total, ours = _round(chosen, built, facts)
        depth = stack.deepest(chosen, built, facts)
        costs.append(RoundCost(built.flash_bytes, built.ram_bytes, depth, traffic.down, traffic.up, total, ours))
        window = built.manifest.receive_window
        steps = open_strategy(chosen, built.manifest).training_recipe().steps
    return AuthenticationCost(board, window, steps, *costs)


def _round(experiment: Experiment, built: Firmware, board: Board) -> tuple[Traffic, int, int]:
    """The traffic of a round, all its instructions, and those of MACs."""
    manifest = built.manifest
    strategy = open_strategy(experiment, manifest)
    recipe, start = strategy.training_recipe(), initial(manifest, experiment.run.seed, experiment.model.init)
    with tempfile.TemporaryDirectory(prefix="tinymetafed-bench-") as folder:
        out = Path(folder) / "executions"
        try:
            assert board.emulator is not None
            listing = executions.disassemble(built.program, board.toolchain_prefix)
            options = executions.options(executions.plugin(board.emulator[0]), listing, _MARK, out)
        except Uncountable as reason:
            raise BenchError(f"board '{board.name}': its instructions cannot be counted: {reason}") from None
        spec = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
        with launched(spec, built, boards=Catalogue(board.project), icount=True, options=options) as device:
            session = device.session
            session.configure(Program.TRAIN, recipe)
            before, token = session.traffic, session.next_token()
            session.load(token, strategy.download(start[: strategy.n_global]))
            session.train(token, Program.TRAIN, 1, 0, 0)
            if manifest.streamed:
                session.stream(token, synthetic_samples(manifest, recipe.steps))
            else:
                session.await_done(token, recipe.steps)
            pulled(session, token, recipe, strategy.n_global, codes_values=strategy.spec.codes_values)
            traffic = session.traffic - before
            session.configure(Program.TRAIN, recipe)
        (counts,) = executions.read(out)
    places = sorted((address, name) for name, address in listing.functions.items())
    total = ours = 0
    for address, execution in counts.items():
        total += execution.executed
        _, function = places[bisect_right(places, (address, "\x7f")) - 1]
        ours += execution.executed * any(word in function for word in _OURS)
    return traffic, total, ours
