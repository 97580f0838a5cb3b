// Stand-in for RTX's rtx_os.h: the part of a thread's control block that says where its stack is.
#pragma once

#include <stdint.h>

typedef struct {
  void* stack_mem;
  uint32_t stack_size;
} osRtxThread_t;
