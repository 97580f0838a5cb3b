"""The runs behind the table of accuracy against RAM, and a file that keeps what is done."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydantic
from pydantic import TypeAdapter

from tinymetafed_codegen import __version__
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.memory.trainable import LAST_FIRST, MEASURED
from tinymetafed_codegen.memory.work import multiply_accumulates
from tinymetafed_codegen.protocol import Variant
from tinymetafed_codegen.section import StrictJson, TomlValue
from tinymetafed_codegen.spec import load
from tinymetafed_codegen.temporary import temporary_folder

from ...bench import keeping_nothing, kernel_cost, layer_gains
from ...federation import meta_test
from ...federation.clients import TrainingFailed
from ...federation.observer import Observer
from ...federation.result import Score
from ...federation.rounds import rounds
from ...learn.strategies import Diverged
from ...learn.weights import Floats, initial
from ...runs import training
from ...runs.setup import Setup, set_up
from ...simulation.kernels import open_kernels
from ...simulation.simulated_clients import SimulatedClients
from .. import SweepFailed

START, ALL = "none: the start", "all layers"  # rows without a budget
DEVICES = ("native:1", "qemu:1")  # which end with the weights of the simulation
BOARD = "mps2"  # the board of the second one


@dataclass(frozen=True)
class Plan:
    """What is run. ``start_rounds`` train all layers, ``rounds`` those within a budget; ``tasks`` unseen clients score a run.

    ``checked``: the budget whose firmware runs for a round on DEVICES; None for none.
    """

    example: Path = field(default_factory=lambda: find("examples") / "omniglot-paper-size.toml")
    budgets: Sequence[str] = ("192KB", "128KB", "96KB", "64KB")
    criteria: Sequence[str] = (MEASURED, LAST_FIRST)
    seeds: int = 3
    start_rounds: int = 200
    rounds: int = 100
    tasks: int = 48
    clients: int = layer_gains.CLIENTS
    checked: str | None = "96KB"

    def cases(self) -> Iterator[Case]:
        """The runs in their order, seed by seed."""
        for seed in range(1, self.seeds + 1):
            yield Case(START, "", seed, self.start_rounds, 0, self.tasks)
            yield Case(ALL, "", seed, self.start_rounds, self.rounds, self.tasks)
            for budget in self.budgets:
                for criterion in self.criteria:
                    yield Case(criterion, budget, seed, self.start_rounds, self.rounds, self.tasks)


@dataclass(frozen=True, order=True)
class Case(StrictJson):
    """One run: which layers train, within which budget, the seed, rounds before and with it, and unseen clients."""

    trains: str
    budget: str
    seed: int
    start_rounds: int
    rounds: int
    tasks: int


@dataclass(frozen=True)
class Outcome(StrictJson):
    """What a run came to.

    ``layers`` and ``weights`` that train, bytes of ``ram`` with the stack, ``products``: multiply-accumulates of a full step,
    ``accuracy``: mean of unseen clients after adaptation; None if training ended because weights were not finite.
    ``bytes_of_round``: on the wire, down and up, framing included, all devices together and samples left out; None where no
    round was counted.
    """

    case: Case
    layers: tuple[str, ...]
    weights: int
    ram: int
    products: int
    accuracy: Score
    bytes_of_round: float | None = None


@dataclass(frozen=True)
class BudgetTable(StrictJson):
    """The outcomes, and the gains that layers were picked by.

    Of the budget that was checked: the hashes of the weights after one round by site, and the exact instructions of a training
    step on BOARD by variant.
    """

    tinymetafed: str
    arithmetic: int
    gains: dict[str, float]
    outcomes: tuple[Outcome, ...]
    weights_sha256: dict[str, str]
    instructions: dict[str, int] = field(default_factory=dict)


def run_all(plan: Plan, file: Path, work: Path, data: Path | None, observer: Observer) -> BudgetTable:
    """Runs what is missing of the table; the file has every finished run, so the same call continues after an interruption.

    Args:
        plan: What is run.
        file: The JSON file of the outcomes.
        work: Folder for the weights that runs start from; made if it is missing.
        data: Folder of the data; None for the usual place.
        observer: Is told of progress.

    Returns:
        The whole table, that of earlier calls included.

    Raises:
        SweepFailed: The file is none of this table, or of another version.
        Error: DataError, SpecError, BuildError, LinkError.
    """
    work.mkdir(parents=True, exist_ok=True)
    table = stored(file)
    known = {outcome.case for outcome in table.outcomes}
    missing = [case for case in plan.cases() if case not in known]
    checks = plan.checked is not None and not table.weights_sha256
    if missing or checks:
        runs = _Runs(plan, work, data, observer)
        if not table.gains:
            table = replace(table, gains=runs.gains())
        for case in missing:
            observer.stage(f"seed {case.seed}, {case.trains} {case.budget}".rstrip(), case.rounds)
            table = replace(table, outcomes=(*table.outcomes, runs.run(case, table.gains)))
            _write(file, table)
        if plan.checked is not None and checks:
            hashes = runs.same_weights(plan.checked, table.gains)
            table = replace(table, weights_sha256=hashes, instructions=runs.instructions(plan.checked, table.gains))
            _write(file, table)
    return table


class _Runs:
    """Runs of one plan."""

    def __init__(self, plan: Plan, work: Path, data: Path | None, observer: Observer) -> None:
        self._plan, self._work, self._data, self._observer = plan, work, data, observer

    def gains(self) -> dict[str, float]:
        """The gains of layers, from the start of the first seed."""
        plan, source = self._plan, str(self._plan.example)
        experiment = load(plan.example, settings={"model.weights": str(self._start(1))})
        return layer_gains.measure(experiment, source, self._data, plan.clients, self._observer).gains

    def run(self, case: Case, gains: dict[str, float]) -> Outcome:
        """Trains and tests. Raises Error."""
        setup = self._setup(case, gains)
        accuracy: Score = None
        sent: float | None = None
        with suppress(TrainingFailed, Diverged):
            weights, clients = _trained(setup, case.rounds, self._observer)
            if case.rounds:
                total = clients.traffic
                sent = (total.down + total.up - total.samples_down - total.samples_up) / case.rounds
            found = meta_test.meta_test(clients, setup.strategy, setup.task, weights, case.tasks)
            accuracy = math.fsum(found.after) / len(found.after)
        net, manifest = setup.design.graph, setup.design.manifest
        return Outcome(
            case,
            tuple(dict.fromkeys(tensor.name.rpartition(".")[0] for tensor in manifest.parameters)),
            manifest.n_parameters,
            manifest.memory.ram_total,
            multiply_accumulates(net, Variant.FULL),
            accuracy if accuracy is not None and math.isfinite(accuracy) else None,
            sent,
        )

    def same_weights(self, budget: str, gains: dict[str, float]) -> dict[str, str]:
        """The hashes of the weights after one round of one device in the simulation and on DEVICES."""
        setup = self._checked(budget, gains)
        found = {}
        with temporary_folder("budget") as folder:
            found["simulation"] = training.simulate(setup, 1, folder / "simulation", self._observer).weights_sha256
            for url in DEVICES:
                out = folder / url.replace(":", "-")
                found[url] = training.train(setup, [url], ["native:1"], out, self._observer).weights_sha256
        return found

    def instructions(self, budget: str, gains: dict[str, float]) -> dict[str, int]:
        """The exact instructions of a training step of the same firmware on BOARD, by variant."""
        setup = self._checked(budget, gains)
        return kernel_cost.instructions(setup.experiment, setup.source, BOARD, self._observer)

    def _checked(self, budget: str, gains: dict[str, float]) -> Setup:
        return self._setup(Case(MEASURED, budget, 1, 0, 1, 1), gains, {"run.devices_per_round": 1})

    def _setup(self, case: Case, gains: dict[str, float], more: dict[str, TomlValue] | None = None) -> Setup:
        settings: dict[str, TomlValue] = {
            "run.seed": case.seed,
            "run.rounds": case.rounds,
            "evaluation.every": 0,
            "evaluation.tasks": case.tasks,
            "model.weights": str(self._start(case.seed)),
            **(more or {}),
        }
        if case.budget:
            settings["model.trainable"] = f"budget:{case.budget}"
        if case.trains == MEASURED:
            settings["model.gains"] = dict(gains)
        experiment = keeping_nothing(load(self._plan.example, settings=settings))
        return set_up(experiment, str(self._plan.example), self._data)

    def _start(self, seed: int) -> Path:
        """The file with the weights after the rounds in which all layers train; made if it is missing."""
        plan = self._plan
        file = self._work.resolve() / f"start-{seed}-{plan.start_rounds}.npz"
        if not file.exists():
            self._observer.stage(f"seed {seed}, all layers from random weights", plan.start_rounds)
            settings: dict[str, TomlValue] = {"run.seed": seed, "run.rounds": plan.start_rounds, "evaluation.every": 0}
            setup = set_up(keeping_nothing(load(plan.example, settings=settings)), str(plan.example), self._data)
            weights, _ = _trained(setup, plan.start_rounds, self._observer)
            tensors = setup.design.manifest.global_tensors
            arrays: dict[str, Floats] = {each.name: weights[each.place].reshape(each.shape) for each in tensors}
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return file


def _trained(setup: Setup, count: int, observer: Observer) -> tuple[Floats, SimulatedClients]:
    """The global weights after the rounds of the experiment, and its clients."""
    clients = SimulatedClients(open_kernels(setup.design, 1), setup.strategy, setup.task)
    weights = initial(setup.design.manifest, setup.experiment.run.seed, setup.experiment.model.init)
    if count:
        for done in rounds(setup.strategy, setup.task, clients, weights):
            weights = done.weights
            observer.advance()
    return weights, clients


def stored(file: Path) -> BudgetTable:
    """The table in a file, an empty one if there is none. Raises SweepFailed if it is no such table, or of another version."""
    if not file.exists():
        return BudgetTable(__version__, ARITHMETIC_VERSION, {}, (), {})
    try:
        found: BudgetTable = TypeAdapter(BudgetTable).validate_json(file.read_bytes())
    except (OSError, pydantic.ValidationError):
        raise SweepFailed(f"{file}: not a table of accuracy against RAM; remove it, or choose another folder with -o") from None
    if (found.tinymetafed, found.arithmetic) != (__version__, ARITHMETIC_VERSION):
        raise SweepFailed(
            f"{file}: made by tinymetafed {found.tinymetafed}, this is {__version__}; remove it to run the table again, or "
            "choose another folder with -o"
        )
    return found


def _write(file: Path, table: BudgetTable) -> None:
    """Replaces the file as a whole, so that it is complete whenever the command is interrupted."""
    begun = file.with_name(f"{file.name}.new")
    begun.write_bytes(TypeAdapter(BudgetTable).dump_json(table, indent=1) + b"\n")
    os.replace(begun, file)
