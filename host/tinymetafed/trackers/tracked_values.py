"""What trackers are shown, from a run's journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tinymetafed_codegen.section import TomlValue
from tinymetafed_codegen.toml_text import decoded

from ..federation.result import Evaluation
from ..learn.weights import sha256
from ..runs.journal import RoundEntry
from ..runs.run_data import RunData
from .tracker import Parameter, State, TrackedEnd, TrackedRound, TrackedRun


def tracked_run(run: RunData) -> TrackedRun:
    """The facts of a run. Runs none of the code that its experiment names."""
    parameters = dict(flat(decoded(run.header.experiment)))
    if run.extended is not None:
        parameters["run.rounds"] = run.extended
    rounds = parameters.get("run.rounds")
    return TrackedRun(
        folder=run.path,
        name=run.name,
        parameters=parameters,
        rounds=rounds if isinstance(rounds, int) else 0,
        trained=run.trained,
    )


def flat(value: TomlValue, name: str = "") -> Iterator[tuple[str, Parameter]]:
    """The keys of a decoded experiment, each with its path as name: strategy.alpha_max, model.layers.0.op."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from flat(each, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        if all(isinstance(each, str | int | float) for each in value):
            yield name, ", ".join(map(str, value))
        else:
            for at, each in enumerate(value):
                yield from flat(each, f"{name}.{at}")
    else:
        yield name, value if isinstance(value, str | int | float) else str(value)


def tracked_round(entry: RoundEntry, bytes_before: int, validation: Evaluation | None) -> TrackedRound:
    """A round as trackers see it.

    Args:
        entry: The round's entry in the journal.
        bytes_before: Bytes of training before it, both directions.
        validation: The evaluation after it, if there was one.
    """
    statuses = Counter(part.status for part in entry.contributions)
    return TrackedRound(
        round=entry.round + 1,
        bytes=bytes_before + entry.bytes_down + entry.bytes_up,
        bytes_down=entry.bytes_down,
        bytes_up=entry.bytes_up,
        bytes_samples=entry.bytes_samples,
        seconds=entry.seconds,
        alpha=entry.alpha,
        update_norm=entry.update_norm,
        retries=entry.retries,
        accepted=statuses["accepted"] + statuses["redone"],
        redone=statuses["redone"],
        skipped=statuses["skipped"],
        late=len(entry.late or ()),
        metric="" if validation is None else str(validation.metric),
        before=None if validation is None else validation.before,
        after=None if validation is None else validation.after,
    )


def is_validation(entry: Evaluation) -> bool:
    """Whether an evaluation is one on the way, whose single scores are not stored, and not the meta-test at the end."""
    return not entry.per_task


def tracked_end(run: RunData, state: State, error: str, report: Path | None) -> TrackedEnd:
    """The end of a session as trackers see it."""
    test = run.result.meta_test if run.result is not None else None
    return TrackedEnd(
        state=state,
        error=error,
        round=run.trained,
        bytes=sum(entry.bytes_down + entry.bytes_up for entry in run.rounds),
        weights_sha256=sha256(run.kept),
        metric="" if test is None else str(test.metric),
        before=None if test is None else test.before,
        after=None if test is None else test.after,
        after_ci95=None if test is None else test.after_ci95,
        report=report,
    )
