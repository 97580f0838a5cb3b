// Vectors, reset and receive interrupt of the windowed Xtensa core: code that runs before or between C++ functions.

  // The core defines the offsets of the entries. Every exception that has no handler here leads to `fault`.
  .section .vectors, "ax"
  .align 4

// Window overflow and underflow: save a window's eight registers to its frame's stack, and restore them. The compiler uses
// only call8, so the handlers for windows of 4 and 12 registers never run.
  .org 0x000
  j fault_vector
  .org 0x040
  j fault_vector

  .org 0x080
  s32e a0, a9, -16
  l32e a0, a1, -12
  s32e a1, a9, -12
  s32e a2, a9, -8
  s32e a3, a9, -4
  s32e a4, a0, -32
  s32e a5, a0, -28
  s32e a6, a0, -24
  s32e a7, a0, -20
  rfwo

  .org 0x0C0
  l32e a0, a9, -16
  l32e a1, a9, -12
  l32e a2, a9, -8
  l32e a7, a1, -12
  l32e a3, a9, -4
  l32e a4, a7, -32
  l32e a5, a7, -28
  l32e a6, a7, -24
  l32e a7, a7, -20
  rfwu

  .org 0x100
  j fault_vector
  .org 0x140
  j fault_vector
  .org 0x180  // interrupts of levels 2 to 5
  j fault_vector
  .org 0x1C0
  j fault_vector
  .org 0x200
  j fault_vector
  .org 0x240
  j fault_vector
  .org 0x280  // debug
  j fault_vector
  .org 0x2C0  // non-maskable interrupt
  j fault_vector
  .org 0x300  // exceptions in kernel mode, which is never used
  j fault_vector

  .org 0x340  // exceptions in user mode, and interrupts of level 1
  wsr a0, excsave1
  rsr a0, exccause
  beqi a0, 4, receive_vector
fault_vector:
  j fault
receive_vector:
  j receive

  .org 0x3C0  // double exception: one during another exception or during a window handler
  j fault_vector

  .section .handlers, "ax"
  .align 4

// Starts with an empty stack and only this register window in use. An overflow handler reads the caller's stack pointer 12
// bytes below ours. There is no caller: the pointer is stack_end, and the 32 bytes below it are left free for the handler.
.macro begin_anew ps
  movi a0, 0
  wsr a0, windowbase
  rsync
  movi a0, 1
  wsr a0, windowstart
  movi a0, \ps
  wsr a0, ps
  rsync
  movi a0, stack_end
  addi a1, a0, -32
  s32e a0, a1, -12
  movi a0, 0
.endm

  .global reset_handler
reset_handler:
  movi a0, 0
  wsr a0, intenable
  movi a0, 1
  wsr a0, cpenable  // coprocessor 0: float
  movi a0, board_flash_start
  wsr a0, vecbase
  begin_anew 0x40020  // windows are checked, exceptions take the user vector, no interrupt is masked
  movi a2, start
  callx8 a2

// Every fault ends here, whatever the core's state.
  .align 4
fault:
  rsr a0, excvaddr
  wsr a0, excsave2  // saved, as a page lookup by the core may change excvaddr
  begin_anew 0x4002F  // as after reset, but all interrupts are masked
  rsr a10, exccause
  rsr a11, excsave2
  rsr a12, epc1
  movi a2, report_fault
  callx8 a2

// Receive interrupt: moves bytes from the UART to the ring in port.cpp. When the ring is full, the interrupt is turned off
// and bytes stay in the UART, which stops the sender. Uses no stack, as the current one belongs to another window.
  .align 4
receive:
  movi a0, saved
  s32i a2, a0, 0
  s32i a3, a0, 4
  s32i a4, a0, 8
  s32i a5, a0, 12
  s32i a6, a0, 16
  movi a2, 0xFD050020  // UART: data +0, interrupt enable +4, line status +20
  movi a3, receive_ring  // first +0: index of the next byte to remove, end +4: of the next byte to add, bytes +8
  l32i a4, a3, 4
next_byte:
  l32i a5, a2, 20
  bbci a5, 0, received  // no byte received
  addi a6, a4, 1
  movi a5, receive_slots
  l32i a5, a5, 0
  bne a6, a5, not_around
  movi a6, 0
not_around:  // a6: the index after this byte's
  l32i a5, a3, 0
  beq a5, a6, ring_full
  add a5, a3, a4
  l32i a4, a2, 0
  s8i a4, a5, 8
  mov a4, a6
  j next_byte
ring_full:
  movi a5, 0
  s32i a5, a2, 4
received:
  s32i a4, a3, 4
  l32i a2, a0, 0
  l32i a3, a0, 4
  l32i a4, a0, 8
  l32i a5, a0, 12
  l32i a6, a0, 16
  rsr a0, excsave1
  rfe

  .section .bss.saved, "aw", @nobits
  .align 4
saved:
  .space 20
