"""What runs of several seeds gain by filling the lanes of a vector unit, beside clients trained one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.spec import Experiment

from ..federation.observer import Observer
from ..runs.setup import measured_design
from ..simulation.compilation import BOARD, compile_kernels
from ..simulation.kernels import Kernels
from ..simulation.vector_units import VectorUnit, choose
from .simulation_cost import Trial

REPEATS = 12  # the fastest counts, because other load only makes it slower


@dataclass(frozen=True)
class SeedCost:
    """Microseconds of processor time of a client's whole round, with the coding of its update, on one thread.

    ``together_us``: ``lanes`` clients of different runs in one call. ``alone_us``: one client after the other, whose sums fill
    the lanes. ``scalar_us``: one after the other, with the kernels of the boards, which leave all lanes but one empty.
    """

    lanes: int
    together_us: float
    alone_us: float
    scalar_us: float


def measure(experiment: Experiment, source: str, observer: Observer) -> SeedCost:
    """Measures the three in turn. Raises BuildError or SpecError."""
    observer.stage("compiling the simulation")
    unit = choose(None)
    designed = measured_design(experiment, source, BOARD)
    library = compile_kernels(designed, unit)
    plain = compile_kernels(designed, VectorUnit(f"{unit.name}-scalar", 1, unit.flags))
    trials = [
        Trial(experiment, Kernels(compiled, designed.manifest, lanes, 1), unit.lanes)
        for compiled, lanes in ((library, unit.lanes), (library, 1), (plain, 1))
    ]
    observer.stage(f"clients of {unit.lanes} seeds", REPEATS)
    for _ in range(REPEATS):
        for trial in trials:  # in turn, so that other load affects all of them alike
            trial.once_with_update()
        observer.advance()
    return SeedCost(unit.lanes, *(round(trial.best_round, 1) for trial in trials))
