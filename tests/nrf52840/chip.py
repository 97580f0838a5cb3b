"""A model of the nRF52840: Unicorn executes the firmware, and this file models the peripherals that the port uses.

UARTE0, TIMER0, SAADC, RNG and NVMC follow Nordic's product specification; access to any other peripheral ends the test. A
second UARTE0 behaves like Renode's, after its source. Time is counted in instructions, one per cycle. An interrupt's handler
runs as a subroutine between two instructions, with the stack frame that the core would have pushed.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import unicorn
from unicorn import arm_const as arm

CYCLES_PER_SECOND = 64_000_000
CYCLES_PER_TICK = 4  # TIMER0 without its prescaler counts 16 MHz
CYCLES_PER_BYTE = CYCLES_PER_SECOND * 10 // 115_200
SLICE = 20_000  # instructions between two checks of the wire
FIFO_BYTES = 1  # bytes that wait for a DMA to start; the real chip has more, and a driver that is fast enough needs none

FLASH, FLASH_BYTES = 0, 0x100000
RAM, RAM_BYTES = 0x20000000, 0x40000
FICR, DEVICE_ID = 0x10000000, 0x10000060
STORAGE, STORAGE_BYTES = 0xE0000, 0x20000  # the part of the flash that the firmware may write, by the NVMC
PERIPHERALS = (0x40000000, 0x40002000, 0x40007000, 0x40008000, 0x4000D000, 0x4001E000, 0x50000000, 0xE000E000)
PAGE = 0x1000
RETURN = 0x1FFFF000  # return address of handlers; Unicorn would interpret the core's own EXC_RETURN values
NOWHERE = 0x60000000
WAIT_FOR_INTERRUPT = b"\x30\xbf"
ENDLESS_LOOP = b"\xfe\xe7"
THUMB = 1
HARD_FAULT_VECTOR = 3
UARTE_VECTOR = 16 + 2

RECEIVED, TRANSMITTED = 0x110, 0x120  # events, by their addresses in the UARTE
RESET_CORE = 0x05FA0004

FRAME_REGISTERS = (arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R1, arm.UC_ARM_REG_R2, arm.UC_ARM_REG_R3, arm.UC_ARM_REG_R12,
                   arm.UC_ARM_REG_LR, arm.UC_ARM_REG_PC, arm.UC_ARM_REG_XPSR)  # fmt: skip
FLOATS = tuple(arm.UC_ARM_REG_S0 + i for i in range(16))
FRAME = struct.Struct("<8I16IIxxxx")  # with the floating-point registers, as if they were always in use
REALIGNED = 1 << 9  # in the frame's XPSR: the stack was moved to a multiple of 8


class ChipError(AssertionError):
    """The firmware did something that the chip forbids or that this model does not have."""


class Uarte:
    """UARTE0: every transfer is a DMA, which raises its event when its buffer is full and stops until started again."""

    quantum = 1  # bytes arrive at multiples of this number of cycles
    cycles_per_byte = CYCLES_PER_BYTE

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._registers: dict[int, int] = {}
        self._events = {RECEIVED: False, TRANSMITTED: False}
        self._interrupts = 0
        self._fifo: deque[int] = deque()
        self._listening = self._receiving = False
        self._next = self._end = 0
        self.transmitting_until: int | None = None
        self.overruns = 0

    @property
    def interrupt(self) -> bool:
        return any(happened and self._interrupts >> (event - 0x100) // 4 & 1 for event, happened in self._events.items())

    def arrive(self, byte: int) -> None:
        """A byte from the line."""
        if not self._listening:
            return
        if not self._receiving and len(self._fifo) == FIFO_BYTES:
            self.overruns += 1
            return
        self._fifo.append(byte)
        self._move()

    def advance(self, now: int) -> None:
        if self.transmitting_until is not None and now >= self.transmitting_until:
            self.transmitting_until = None
            self._events[TRANSMITTED] = True

    def read(self, offset: int) -> int:
        if offset in self._events:
            if offset == TRANSMITTED and self.transmitting_until is not None:
                self._chip.skip_to(self.transmitting_until)
            return int(self._events[offset])
        raise ChipError(f"reads UARTE0 + 0x{offset:x}")

    def write(self, offset: int, value: int) -> None:
        if offset == 0x000 and value == 1:
            self._start_receive()
        elif offset == 0x008 and value == 1:
            self._start_transmit()
        elif offset in self._events and value == 0:
            self._events[offset] = False
        elif offset == 0x304:
            self._interrupts |= value
        elif offset == 0x308:
            self._interrupts &= ~value
        elif offset in (0x500, 0x50C, 0x514, 0x524, 0x534, 0x538, 0x544, 0x548):
            self._registers[offset] = value
        else:
            raise ChipError(f"writes {value} to UARTE0 + 0x{offset:x}")

    def _ready(self) -> None:
        expected = {0x500: 8, 0x50C: 32 | 3, 0x514: 32 | 10, 0x524: 0x01D60000}  # enabled, TX P1.03, RX P1.10, 115200 baud
        if any(self._registers.get(offset) != value for offset, value in expected.items()):
            raise ChipError(f"starts UARTE0 set up as {self._registers}")

    def _buffer(self, offset: int) -> tuple[int, int]:
        address, size = self._registers[offset], self._registers[offset + 4]
        if not (size > 0 and RAM <= address <= RAM + RAM_BYTES - size):
            raise ChipError(f"DMA of {size} bytes at 0x{address:08x}, which is not RAM")
        return address, size

    def _start_receive(self) -> None:
        self._ready()
        if self._receiving:
            raise ChipError("starts to receive twice")
        self._next, size = self._buffer(0x534)
        self._end = self._next + size
        self._listening = self._receiving = True
        self._move()

    def _move(self) -> None:
        while self._receiving and self._fifo:
            self._chip.core.mem_write(self._next, bytes([self._fifo.popleft()]))
            self._next += 1
            if self._next == self._end:
                self._receiving = False
                self._events[RECEIVED] = True

    def _start_transmit(self) -> None:
        self._ready()
        if self.transmitting_until is not None:
            raise ChipError("starts to transmit twice")
        address, size = self._buffer(0x544)
        self._chip.sent += self._chip.core.mem_read(address, size)
        self.transmitting_until = self._chip.now + size * self.cycles_per_byte


class RenodeUarte(Uarte):
    """UARTE0 as in Renode: bytes arrive at once and wait without limit, but may be written past the buffer's end."""

    quantum = CYCLES_PER_SECOND // 1000
    cycles_per_byte = 0

    def arrive(self, byte: int) -> None:
        if self._listening:
            self._fifo.append(byte)
            self._move()

    def _start_receive(self) -> None:
        self._next, size = self._buffer(0x534)
        self._end = self._next + size
        self._listening = True
        if self._fifo:
            self._move()

    def _move(self) -> None:
        if self._events[RECEIVED]:
            return
        # One byte whether or not the DMA was started again; past the buffer's end it raises no event.
        self._chip.core.mem_write(self._next, bytes([self._fifo.popleft()]))
        self._next += 1
        self._events[RECEIVED] = self._next == self._end


class Timer:
    """TIMER0 as a 32-bit counter."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._registers: dict[int, int] = {}
        self._started: int | None = None

    def read(self, offset: int) -> int:
        if offset == 0x540:
            return self._registers[0x540]
        raise ChipError(f"reads TIMER0 + 0x{offset:x}")

    def write(self, offset: int, value: int) -> None:
        if offset == 0x000 and value == 1:
            self._started = self._chip.now
        elif offset == 0x040 and value == 1 and self._started is not None:
            if (self._registers[0x504], self._registers[0x508], self._registers[0x510]) != (0, 3, 0):
                raise ChipError(f"reads TIMER0 set up as {self._registers}")
            self._registers[0x540] = (self._chip.now - self._started) // CYCLES_PER_TICK & 0xFFFFFFFF
        elif offset in (0x504, 0x508, 0x510):
            self._registers[offset] = value
        else:
            raise ChipError(f"writes {value} to TIMER0 + 0x{offset:x}")


class Converter:
    """The SAADC with one channel on the supply: each task's event comes at once, and a sample is written to RAM."""

    RAW = 3755  # of 3.3 V

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self._registers: dict[int, int] = {}

    def read(self, offset: int) -> int:
        return self._registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        self._registers[offset] = value
        on = self._registers.get(0x500) == 1
        if offset in (0, 4, 8) and not on:
            raise ChipError("starts a task of the SAADC, which is off")
        if offset == 0:
            self._registers[0x100] = 1
        elif offset == 4:
            supply = self._registers.get(0x510) == 9 and self._registers.get(0x518) == 3 << 16
            if not supply or self._registers.get(0x5F0) != 2 or self._registers.get(0x630) != 1:
                raise ChipError("samples with the SAADC, which is not set to 12 bits of the supply")
            self._chip.core.mem_write(self._registers[0x62C], struct.pack("<h", self.RAW))
            self._registers[0x104] = 1
        elif offset == 8:
            self._registers[0x114] = 1


class RandomNumbers:
    """The RNG: after START the event VALRDY comes with every byte, until STOP."""

    def __init__(self) -> None:
        self.made = 0
        self._started = False
        self._config = 0

    def read(self, offset: int) -> int:
        if offset == 0x100:
            return int(self._started)
        if offset == 0x508 and self._started and self._config == 1:
            self.made += 1
            return os.urandom(1)[0]
        raise ChipError(f"reads RNG + 0x{offset:x}")

    def write(self, offset: int, value: int) -> None:
        if offset in (0, 4) and value == 1:
            self._started = offset == 0
        elif offset == 0x504 and value in (0, 1):
            self._config = value
        elif not (offset == 0x100 and value == 0):
            raise ChipError(f"writes {value} to RNG + 0x{offset:x}")


class Nvmc:
    """The NVMC, which writes words of erased flash and erases pages; and the protection unit, which must allow it."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        self.present = chip.has_nvmc
        self._config = 0
        self._region = 0
        self._regions: dict[int, list[int]] = {}
        self.erases = 0
        self.cache = False  # of instructions

    def read(self, offset: int) -> int:
        if offset == 0x400:
            return int(self.present)  # ready: the processor has stood still meanwhile
        raise ChipError(f"reads NVMC + 0x{offset:x}")

    def write(self, offset: int, value: int) -> None:
        if offset == 0x540 and value in (0, 1):
            self.cache = bool(value)
        elif offset == 0x504 and value in (0, 1, 2):
            self._config = value
        elif offset == 0x508 and self._config == 2 and value % PAGE == 0 and STORAGE <= value < STORAGE + STORAGE_BYTES:
            self._chip.core.mem_write(value, b"\xff" * PAGE)
            self.erases += 1
        else:
            raise ChipError(f"writes 0x{value:x} to NVMC + 0x{offset:x}, its config is {self._config}")

    def protect(self, address: int, value: int) -> None:
        """A write to the protection unit: region number, base or attributes."""
        if address == 0xE000ED98:
            self._region = value
        elif address in (0xE000ED9C, 0xE000EDA0):
            self._regions.setdefault(self._region, [0, 0])[address == 0xE000EDA0] = value

    def program(self, address: int, size: int, value: int) -> None:
        """A store of the processor to the flash."""
        if self._config != 1 or size != 4 or address % 4:
            raise ChipError(f"stores {size} bytes to the flash at 0x{address:x}, the NVMC's config is {self._config}")
        if self._chip.core.mem_read(address, 4) != b"\xff" * 4:
            raise ChipError(f"writes the word at 0x{address:x} twice")
        over = [
            region for region, (base, rights) in self._regions.items() if base <= address < base + (2 << (rights >> 1 & 31))
        ]
        if not over or self._regions[max(over)][1] >> 24 & 7 != 3:
            raise ChipError(f"the protection unit forbids to write at 0x{address:x}")


class Chip:
    """The chip with a program in its flash; bytes put on the wire with ``receive`` arrive while it runs."""

    def __init__(self, program: Path, unique_id: int, uarte: type[Uarte] = Uarte) -> None:
        self._make_uarte = uarte
        self.has_nvmc = uarte is Uarte  # Renode has no model of it
        self._amid_handler: tuple[int, bytes] | None = None
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        core.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
        core.mem_map(FLASH, STORAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        core.mem_map(STORAGE, STORAGE_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        core.mem_write(STORAGE, b"\xff" * STORAGE_BYTES)
        core.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._program, begin=STORAGE, end=STORAGE + STORAGE_BYTES - 1)
        core.mem_map(RAM, RAM_BYTES)
        core.mem_map(FICR, PAGE, unicorn.UC_PROT_READ)
        core.mem_map(RETURN, PAGE)
        core.mem_write(RETURN, ENDLESS_LOOP * 2)
        core.mem_write(DEVICE_ID, struct.pack("<Q", unique_id))
        for base in PERIPHERALS:
            core.mmio_map(base, PAGE, self._read, base, self._write, base)
        self._load(program)
        self.now = 0
        self.resets = 0
        self.wire: deque[int] = deque()
        self.sent = bytearray()
        self._next_arrival = 0
        self._trouble: ChipError | None = None
        self.reset()

    def reset(self) -> None:
        """Resets the chip as at power-on, but keeps the RAM."""
        stack, start = struct.unpack("<II", self.core.mem_read(FLASH, 8))
        for register in (arm.UC_ARM_REG_PRIMASK, arm.UC_ARM_REG_XPSR):
            self.core.reg_write(register, 0)
        self.core.reg_write(arm.UC_ARM_REG_SP, stack)
        self.core.reg_write(arm.UC_ARM_REG_PC, start | THUMB)
        self.uarte = self._make_uarte(self)
        self._timer = Timer(self)
        self.nvmc = Nvmc(self)
        self.random_numbers = RandomNumbers()
        self.converter = Converter(self)
        self._enabled_interrupts = 0
        self._asleep = self._reset_wanted = False

    def receive(self, data: bytes) -> None:
        """Starts to send ``data`` to the chip."""
        if not self.wire:
            quantum = self.uarte.quantum
            self._next_arrival = (self.now + self.uarte.cycles_per_byte) // quantum * quantum + quantum
        self.wire.extend(data)

    def receive_amid_handler(self, first: int, instructions: int, rest: bytes) -> None:
        """Sends ``first``; ``rest`` arrives after so many instructions of the handler of ``first``."""
        self._amid_handler = instructions, rest
        self.receive(bytes([first]))

    @property
    def idle(self) -> bool:
        """Whether the chip sleeps with nothing pending that could wake it."""
        return self._asleep and not self.wire and not self._interrupted

    def run(self) -> None:
        """Runs for a limited time, or until the chip sleeps and waits for a byte. Raises ChipError."""
        self._deliver()
        if self._asleep and self.wire:
            self.now = max(self.now, self._next_arrival)
            self._deliver()
        if self._interrupted:
            self._asleep = False
            if not self.core.reg_read(arm.UC_ARM_REG_PRIMASK):
                self._handle_interrupt()
        if self._asleep:
            return
        # A pending interrupt that is masked is taken as soon as it is unmasked.
        self._execute(1 if self._interrupted else min(SLICE, self._cycles_to_arrival()), stop_at=RETURN)

    def crash(self) -> None:
        """Makes the program jump to an invalid address."""
        self._asleep = False
        self.core.reg_write(arm.UC_ARM_REG_PC, NOWHERE | THUMB)

    def busy(self) -> None:
        """Keeps the program in an endless loop until all bytes have arrived; interrupts are taken."""
        program = self.core.context_save()
        self._asleep = False  # it stays awake: an interrupt wakes it
        self.core.reg_write(arm.UC_ARM_REG_PRIMASK, 0)
        self.core.reg_write(arm.UC_ARM_REG_PC, RETURN + len(ENDLESS_LOOP) | THUMB)
        while self.wire:
            self.run()
        self.core.context_restore(program)

    def skip_to(self, cycle: int) -> None:
        """Skips to ``cycle``, or to an earlier byte, while the firmware only waits."""
        self.now = min(cycle, max(self.now, self._next_arrival)) if self.wire else cycle
        self.uarte.advance(self.now)
        self.core.emu_stop()

    @property
    def _interrupted(self) -> bool:
        return self.uarte.interrupt and bool(self._enabled_interrupts >> 2 & 1)

    def _cycles_to_arrival(self) -> int:
        return max(1, self._next_arrival - self.now) if self.wire else SLICE

    def _deliver(self) -> None:
        self.uarte.advance(self.now)
        while self.wire and self.now >= self._next_arrival:
            self.uarte.arrive(self.wire.popleft())
            self._next_arrival += self.uarte.cycles_per_byte

    def _execute(self, count: int, stop_at: int) -> None:
        before = self.now
        try:
            self.core.emu_start(self.core.reg_read(arm.UC_ARM_REG_PC) | THUMB, stop_at, count=count)
        except unicorn.UcError:
            if self._trouble is None:
                self._enter(HARD_FAULT_VECTOR)
        if self._trouble is not None:
            raise self._trouble
        if self.now == before:  # otherwise the time was skipped
            self.now += count
        if self._reset_wanted:
            self.resets += 1
            self.reset()

    def _handle_interrupt(self) -> None:
        self._enter(UARTE_VECTOR)
        self.core.reg_write(arm.UC_ARM_REG_LR, RETURN | THUMB)
        if self._amid_handler is not None:
            instructions, data = self._amid_handler
            self._amid_handler = None
            self._execute(instructions, stop_at=RETURN)
            for byte in data:
                self.uarte.arrive(byte)
        until = self.now + 1000  # a handler that takes longer is faulty
        while self.core.reg_read(arm.UC_ARM_REG_PC) != RETURN:
            if self.now >= until:
                raise ChipError("the interrupt's handler does not return")
            self._execute(100, stop_at=RETURN)
        self._leave()

    def _enter(self, vector: int) -> None:
        """Pushes the frame of an exception and jumps to its handler."""
        words = [self.core.reg_read(register) for register in FRAME_REGISTERS]
        floats = [self.core.reg_read(register) for register in FLOATS]
        stack = self.core.reg_read(arm.UC_ARM_REG_SP)
        words[7] = words[7] & ~REALIGNED | (REALIGNED if stack & 4 else 0)
        stack = (stack & ~4) - FRAME.size
        self.core.mem_write(stack, FRAME.pack(*words, *floats, self.core.reg_read(arm.UC_ARM_REG_FPSCR)))
        self.core.reg_write(arm.UC_ARM_REG_SP, stack)
        self.core.reg_write(arm.UC_ARM_REG_XPSR, 1 << 24)
        (handler,) = struct.unpack("<I", self.core.mem_read(FLASH + 4 * vector, 4))
        self.core.reg_write(arm.UC_ARM_REG_PC, handler | THUMB)

    def _leave(self) -> None:
        """Pops the frame."""
        stack = self.core.reg_read(arm.UC_ARM_REG_SP)
        *words, status = FRAME.unpack(self.core.mem_read(stack, FRAME.size))
        self.core.reg_write(arm.UC_ARM_REG_SP, stack + FRAME.size | (4 if words[7] & REALIGNED else 0))
        for register, word in zip((*FRAME_REGISTERS[:6], *FLOATS), (*words[:6], *words[8:]), strict=True):
            self.core.reg_write(register, word)
        self.core.reg_write(arm.UC_ARM_REG_FPSCR, status)
        self.core.reg_write(arm.UC_ARM_REG_PC, words[6] | THUMB)
        self.core.reg_write(arm.UC_ARM_REG_XPSR, words[7] & ~REALIGNED)

    def _load(self, program: Path) -> None:
        elf = program.read_bytes()
        (headers,) = struct.unpack_from("<I", elf, 28)
        (count,) = struct.unpack_from("<H", elf, 44)
        for i in range(count):
            kind, offset, _, address, size, *_ = struct.unpack_from("<8I", elf, headers + 32 * i)
            if kind == 1:
                self.core.mem_write(address, elf[offset : offset + size])
        text = bytes(self.core.mem_read(FLASH, FLASH_BYTES))
        at = text.find(WAIT_FOR_INTERRUPT)
        while at >= 0:
            if at % 2 == 0:
                self.core.hook_add(unicorn.UC_HOOK_CODE, self._sleep, begin=at, end=at)
            at = text.find(WAIT_FOR_INTERRUPT, at + 1)

    def _sleep(self, core: unicorn.Uc, address: int, size: int, data: object) -> None:
        self._asleep = True

    def _read(self, core: unicorn.Uc, offset: int, size: int, base: int) -> int:
        try:
            if base == 0x40002000:
                return self.uarte.read(offset)
            if base == 0x40008000:
                return self._timer.read(offset)
            if base == 0x40007000:
                return self.converter.read(offset)
            if base == 0x4000D000:
                return self.random_numbers.read(offset)
            if base == 0x4001E000:
                return self.nvmc.read(offset)
            if base + offset == 0xE000ED88:
                return 0
            raise ChipError(f"reads 0x{base + offset:08x}")
        except ChipError as error:
            self._stop(error)
            return 0

    def _write(self, core: unicorn.Uc, offset: int, size: int, value: int, base: int) -> None:
        address = base + offset
        try:
            if base == 0x40002000:
                self.uarte.write(offset, value)
            elif base == 0x40008000:
                self._timer.write(offset, value)
            elif base == 0x40007000:
                self.converter.write(offset, value)
            elif base == 0x4000D000:
                self.random_numbers.write(offset, value)
            elif base == 0x4001E000:
                self.nvmc.write(offset, value)
            elif 0xE000ED94 <= address <= 0xE000EDA0:
                self.nvmc.protect(address, value)
            elif address == 0xE000E100:
                self._enabled_interrupts |= value
            elif address == 0xE000ED0C and value == RESET_CORE:
                self._reset_wanted = True
                self.core.emu_stop()
            elif address not in _TAKEN:
                raise ChipError(f"writes 0x{value:x} to 0x{address:08x}")
        except ChipError as error:
            self._stop(error)

    def _program(self, core: unicorn.Uc, access: int, address: int, size: int, value: int, data: object) -> None:
        try:
            self.nvmc.program(address, size, value & 0xFFFFFFFF)
        except ChipError as error:
            self._stop(error)

    def _stop(self, error: ChipError) -> None:
        """Stores the error and stops, as Unicorn loses exceptions raised in its callbacks."""
        self._trouble = error
        self.core.emu_stop()


# Registers whose writes have no effect here: start of the crystal, TX as a high output, RX as an input, FPU on.
_TAKEN = {0x40000000, 0x50000808, 0x50000818, 0x50000700 + 0x300 + 4 * 10, 0xE000ED88}


class Wire:
    """The serial line to a chip, as a transport and as a clock: the chip runs and time passes while the host waits."""

    name = "nrf52840"
    baud = 115_200

    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self._idle_seconds = 0.0

    def monotonic(self) -> float:
        return self.chip.now / CYCLES_PER_SECOND + self._idle_seconds

    def sleep(self, seconds: float) -> None:
        self._idle_seconds += seconds

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.sleep(seconds)

    def read(self, timeout: float) -> bytes:
        until = self.monotonic() + timeout
        while not self.chip.sent and (left := until - self.monotonic()) > 0:
            if self.chip.idle:
                self.sleep(left)
            else:
                self.chip.run()
        data = bytes(self.chip.sent)
        self.chip.sent.clear()
        return data

    def write(self, data: bytes) -> None:
        self.chip.receive(data)

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass
