"""The simulation's threads: each does its share, and a system without free threads only makes it slower."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.toolchain import compiler_flags

PROGRAM = """
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

// Takes the place of the system's function, which has AVAILABLE threads.
static int create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  static int left = AVAILABLE;
  return left-- > 0 ? pthread_create(thread, attributes, run, argument) : EAGAIN;
}
#define pthread_create create
#include "threads.hpp"

int main() {
  uint32_t called[8] = {};
  tmf::sim::on_threads(8, [&called](uint32_t number) { ++called[number]; });
  for (uint32_t times : called) printf("%u ", times);
}
"""


@pytest.mark.parametrize(("available", "called"), [(7, [1] * 8), (2, [1] * 3 + [0] * 5), (0, [1] + [0] * 7)])
def test_every_thread_that_the_system_has_is_called_once(available: int, called: list[int], tmp_path: Path) -> None:
    source, program = tmp_path / "threads.cpp", tmp_path / "threads"
    source.write_text(PROGRAM)
    include = f"-I{find('firmware') / 'sim'}"
    command = [
        "g++",
        *compiler_flags(),
        "-g0",
        f"-DAVAILABLE={available}",
        "-pthread",
        include,
        str(source),
        "-o",
        str(program),
    ]
    subprocess.run(command, check=True)
    assert list(map(int, subprocess.run([program], capture_output=True, text=True, check=True).stdout.split())) == called
