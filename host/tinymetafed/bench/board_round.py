"""One round on an emulated board: its bytes on the line, and the exact instructions of everything that the board does."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from tinymetafed_codegen.board.board_facts import Board
from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import Program
from tinymetafed_codegen.spec import Experiment
from tinymetafed_codegen.temporary import temporary_folder

from ..devices.client_program import pulled
from ..devices.device_urls import DeviceSpec
from ..devices.firmware import Firmware
from ..devices.link.session import Session
from ..federation.clients import Traffic
from ..learn.codecs.delta import Sparse
from ..learn.codecs.difference import Versions
from ..learn.server_optimiser import ServerState
from ..learn.strategies import Strategy, open_strategy
from ..learn.weights import Floats, initial
from . import BenchError, launched, synthetic_samples
from .cycles import executions
from .cycles.executions import Uncountable

_MARK = "_ZN3tmf7Learner9configureERKNS_8protocol9ConfigureE"  # called before and after the round


@dataclass(frozen=True)
class BoardRound:
    """A round: its traffic, all its instructions, and ``counted``, those of each group of functions that was asked for."""

    traffic: Traffic
    instructions: int
    counted: tuple[int, ...]


def measure(experiment: Experiment, built: Firmware, board: Board, groups: Sequence[Sequence[str]] = ()) -> BoardRound:
    """Trains a round of an experiment on an emulated board: the first, or with downloads by difference the second.

    Args:
        experiment: The experiment; streamed samples are synthetic.
        built: Its firmware.
        board: The board that the firmware is for.
        groups: The functions with one of a group's words in their names are counted by themselves.

    Raises:
        BenchError: The emulator cannot count instructions.
        LinkError: The board failed.
    """
    manifest = built.manifest
    strategy = open_strategy(experiment, manifest)
    start = initial(manifest, experiment.run.seed, experiment.model.init)[: strategy.n_global]
    with temporary_folder("bench") as folder:
        out = folder / "executions"
        try:
            assert board.emulator is not None
            listing = executions.disassemble(built.program, board.toolchain_prefix)
            options = executions.options(executions.plugin(board.emulator[0]), listing, _MARK, out)
        except Uncountable as reason:
            raise BenchError(f"board '{board.name}': its instructions cannot be counted: {reason}") from None
        spec = DeviceSpec(f"qemu:1@{board.name}", "qemu", board.name)
        with launched(spec, built, boards=Catalogue(board.project), icount=True, options=options) as device:
            session, recipe = device.session, strategy.training_recipe()
            if strategy.spec.takes_differences:
                session.versions = Versions()
                session.configure(Program.TRAIN, recipe)
                first = _round(session, strategy, manifest, start, 0)
                start, _ = strategy.step(start, [first], 0, ServerState())
                session.configure(Program.TRAIN, recipe)  # what is counted lies between two calls
            session.configure(Program.TRAIN, recipe)
            before = session.traffic
            _round(session, strategy, manifest, start, 0)
            traffic = session.traffic - before
            session.configure(Program.TRAIN, recipe)
        *_, counts = executions.read(out)
    places = sorted((address, name) for name, address in listing.functions.items())
    total, counted = 0, [0] * len(groups)
    for address, execution in counts.items():
        total += execution.executed
        _, function = places[bisect_right(places, (address, "\x7f")) - 1]
        for i, words in enumerate(groups):
            counted[i] += execution.executed * any(word in function for word in words)
    return BoardRound(traffic, total, tuple(counted))


def _round(session: Session, strategy: Strategy, manifest: ModelManifest, weights: Floats, client: int) -> Sparse:
    """The update of a client; ``weights``: float32[n_global]."""
    recipe, token = strategy.training_recipe(), session.next_token()
    session.load(token, strategy.download(weights))
    session.train(token, Program.TRAIN, 1, client, client)
    if manifest.streamed:
        session.stream(token, synthetic_samples(manifest, recipe.steps))
    else:
        session.await_done(token, recipe.steps)
    spec = strategy.spec
    return pulled(session, token, recipe, strategy.n_global, codes_values=spec.codes_values, levels=spec.uplink_levels)
