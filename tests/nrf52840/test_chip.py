"""The nRF52840's firmware, run instruction by instruction on a model of the chip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_runs import Quiet, sine

from tinymetafed.devices.link.link_errors import DeviceRefused
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.running import build_firmware, running
from tinymetafed.learn.codecs import downlink
from tinymetafed.learn.strategies import open_strategy
from tinymetafed.runs.setup import design_of
from tinymetafed.wire.frame import Decoder, encode
from tinymetafed_codegen.board import board_requirements, boards
from tinymetafed_codegen.optional_messages.store_messages import StoreState
from tinymetafed_codegen.protocol import Delta, Dtype, Hello, Program, Recipe, Status

pytest.importorskip("unicorn", reason="unicorn is not installed: `pip install -e .[dev]`")
if lacking := [tool for tool in boards.missing_tools("nrf52840") if tool.to_build]:
    pytest.skip(f"{lacking[0].name} is not installed: {board_requirements.remedy(lacking)}", allow_module_level=True)

from chip import Chip, ChipError, RenodeUarte, Uarte, Wire

UNIQUE_ID = 0x0123456789ABCDEF
SEED, CLIENT, ROUND = 7, 3, 5
HELLO = encode(Hello.type_id, 0, Hello().pack())
WINDOW = boards.load("nrf52840").receive_window

pytestmark = [pytest.mark.usefixtures("built_once"), pytest.mark.xdist_group("nrf52840")]


@pytest.fixture(params=[Uarte, RenodeUarte], ids=["silicon", "Renode"])
def chip(request: pytest.FixtureRequest) -> Chip:
    return Chip(build_firmware(design_of(sine(), "test"), "nrf52840").program, UNIQUE_ID, request.param)


on_silicon = pytest.mark.parametrize("chip", [pytest.param(Uarte, id="silicon")], indirect=True)


@pytest.fixture
def session(chip: Chip) -> Iterator[Session]:
    wire = Wire(chip)
    with Session(wire, clock=wire) as session:
        session.hello()
        yield session


def a_round(session: Session, manifest: dict[str, Any], number: int) -> tuple[np.ndarray, list[Delta]]:
    """Weights and delta after one round of the sine example."""
    strategy = open_strategy(sine(), manifest)
    n_global, k = manifest.n_global, strategy.top_k
    weights = np.random.default_rng(number).normal(0, 0.2, n_global).astype(np.float32)
    recipe = Recipe(strategy.training(), k, Dtype.I8)
    session.configure(Program.TRAIN, recipe)
    session.load(number, downlink.encode(weights, Dtype.F16, [tensor.size for tensor in manifest.global_tensors]))
    session.train(number, Program.TRAIN, SEED, CLIENT, ROUND)
    session.await_done(number, recipe.steps)
    return session.fetch(0, manifest.n_parameters), session.pull(number, k)


def test_hello_names_the_chips_board_and_id(chip: Chip) -> None:
    wire = Wire(chip)
    with Session(wire, clock=wire) as session:
        hello = session.hello()
    assert hello.board.rstrip(b"\0") == b"nrf52840"
    assert hello.unique_id == UNIQUE_ID.to_bytes(8, "big")
    assert (hello.receive_window, hello.ticks_per_second) == (WINDOW, 16_000_000)


def test_rounds_end_on_the_bits_of_the_native_process(chip: Chip, session: Session) -> None:
    experiment = sine()
    manifest = design_of(experiment, "test", "nrf52840").manifest
    with running(design_of(experiment, "test"), ["native:1"], Quiet()) as fleet:
        native = fleet.devices[0].session
        for number in (1, 2):
            weights, delta = a_round(session, manifest, number)
            expected, expected_delta = a_round(native, manifest, number)
            np.testing.assert_array_equal(weights.view(np.uint32), expected.view(np.uint32))
            assert delta == expected_delta
    assert chip.uarte.overruns == 0, "one interrupt per byte is in time for 115200 baud"


def test_the_instruction_cache_is_on(chip: Chip, session: Session) -> None:
    assert chip.nvmc.cache


@on_silicon
def test_the_chip_measures_its_stack_and_its_supply(chip: Chip) -> None:
    experiment = sine("board.measures=true", "model.layers=[{op='dense',units=3,activation='relu'},{op='dense',units=1}]")
    measuring = Chip(build_firmware(design_of(experiment, "test"), "nrf52840").program, UNIQUE_ID)
    wire = Wire(measuring)
    with Session(wire, clock=wire) as session:
        session.hello()
        found = session.measurements()
    assert found is not None and found.millivolts == 3300 and 100 < found.stack_bytes < 4096
    plain = Wire(chip)
    with Session(plain, clock=plain) as session:
        session.hello()
        assert session.measurements() is None


def answers(chip: Chip) -> int:
    """Runs the chip until it sleeps; returns the number of valid frames that it has sent."""
    while not chip.idle:
        chip.run()
    frames = Decoder().feed(bytes(chip.sent))
    chip.sent.clear()
    return len(frames)


def test_bytes_beyond_the_buffer_wait_or_are_lost_and_later_bytes_arrive(chip: Chip, session: Session) -> None:
    asked = 2 * WINDOW // len(HELLO)
    chip.receive(HELLO * asked)
    chip.busy()
    if isinstance(chip.uarte, RenodeUarte):
        assert answers(chip) == asked
    else:
        assert chip.uarte.overruns > 0
        assert answers(chip) >= WINDOW // len(HELLO)
    chip.receive(b"\0" + HELLO)
    assert answers(chip) == 1


def test_bytes_may_arrive_at_any_instruction_of_the_handler(chip: Chip, session: Session) -> None:
    rest = HELLO[1:] + 3 * HELLO
    amid = len(rest) if isinstance(chip.uarte, RenodeUarte) else 1  # Renode's UARTE0 delivers bytes in bursts
    spoilt = []
    for instructions in range(1, 60):  # the handler has fewer instructions
        chip.receive_amid_handler(HELLO[0], instructions, rest[:amid])
        chip.receive(rest[amid:])
        if answers(chip) != 4:
            spoilt.append(instructions)
        chip.receive(b"\0" + HELLO)
        assert answers(chip) == 1
    if isinstance(chip.uarte, RenodeUarte):
        # Bytes that come between the handler's two writes go past the buffer's end; only these may be lost.
        assert 0 < len(spoilt) < 4
    else:
        assert spoilt == []
    test_rounds_end_on_the_bits_of_the_native_process(chip, session)


def test_after_a_fault_the_chip_restarts_with_the_same_id(chip: Chip, session: Session) -> None:
    manifest = design_of(sine(), "test", "nrf52840").manifest
    weights, _ = a_round(session, manifest, 1)
    chip.crash()
    assert session.hello().unique_id == UNIQUE_ID.to_bytes(8, "big")
    assert chip.resets == 1
    with pytest.raises(DeviceRefused) as refused:
        session.pull(1, 1)
    assert refused.value.status == Status.BAD_STATE
    again, _ = a_round(session, manifest, 1)
    np.testing.assert_array_equal(again, weights)


@on_silicon
def test_time_passes_as_the_line_carries_bytes(chip: Chip, session: Session) -> None:
    before, traffic = chip.now, session.traffic
    session.hello()
    spent = session.traffic - traffic
    seconds = (chip.now - before) / 64_000_000
    assert seconds >= (spent.down + spent.up) * 10 / 115_200 * 0.99


@on_silicon
@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0x200, 1 << 5, "writes 32 to UARTE0 [+] 0x200"),  # Renode does not have shortcuts
        (0x000, 1, "starts to receive twice"),
    ],
)
def test_the_model_stops_at_what_the_port_must_not_do(
    chip: Chip, session: Session, offset: int, value: int, words: str
) -> None:
    with pytest.raises(ChipError, match=words):
        chip.uarte.write(offset, value)


def test_a_dma_from_flash_is_refused(chip: Chip, session: Session) -> None:
    chip.uarte.write(0x544, 0x100)
    with pytest.raises(ChipError, match="not RAM"):
        chip.uarte.write(0x008, 1)


def test_weights_that_are_kept_in_flash_are_there_after_a_reset() -> None:
    experiment = sine("board.store=true")
    made = design_of(experiment, "test", "nrf52840")
    chip = Chip(build_firmware(made, "nrf52840").program, UNIQUE_ID)
    strategy, n = open_strategy(experiment, made.manifest), made.manifest.n_parameters
    wire = Wire(chip)
    with Session(wire, clock=wire) as session:
        session.hello()
        assert session.recall(1).state == StoreState.EMPTY
        session.configure(Program.TRAIN, Recipe(strategy.training(), strategy.top_k))
        session.load(1, strategy.download(np.linspace(-1, 1, strategy.n_global, dtype=np.float32)))
        kept = session.fetch(0, n)
        assert session.keep().state == StoreState.READY
        assert chip.nvmc.erases == made.manifest.store.slot_pages
    chip.reset()
    with Session(wire, clock=wire) as session:
        session.hello()
        assert session.recall(1).saves == 1
        np.testing.assert_array_equal(session.fetch(0, n), kept)


def test_a_chip_without_an_nvmc_goes_on_and_says_so() -> None:
    made = design_of(sine("board.store=true"), "test", "nrf52840")
    wire = Wire(Chip(build_firmware(made, "nrf52840").program, UNIQUE_ID, RenodeUarte))
    with Session(wire, clock=wire) as session:
        session.hello()
        assert session.recall(1).state == StoreState.MISSING
        strategy = open_strategy(sine(), made.manifest)
        session.configure(Program.TRAIN, Recipe(strategy.training(), strategy.top_k))
        session.load(1, strategy.download(np.zeros(strategy.n_global, np.float32)))
        assert session.keep().state == StoreState.MISSING
        assert session.predict(np.ones((1, 1), np.float32), 1).shape == (1, 1)
