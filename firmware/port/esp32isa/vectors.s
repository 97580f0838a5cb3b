// Vectors, reset and receive interrupt of the windowed Xtensa core; what must run before or between C++ functions.

  // The offsets of the entries are the core's. What has no entry here, or is not expected, ends in `fault`.
  .section .vectors, "ax"
  .align 4

// Window overflow and underflow: a register window's eight registers to and from their frame's stack. The compiler calls
// with call8 alone; the handlers for windows of 4 and 12 registers would never run.
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
  .org 0x300  // kernel: never in that mode
  j fault_vector

  .org 0x340  // user: every exception, and interrupts of level 1
  wsr a0, excsave1
  rsr a0, exccause
  beqi a0, 4, receive_vector
fault_vector:
  j fault
receive_vector:
  j receive

  .org 0x3C0  // double: an exception while another one, or a window, was being handled
  j fault_vector

  .section .handlers, "ax"
  .align 4

// No window but this one is in use, the stack is empty. The frame that seems to have called this one, whose stack pointer
// an overflow handler looks for 12 bytes below ours, has no registers to keep.
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

// The end of every fault, from whatever state the core was in.
  .align 4
fault:
  rsr a0, excvaddr
  wsr a0, excsave2  // kept from what reading memory does to it: the core may look up a page
  begin_anew 0x4002F  // the same, all interrupts masked
  rsr a10, exccause
  rsr a11, excsave2
  rsr a12, epc1
  movi a2, report_fault
  callx8 a2

// The UART has bytes: moves them to the ring that port.cpp drains. What finds no room stays in the UART, with the interrupt
// off until there is room again, and so stops the sender. Without a stack, for the one in use is another window's.
  .align 4
receive:
  movi a0, saved
  s32i a2, a0, 0
  s32i a3, a0, 4
  s32i a4, a0, 8
  s32i a5, a0, 12
  s32i a6, a0, 16
  movi a2, 0xFD050020  // UART: data +0, interrupt enable +4, line status +20
  movi a3, receive_ring  // first +0: place of the next byte to take, end +4: of the next one to put, bytes +8
  l32i a4, a3, 4
next_byte:
  l32i a5, a2, 20
  bbci a5, 0, received  // nothing there
  addi a6, a4, 1
  movi a5, receive_slots
  l32i a5, a5, 0
  bne a6, a5, not_around
  movi a6, 0
not_around:  // a6: the place after this byte's
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
