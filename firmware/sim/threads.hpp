// Threads of a call. These are POSIX threads because the standard library's headers would take a fifth of a library's compilation.
#pragma once

#include <pthread.h>

#include <cstdint>

namespace tmf::sim {

constexpr uint32_t kMostThreads = 256;

// Calls serve(0), ..., serve(threads - 1) at the same time, the first in this thread, and returns when all have returned. Where
// the system has no thread left, only some of them are called.
template <typename Serve>
void on_threads(uint32_t threads, const Serve& serve) {
  struct Thread {
    const Serve* serve;
    uint32_t number;
    pthread_t handle;

    static void* run(void* self) {
      const Thread& thread = *static_cast<Thread*>(self);
      (*thread.serve)(thread.number);
      return nullptr;
    }
  };
  if (threads == 0) return;
  Thread others[kMostThreads];
  uint32_t started = 1;
  for (; started < threads; ++started) {
    others[started] = {&serve, started, {}};
    if (pthread_create(&others[started].handle, nullptr, Thread::run, &others[started]) != 0) break;
  }
  serve(0);
  for (uint32_t i = 1; i < started; ++i) pthread_join(others[i].handle, nullptr);
}

}  // namespace tmf::sim
