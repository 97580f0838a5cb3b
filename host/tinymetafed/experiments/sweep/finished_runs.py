"""Runs of a sweep that an earlier call has finished: which of them still count, and which must run again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinymetafed_codegen import __version__
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.options.sample_source import own_source
from tinymetafed_codegen.spec import dump

from ...federation.observer import Observer
from ...learn.strategies import code_sha256
from ...learn.tasks import DataError, Task
from ...learn.tasks.task_registry import open_task
from ...learn.weights import initial, sha256
from ...runs.run_data import RunData
from ...runs.setup import design_of
from ...runs.store import read_run
from .. import SweepFailed
from .sweep_file import Run


def is_done(run: Run, out: Path) -> bool:
    """Whether a run has finished, and its files other than data have not changed since.

    Raises SweepFailed if its folder holds a run of another experiment.
    """
    stored = _stored(run, out)
    if stored is None or _changed(run, stored):
        return False
    return stored.result is not None


def _stored(run: Run, out: Path) -> RunData | None:
    """The stored run, None if there is none. Raises SweepFailed if the folder holds a run of another experiment."""
    folder = out / run.folder
    if not (folder / "run.db").exists():
        return None
    stored = read_run(folder)
    # Another version may count other bytes for the same weights.
    begun = stored.experiment().as_asked(run.experiment)
    then = dump(begun) | {
        "arithmetic": stored.header.arithmetic,
        "tinymetafed": stored.header.tinymetafed,
    }
    now = dump(run.experiment) | {"arithmetic": ARITHMETIC_VERSION, "tinymetafed": __version__}
    if (changed := difference(then, now)) is not None:
        raise SweepFailed(
            f"{folder}: begun when '{run.cell.name}' was another experiment or made by another version: {changed}; remove "
            "that folder to run it again, or choose another folder for the sweep with -o"
        )
    return stored


def _changed(run: Run, stored: RunData) -> list[str]:
    """The files, other than data, that have changed since a run was begun and affect its result; in words."""
    experiment, manifest = run.experiment, run.cell.manifest
    if experiment.data.is_unmeasured:  # the data are compared by their own hash
        begun = experiment.model_copy(update={"data": stored.experiment().data})
        manifest = design_of(begun, str(run.cell.source)).manifest
    files = {"task.source": own_source(experiment), "model.weights": experiment.model.weights}
    model = [f"{key} ({file})" for key, file in files.items() if file is not None] or ["how its model is made"]
    changed = model if manifest.model_hash != stored.manifest.model_hash else []
    if not changed and sha256(initial(manifest, run.seed, experiment.model.init)) != stored.header.weights_sha256:
        changed = [f"model.weights ({experiment.model.weights})"]
    if code_sha256(experiment) != stored.header.asked.strategy_sha256:
        changed = [*changed, f"the file of strategy.kind ({experiment.strategy.kind})"]
    return changed


def set_changed_aside(runs: Sequence[Run], out: Path, data: Path | None, observer: Observer) -> None:
    """Renames the folder of every run whose result would change now, and reports it. Raises SweepFailed, DataError."""
    digests: dict[str, tuple[str, str]] = {}  # of a task's data and of its Python file
    for run in runs:
        if (stored := _stored(run, out)) is None:
            continue
        experiment = run.experiment
        chosen = (experiment.run.seed, experiment.run.clients, experiment.model.input, experiment.model.loss)
        read = json.dumps([dump(experiment)["task"], chosen], sort_keys=True)
        if read not in digests:
            task = opened(run, data)
            digests[read] = task.data_sha256, task.code_sha256
        changed = _changed(run, stored)
        data_sha256, task_sha256 = digests[read]
        if task_sha256 != stored.header.asked.task_sha256:
            changed.append(f"the file of task.kind ({experiment.task.kind})")
        if data_sha256 != stored.header.asked.data_sha256:
            changed.append("its data")
        if changed:
            folder = out / run.folder
            former = next(
                path for n in itertools.count(1) if not (path := folder.with_name(f"{folder.name}.former-{n}")).exists()
            )
            folder.rename(former)
            observer.event(
                f"{run.name}: {' and '.join(changed)} changed since this was run; it runs again, and the former run is kept "
                f"as {former}"
            )


def opened(run: Run, data: Path | None) -> Task:
    """The task of a run, with its data. Raises DataError, which names the row of the sweep."""
    try:
        return open_task(run.experiment, data)
    except DataError as error:
        raise DataError(f"'{run.cell.name}': {error}") from None


def difference(then: Any, now: Any, key: str = "") -> str | None:
    """The first value that differs, in words; None if there is none."""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*then, *(name for name in now if name not in then)]:
            path = f"{key}.{name}" if key else name
            if name not in now or name not in then:
                return f"{path} is {'gone' if name in then else 'new'}"
            if (found := difference(then[name], now[name], path)) is not None:
                return found
        return None
    return None if then == now else f"{key} was {json.dumps(then)} and is {json.dumps(now)}"
