"""The runs of the Byzantine table: which there are, one simulation for each, and a file that keeps what is done."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydantic
from pydantic import TypeAdapter

from tinymetafed_codegen import __version__
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.section import StrictJson
from tinymetafed_codegen.spec import load

from ...federation import meta_test
from ...federation.clients import TrainingFailed
from ...federation.observer import Observer
from ...federation.result import Score
from ...federation.rounds import rounds
from ...learn.strategies import Diverged
from ...learn.weights import initial
from ...runs.setup import Setup, set_up
from ...simulation.kernels import Kernels, open_kernels
from .. import SweepFailed
from .attacks import ATTACKS, LyingClients

HONEST = "nobody lies"
AUDIT = 0.1  # share of the client rounds that proven boards do twice, in the defence RECOMMENDED

NONE, BOUND, TRUST, RECOMMENDED = "none", "bound", "bound, trust", "bound, trust, audits"
ONE_BY_ONE: dict[str, tuple[str, ...]] = {
    NONE: (),
    BOUND: ("strategy.defence=bound", "strategy.defence_trust=false"),
    TRUST: ("strategy.defence=bound",),
    RECOMMENDED: ("strategy.defence=bound", f"strategy.audit={AUDIT}"),
}
TRIMMED, KRUM = "trimmed mean", "Krum"
MANY = 10  # clients of a round in the runs with several
TOGETHER: dict[str, tuple[str, ...]] = {
    NONE: (),
    TRIMMED: ("strategy.defence=trimmed", "strategy.defence_liars=0.3"),
    KRUM: ("strategy.defence=krum", "strategy.defence_liars=0.3"),
}
DEFENCES = {**ONE_BY_ONE, **TOGETHER}
FLEETS = ((5, 1), (20, 2), (20, 4), (20, 6))  # boards, and how many of them lie
TASKS = {"sine": (1_000, 300), "omniglot": (250, 100)}  # rounds with one client, and with MANY


@dataclass(frozen=True, order=True)
class Case(StrictJson):
    """One run: task, boards, how many lie, clients per round, attack, defence, seed and number of rounds."""

    task: str
    boards: int
    liars: int
    clients: int
    attack: str
    defence: str
    seed: int
    rounds: int


@dataclass(frozen=True)
class Outcome(StrictJson):
    """What a run came to.

    ``score``: mean accuracy or MSE of unseen clients after adaptation; None if training ended because weights were not finite
    or too large. ``liars_out``, ``honest_out``: how many boards that lie and that do not were set aside. ``repeated``: client
    rounds that were done again for audits.
    """

    case: Case
    score: Score
    liars_out: int
    honest_out: int
    repeated: int


@dataclass(frozen=True)
class Plan:
    """Which part of the table is run.

    ``rounds``: rounds of every run; None for those of TASKS. ``tasks``: unseen clients that a run is scored on; None for the
    example's. ``fleets``: numbers of boards, and how many of them lie; with MANY clients per round only (20, 4) is run.
    """

    names: Sequence[str] = tuple(TASKS)
    attacks: Sequence[str] = tuple(ATTACKS)
    seeds: int = 3
    rounds: int | None = None
    tasks: int | None = None
    fleets: Sequence[tuple[int, int]] = FLEETS

    def cases(self) -> Iterator[Case]:
        """The runs in their order: first those where nobody lies, which the others are compared with."""
        for name in self.names:
            few, many = TASKS[name]
            for clients, defences, planned in ((1, ONE_BY_ONE, few), (MANY, TOGETHER, many)):
                fleets = [fleet for fleet in self.fleets if clients == 1 or fleet == (20, 4)]
                honest = [(boards, 0, HONEST) for boards in dict.fromkeys(boards for boards, _ in fleets)]
                lying = [(*fleet, attack) for fleet in fleets for attack in self.attacks]
                for boards, liars, attack in [*honest, *lying]:
                    for defence in defences:
                        for seed in range(1, self.seeds + 1):
                            rounds = planned if self.rounds is None else self.rounds
                            yield Case(name, boards, liars, clients, attack, defence, seed, rounds)


@dataclass(frozen=True)
class _Stored(StrictJson):
    tinymetafed: str
    arithmetic: int
    outcomes: tuple[Outcome, ...]


def run_all(plan: Plan, file: Path, data: Path | None, observer: Observer) -> list[Outcome]:
    """Runs what is missing of the table; the file has every finished run, so the same call continues after an interruption.

    Args:
        plan: Which part of the table.
        file: The JSON file of the outcomes.
        data: Folder of Omniglot's archives; None for the usual place.
        observer: Is told of progress.

    Returns:
        The outcomes of the plan, in its order.

    Raises:
        SweepFailed: The file is none of this table, or of another version.
        Error: DataError, BuildError.
    """
    known = {outcome.case: outcome for outcome in stored(file)}
    cases = list(plan.cases())
    missing = [case for case in cases if case not in known]
    observer.stage("runs of the Byzantine table", len(missing))
    for case in missing:
        observer.note(f"{case.task}, {case.liars} of {case.boards}, {case.attack}, {case.defence}")
        known[case] = _run(case, data, plan.tasks)
        _write(file, list(known.values()))
        observer.advance()
    return [known[case] for case in cases]


def _run(case: Case, data: Path | None, tasks: int | None) -> Outcome:
    setup, kernels = _opened(case.task, case.clients, case.defence, case.seed, case.rounds, data)
    strategy, task, experiment = setup.strategy, setup.task, setup.experiment
    attack = case.attack if case.liars else next(iter(ATTACKS))
    clients = LyingClients(kernels, strategy, task, case.boards, case.liars, attack)
    weights = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    score: Score = None
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # of lies, which the round then finds
            for done in rounds(strategy, task, clients, weights):
                weights = done.weights
        tested = meta_test.meta_test(clients, strategy, task, weights, tasks or experiment.evaluation.tasks)
        mean = math.fsum(tested.after) / len(tested.after)
        score = mean if math.isfinite(mean) else None
    except (Diverged, TrainingFailed):
        pass  # what a lie without a defence comes to
    out = list(clients.excluded)
    liars_out = sum(board < case.liars for board in out)
    return Outcome(case, score, liars_out, len(out) - liars_out, clients.repeated)


@cache
def _opened(name: str, clients: int, defence: str, seed: int, rounds: int, data: Path | None) -> tuple[Setup, Kernels]:
    path = find("examples") / f"{name}.toml"
    chosen = [f"run.rounds={rounds}", f"run.seed={seed}", f"run.devices_per_round={clients}", *DEFENCES[defence]]
    setup = set_up(load(path, chosen), str(path), data if name == "omniglot" else None)
    return setup, open_kernels(setup.design, 1)


def stored(file: Path) -> tuple[Outcome, ...]:
    """The outcomes in a file; () if there is none. Raises SweepFailed if they are of no table, or of another version."""
    if not file.exists():
        return ()
    try:
        found = TypeAdapter(_Stored).validate_json(file.read_bytes())
    except (OSError, pydantic.ValidationError):
        raise SweepFailed(
            f"{file}: not the outcomes of a Byzantine table; remove it, or choose another folder with -o"
        ) from None
    if (found.tinymetafed, found.arithmetic) != (__version__, ARITHMETIC_VERSION):
        raise SweepFailed(
            f"{file}: made by tinymetafed {found.tinymetafed}, this is {__version__}; remove it to run the table again, or "
            "choose another folder with -o"
        )
    return found.outcomes


def _write(file: Path, outcomes: Sequence[Outcome]) -> None:
    """Replaces the file as a whole, so that it is complete whenever the command is interrupted."""
    lines = ",\n".join(json.dumps(asdict(outcome)) for outcome in sorted(outcomes, key=lambda outcome: outcome.case))
    text = f'{{"tinymetafed": "{__version__}", "arithmetic": {ARITHMETIC_VERSION}, "outcomes": [\n{lines}\n]}}\n'
    begun = file.with_name(f"{file.name}.new")
    begun.write_text(text, encoding="utf-8")
    os.replace(begun, file)
