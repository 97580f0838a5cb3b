"""Processor time of whole runs: the demo, a federation of one process, one of an emulated board, and a simulation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tinymetafed_codegen.locate import find
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.spec import load
from tinymetafed_codegen.temporary import temporary_folder

from ..__main__ import FEW_CYCLES
from ..federation.observer import Observer, Silent
from ..federation.rounds import rounds
from ..learn.strategies.interface import choose_clients
from ..learn.weights import initial
from ..runs import TEST_URL, training
from ..runs.setup import set_up
from ..runs.sites import InSimulation
from ..simulation.compilation import BOARD, compile_kernels
from ..simulation.kernels import Kernels, open_kernels
from ..simulation.simulated_clients import SimulatedClients
from ..simulation.vector_units import choose
from . import BenchError
from .command_cost import spent

EXAMPLE = "examples/sine.toml"
NATIVE_ROUNDS, EMULATED_ROUNDS = (100, 900), (10, 110)  # of a short and of a long run, whose difference counts
NATIVE, EMULATED = "native:1", "qemu:1"
CHOSEN = 1_000  # clients of a round that trains all there are
REPEATS, CHOICES = 5, 200  # rounds and choices; the fastest counts, because other load only makes it slower
STARTS = 3  # runs of a command, likewise
# What `simulate` needs that is not ours: without it, Python would not read an experiment or print a result.
LIBRARIES = "ctypes, jinja2, numpy, pydantic.main, rich.console, sqlite3, typer.main"
_OWN_BUILDS = "TINYMETAFED_BUILD_DIR"


@dataclass(frozen=True)
class RunCost:
    """What runs of examples/sine.toml take; the demo is that of ``make demo`` after the set-up, its firmware's build included.

    ``demo_seconds``: by the clock. ``demo_cpu_seconds``: processor time of all its processes. ``host_ms``: processor time of
    the host by round, with one native process as the only device. ``emulator_ms``: that of an emulator by round.
    ``simulation_seconds``: processor time of the command ``simulate``; ``kernel_seconds``: its part in compiled kernels;
    ``short_seconds``: the command with a single round; ``round_ms``: each further round. ``libraries_seconds``: Python that
    imports LIBRARIES and ends.
    ``choice_percent``: choosing CHOSEN of as many clients, as a share of their simulated round. ``choice_ratio``: choosing
    CHOSEN of a million clients, as a multiple of choosing as many of ten thousand.
    """

    demo_seconds: float
    demo_cpu_seconds: float
    host_ms: float
    emulator_ms: float
    simulation_seconds: float
    kernel_seconds: float
    short_seconds: float
    round_ms: float
    libraries_seconds: float
    choice_percent: float
    choice_ratio: float

    @property
    def python_percent(self) -> float:
        """What ``simulate`` does not spend in compiled kernels, as a share of its processor time."""
        return 100 * (1 - self.kernel_seconds / self.simulation_seconds)

    @property
    def least_python_percent(self) -> float:
        """The share that remains if nothing but the kernels is ours: Python and the libraries still have to start."""
        return 100 * self.libraries_seconds / (self.libraries_seconds + self.kernel_seconds)


def measure(observer: Observer) -> RunCost:
    """Measures them. Raises BenchError, BuildError, LaunchError, LinkError, SpecError or StoreError."""
    observer.stage("whole runs", 7)
    with temporary_folder("bench") as folder:
        demo_seconds, demo_cpu = _demo(folder)
        observer.advance()
        host_ms, _ = _by_round(NATIVE, NATIVE_ROUNDS, folder)
        observer.advance()
        _, emulator_ms = _by_round(EMULATED, EMULATED_ROUNDS, folder)
        observer.advance()
        simulation = min(_simulation(folder / f"simulated-{i}") for i in range(STARTS))
        observer.advance()
        short = min(_simulation(folder / f"short-{i}", "--set", "run.rounds=1") for i in range(STARTS))
        alone = f"import gc; gc.set_threshold({FEW_CYCLES}); import {LIBRARIES}; gc.freeze()"  # as a command does
        libraries = min(_python(folder, "-c", alone)[1] for _ in range(STARTS))
        observer.advance()
        kernels = _in_kernels(folder)
        observer.advance()
    all_, few, many = (_fastest(partial(choose_clients, 1, 0, CHOSEN, of), CHOICES) for of in (CHOSEN, 10_000, 1_000_000))
    choice_percent = 100 * all_ / _round_of_all()
    observer.advance()
    return RunCost(
        round(demo_seconds, 1),
        round(demo_cpu, 1),
        round(1e3 * host_ms, 2),
        round(1e3 * emulator_ms, 1),
        round(simulation, 2),
        round(kernels, 3),
        round(short, 2),
        round(1e3 * (simulation - short) / (load(find(EXAMPLE)).run.rounds - 1), 3),
        round(libraries, 3),
        round(choice_percent, 1),
        round(many / few, 2),
    )


def _command(arguments: Sequence[str], folder: Path, **environment: str) -> tuple[float, float]:
    """Runs a command of ours and returns its seconds by the clock and of processor time, those of its processes included."""
    return _python(folder, "-m", "tinymetafed", *arguments, **environment)


def _python(folder: Path, *arguments: str, **environment: str) -> tuple[float, float]:
    """As ``_command``, of Python with any arguments."""
    began, worked = time.perf_counter(), spent()
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"python {' '.join(arguments[:3])} has ended with exit code {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - began, spent() - worked


def _demo(folder: Path) -> tuple[float, float]:
    """The demo with a folder for builds that is empty, as after the set-up."""
    return _command(["demo", "--out", str(folder / "demo")], folder, **{_OWN_BUILDS: str(folder / "builds")})


def _by_round(url: str, counts: tuple[int, int], folder: Path) -> tuple[float, float]:
    """Seconds of processor time by round, of this process and of all others: what a long run takes more than a short one."""
    taken = []
    for count in counts:
        experiment = load(find(EXAMPLE), [f"run.rounds={count}", "evaluation.every=0", "evaluation.tasks=1"])
        own, all_ = time.process_time(), spent()
        training.train(set_up(experiment, EXAMPLE, None), [url], [TEST_URL], folder / f"{url[:4]}-{count}", Silent())
        own, all_ = time.process_time() - own, spent() - all_
        taken.append((own, all_ - own))
    (few, few_others), (many, many_others) = taken
    more = counts[1] - counts[0]
    return (many - few) / more, (many_others - few_others) / more


def _simulation(out: Path, *options: str) -> float:
    """Processor time of the command."""
    return _command(["simulate", str(find(EXAMPLE)), "--threads", "1", "--out", str(out), *options], out.parent)[1]


class _Timed(Kernels):
    """Kernels that add up the processor time of the compiled functions."""

    def __init__(self, library: Path, manifest: ModelManifest, lanes: int) -> None:
        super().__init__(library, manifest, lanes, 1)
        self.seconds = 0.0
        self._functions = {name: self._timed(function) for name, function in self._functions.items()}

    def _timed(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            began = time.process_time()
            function(*arguments)
            self.seconds += time.process_time() - began

        return call


def _in_kernels(folder: Path) -> float:
    """Processor time in compiled kernels of the run that ``_simulation`` measures."""
    setup, unit = set_up(load(find(EXAMPLE)), EXAMPLE, None), choose(None)
    here = setup.design.on(setup.design.boards.load(BOARD))
    kernels = _Timed(compile_kernels(here, unit), here.manifest, unit.lanes)
    training.simulate_at(InSimulation(1, kernels), setup, folder / "timed", Silent())
    return kernels.seconds


def _round_of_all() -> float:
    """Processor time of a simulated round of CHOSEN clients, which are all there are."""
    changes = [f"run.devices_per_round={CHOSEN}", f"run.clients={CHOSEN}", f"run.rounds={REPEATS}"]
    setup = set_up(load(find(EXAMPLE), changes), EXAMPLE, None)
    clients = SimulatedClients(open_kernels(setup.design, 1), setup.strategy, setup.task)
    first = initial(setup.design.manifest, setup.experiment.run.seed, setup.experiment.model.init)
    trained = rounds(setup.strategy, setup.task, clients, first)
    return _fastest(lambda: next(trained), REPEATS)


def _fastest(work: Callable[[], object], repeats: int) -> float:
    """Processor time of the fastest of some repeats."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)
