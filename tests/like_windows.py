"""Runs a command of tinymetafed in a process that lacks what Windows lacks: modules, functions and signals of POSIX.

python tests/like_windows.py ARGUMENTS of tinymetafed

What this cannot show: paths with backslashes, files that cannot be removed while they are open, and Windows' own serial ports.
"""

from __future__ import annotations

import concurrent.futures.process
import errno
import importlib.metadata
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.popen_spawn_posix
import multiprocessing.resource_tracker
import multiprocessing.shared_memory
import os
import select
import shutil
import signal
import sqlite3
import ssl
import subprocess
import sys
import sysconfig
import types
import webbrowser
from fcntl import LOCK_EX, LOCK_NB, flock
from select import select as wait

import numpy
import platformio.proc
import pooch
import pydantic
import rich.console
import serial.tools.list_ports
import typer
from PIL import Image

from tinymetafed_codegen import host_library  # whose options are for the compiler, which is that of this system

# They look at the system when they are imported, so they are imported before it seems to be another one.
IMPORTED = (
    concurrent.futures.process,
    importlib.metadata,
    multiprocessing.managers,
    multiprocessing.pool,
    multiprocessing.popen_spawn_posix,
    multiprocessing.resource_tracker,
    multiprocessing.shared_memory,
    sqlite3,
    ssl,
    subprocess,
    webbrowser,
    numpy,
    platformio.proc,
    pooch,
    pydantic,
    rich.console,
    serial.tools.list_ports,
    typer,
    Image,
    host_library,
)

LOCKING = types.ModuleType("msvcrt")  # the module of Windows that our locks use


def locking(file: int, mode: int, count: int) -> None:
    """As on Windows: another process's lock is a PermissionError at once, or a deadlock after some attempts."""
    try:
        flock(file, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        if mode == 1:
            wait((), (), (), 0.05)
            raise OSError(errno.EDEADLK, "deadlock") from None
        raise PermissionError(errno.EACCES, "locked") from None


LOCKING.__dict__.update(LK_LOCK=1, LK_NBLCK=2, locking=locking)
MODULES = ("fcntl", "grp", "posix_spawn", "pty", "pwd", "resource", "termios", "tty")
FUNCTIONS = {
    os: (
        *("chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid"),
        *("killpg", "lchown", "mkfifo", "mknod", "openpty", "posix_spawn", "pread", "pwrite", "readv", "sched_getaffinity"),
        *("setpgid", "setsid", "statvfs", "sysconf", "ttyname", "uname", "writev"),
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC"),
    ),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1", "SIGUSR2", "alarm", "pthread_kill"),
    select: ("epoll", "poll"),
}


def main() -> None:
    """Takes away what Windows lacks, then runs the command."""
    sysconfig.get_config_vars()
    which = shutil.which
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
    sys.modules["msvcrt"] = LOCKING
    for module, names in FUNCTIONS.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)

    def which_here(*given: str) -> str | None:  # the real one looks for names that end with .exe
        system, sys.platform = sys.platform, "linux"
        try:
            return which(*given)
        finally:
            sys.platform = system

    shutil.which = which_here  # type: ignore[assignment]
    sys.platform = "win32"
    from tinymetafed.cli import main as tinymetafed

    tinymetafed()


if __name__ == "__main__":
    main()
