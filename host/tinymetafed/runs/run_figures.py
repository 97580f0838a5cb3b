"""The figures of a finished run: scores, traffic, times, and the versions that it was made with."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from importlib.metadata import version

import numpy as np

from tinymetafed_codegen.board.boards import Catalogue
from tinymetafed_codegen.manifest import ModelManifest
from tinymetafed_codegen.protocol import PROTOCOL_VERSION
from tinymetafed_codegen.spec import Experiment

from ..federation.meta_test import Group, MetaTest, class_scores
from ..federation.result import FinalScores
from ..federation.standing import by_board
from ..learn.strategies import Strategy
from ..learn.tasks import Task
from ..learn.weights import sha256
from . import estimate, privacy_accounting
from .journal import RunResult
from .lateness import closed_early, late_boards
from .run_data import RunData


def values_only_cost(experiment: Experiment, manifest: ModelManifest) -> float:
    """Communication cost of a round as in the papers: f (1 + P) / 2 per device, f being the share of global weights.

    Only the number of values counts, not their dtype, indices or framing. A dense round of the whole network with one device
    costs 1.

    Args:
        experiment: The experiment.
        manifest: Its model.

    Returns:
        The cost of all devices of a round; 0 for a run without rounds.
    """
    if experiment.run.rounds == 0:
        return 0.0
    shared = manifest.n_global / manifest.n_parameters
    return float(experiment.run.devices_per_round * shared * (1 + experiment.strategy.top_p / 100) / 2)


def result(strategy: Strategy, task: Task, run: RunData, boards: Catalogue, tested: Group) -> RunResult:
    """The figures of a run that has been trained and tested.

    Args:
        strategy: Strategy of the experiment.
        task: Task of the experiment.
        run: The run.
        boards: The boards to estimate time and energy for.
        tested: The held-out clients of the final meta-test.

    Returns:
        The figures, all sessions of the run together.
    """
    final, drawn = run.evaluations[-1], run.showcase
    assert drawn is not None  # it is written before the result
    statuses = Counter(part.status for entry in run.rounds for part in entry.contributions)
    down, up = sum(entry.bytes_down for entry in run.rounds), sum(entry.bytes_up for entry in run.rounds)
    has_deadline = strategy.experiment.run.deadline is not None
    training = sum(entry.seconds for entry in run.rounds)
    testing = sum(entry.seconds for entry in run.evaluations) + drawn.seconds
    return RunResult(
        task=task.spec.kind,
        rounds=run.trained,
        seed=strategy.experiment.run.seed,
        weights_sha256=sha256(run.kept),
        bytes_down=down,
        bytes_up=up,
        bytes_up_dense=4 * strategy.n_global * (statuses.total() - statuses["skipped"]),
        bytes_samples=sum(entry.bytes_samples for entry in run.rounds),
        retries=sum(entry.retries for entry in run.rounds),
        redone=statuses["redone"],
        skipped=statuses["skipped"],
        sessions=len(run.sessions),
        seconds=round(training + testing, 3),
        training_seconds=round(training, 3),
        start_seconds=round(sum(session.start_seconds for session in run.sessions), 3),
        meta_test=FinalScores(
            metric=final.metric,
            before=final.before,
            after=final.after,
            after_ci95=final.after_ci95,
            n_tasks=final.n_tasks,
            n_clients=final.n_clients,
            per_task=final.per_task,
            spread=MetaTest.of(final).spread(task, tested),
            classes=class_scores(task, final.confusion),
            n_independent=final.n_independent,
            unit=final.unit,
            per_unit=final.per_unit,
            group=final.group,
        ),
        d_curve=drawn.d_curve,
        example=drawn.example,
        estimate=estimate.of_round(strategy, (down + up) / max(statuses.total(), 1), boards) if run.rounds else None,
        collapsed=final.collapsed,
        devices=tuple(run.devices),
        versions=run.sessions[-1].versions,
        instructions_per_step=run.header.asked.instructions_per_step,
        untrained=drawn.untrained,
        online=drawn.online,
        kept_round=run.kept_round if run.best is not None else None,
        privacy=privacy_accounting.spent(run),
        deltas=tuple(by_board(strategy.spec, run.measures())),
        bytes_down_full=run.bytes_down_full,
        averaged=run.averaged,
        closed_early=closed_early(run.rounds) if has_deadline else None,
        late_boards=late_boards(run.rounds) if has_deadline else None,
    )


def versions() -> dict[str, str]:
    """Versions of the software that makes a result."""
    return {
        "tinymetafed": version("tinymetafed"),
        "protocol": str(PROTOCOL_VERSION),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "pyserial": version("pyserial"),
        "platformio": version("platformio"),
        "system": platform.platform(),
    }
