"""A whole run: trains rounds, tests held-out clients, and stores every step; starts runs and resumes interrupted ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tinymetafed_codegen import ops
from tinymetafed_codegen.design import Design, design
from tinymetafed_codegen.protocol import SampleSet, Status
from tinymetafed_codegen.sample_source import own_source
from tinymetafed_codegen.spec import Experiment, SpecError

from ..devices.device_clients import DeviceClients
from ..devices.link.faults import FaultPlan
from ..devices.running import running
from ..federation import example_client, meta_test, rounds
from ..federation.clients import Clients, TrainingFailed
from ..federation.meta_test import Collapsed, Group, MetaTest
from ..federation.observer import Observer
from ..federation.result import Adaptation, Evaluation, Scores
from ..federation.rounds import Round
from ..federation.standing import Guard
from ..learn.metric import Metric
from ..learn.normalisation import unscaled
from ..learn.strategies import Diverged, code_sha256
from ..learn.tasks import Task
from ..learn.weights import Floats, initial, sha256
from . import TEST_URL, adapted, export, privacy_accounting, run_figures, store
from .journal import Asked, RoundEntry, RunResult, SessionEntry, Showcase
from .run_data import RunData, StoreError
from .setup import Setup, set_up
from .sites import InSimulation, OnDevices, Site
from .store import RunStore


def train(
    setup: Setup,
    urls: Sequence[str],
    test_urls: Sequence[str],
    out: Path,
    observer: Observer,
    *,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    instructions_per_step: Mapping[str, int] | None = None,
) -> RunResult:
    """Runs an experiment on devices.

    If it ends early for any reason, all finished rounds are in the store and ``resume`` continues after them.

    Args:
        setup: The experiment's set-up.
        urls: URLs of the devices to train on.
        test_urls: URLs of the devices to test on.
        out: The run folder.
        observer: Is told of progress.
        faults: Faults to inject between host and training devices.
        record: File to record the training lines in.
        instructions_per_step: Counted instructions by variant, to be part of the result.

    Returns:
        The run's result.

    Raises:
        Error: LinkError, BuildError, DeltaError or StoreError.
        Collapsed: The network no longer depends on its input.
    """
    asked = replace(_asked(setup), devices=tuple(urls), test_devices=tuple(test_urls))
    if instructions_per_step is not None:
        asked = replace(asked, instructions_per_step=dict(instructions_per_step))
    return _begin(setup, OnDevices(urls, test_urls, faults, record), asked, out, observer)


def simulate(setup: Setup, threads: int, out: Path, observer: Observer) -> RunResult:
    """As ``train``, but simulated in this process on ``threads`` threads."""
    return simulate_at(InSimulation(threads), setup, out, observer)


def simulate_at(place: InSimulation, setup: Setup, out: Path, observer: Observer) -> RunResult:
    """As ``simulate``, with the kernels or threads of a place."""
    return _begin(setup, place, _asked(setup), out, observer)


def resume(
    path: Path,
    observer: Observer,
    *,
    urls: Sequence[str] = (),
    test_urls: Sequence[str] = (),
    data: Path | None = None,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    rounds: int | None = None,
) -> RunResult:
    """Continues a run on devices after its last finished round.

    Args:
        path: The run folder.
        observer: Is told of progress.
        urls: Devices to train on; by default those that the run began with.
        test_urls: Devices to test on; by default those that the run began with.
        data: Folder of the task's data; None for the one that the run began with.
        faults: Faults to inject between host and training devices.
        record: File to record the training lines in.
        rounds: Rounds after which the run now ends, also of a finished run; None for the run's own number.

    Returns:
        The result of the whole run.

    Raises:
        Error: As ``train``.
    """

    def site(asked: Asked) -> Site:
        if not urls and not asked.devices:
            raise StoreError(
                f"{path}: this run was begun as a simulation; continue it with tinymetafed simulate --resume {path}, or give "
                "devices with --device"
            )
        return OnDevices(urls or asked.devices, test_urls or asked.test_devices, faults, record)

    return _continue(path, site, data, observer, rounds)


def resume_simulated(
    path: Path, threads: int, observer: Observer, *, data: Path | None = None, rounds: int | None = None
) -> RunResult:
    """As ``resume``, but simulated in this process on ``threads`` threads; for runs on devices too."""
    return resume_at(InSimulation(threads), path, observer, data=data, rounds=rounds)


def resume_at(
    place: InSimulation, path: Path, observer: Observer, *, data: Path | None = None, rounds: int | None = None
) -> RunResult:
    """As ``resume_simulated``, with the kernels or threads of a place."""
    return _continue(path, lambda asked: place, data, observer, rounds)


def _asked(setup: Setup) -> Asked:
    """The journal's options of a simulation, which has no training devices."""
    data = None if setup.data is None else str(setup.data)
    return Asked(
        devices=(),
        test_devices=(TEST_URL,),
        data=data,
        data_sha256=setup.task.data_sha256,
        strategy_sha256=code_sha256(setup.experiment),
        task_sha256=setup.task.code_sha256,
        class_names=tuple(setup.task.class_names),
        feature_note=setup.task.feature_note,
    )


def _begin(setup: Setup, site: Site, asked: Asked, out: Path, observer: Observer) -> RunResult:
    experiment = setup.experiment
    weights = initial(setup.design.manifest, experiment.run.seed, experiment.model.init)
    started = time.monotonic()
    for note in setup.task.notes:
        observer.event(note)
    with site.open(setup, observer) as (trainers, testers):
        manifest = setup.design.on(setup.design.boards.load(trainers.devices[0].board)).manifest
        with store.create(out, experiment, manifest, weights, asked) as run:
            run.hold_seconds = site.hold_seconds
            return _Training(setup, run, trainers, testers, observer).complete(time.monotonic() - started)


def _continue(
    path: Path, site: Callable[[Asked], Site], data: Path | None, observer: Observer, rounds: int | None
) -> RunResult:
    started = time.monotonic()
    with store.reopen(path) as run:
        past = run.read()
        experiment = past.experiment() if rounds is None else _extended(past, rounds)
        rounds = None if experiment == past.experiment() else rounds
        if past.result is not None and rounds is None:
            _refuse_collapse(past)
            return past.result
        if run.warning:
            observer.event(run.warning)
        setup = set_up(experiment, str(path / "experiment.toml"), data or past.data)
        same_model(setup, past)
        _same_code(setup, past)
        _same_data(setup, past)
        place = site(past.header.asked)
        if setup.strategy.kept and 0 < past.trained < setup.experiment.run.rounds:
            what = f"{path}: the state that clients keep between rounds ({', '.join(setup.strategy.kept)})"
            if place.has_stores(setup):
                observer.event(f"{what} continues from the stores of the boards")
            else:
                observer.event(f"{what} was lost when the run stopped after {past.trained} rounds; clients continue without it")
        if rounds is not None and any(entry.alpha != float(setup.strategy.alpha(entry.round)) for entry in past.rounds):
            observer.event(
                f"{path}: strategy.schedule = '{experiment.strategy.schedule}' is now spread over {rounds} rounds, but the "
                f"{past.trained} finished ones followed another one; the weights will not be those of a run begun with "
                f"run.rounds = {rounds}"
            )
        with place.open(setup, observer) as (trainers, testers):
            run.hold_seconds = place.hold_seconds
            training = _Training(setup, run, trainers, testers, observer)
            return training.complete(time.monotonic() - started, rounds)


def _extended(past: RunData, rounds: int) -> Experiment:
    """The experiment of a run that is to end after ``rounds`` rounds. Raises SpecError if it cannot."""
    if rounds < past.trained:
        raise SpecError(
            f"{past.path}: run.rounds = {rounds}, but {past.trained} rounds are trained already; give {past.trained} or more"
        )
    experiment = past.experiment(rounds=rounds)
    if experiment.run.rounds != rounds:
        raise SpecError(f"{past.path}: strategy.kind = '{experiment.strategy.kind}' has no rounds; leave run.rounds out")
    return experiment


def same_model(setup: Setup, run: RunData) -> None:
    """Raises StoreError if a run's weights do not belong to the model that this version makes of its experiment."""
    same_design(setup.design, run)


def same_design(made: Design, run: RunData) -> None:
    """Raises StoreError if a run's weights do not belong to the model that this version makes of its experiment."""
    run.require_model()
    if made.manifest.model_hash != run.manifest.model_hash:
        experiment = made.experiment
        of_ops = [file for op in experiment.model.own_ops for file in ops.own_op.files(op)]
        files = [str(file) for file in (own_source(experiment), experiment.model.weights, *of_ops) if file]
        remedy = f"restore {' and '.join(files)} as it was then, or use " if files else "use "
        raise StoreError(
            f"{run.path / 'run.db'}: holds weights of model {run.manifest.model_hash}, but in this version its experiment "
            f"gives model {made.manifest.model_hash}; {remedy}tinymetafed {run.header.tinymetafed}"
        )


def _same_code(setup: Setup, run: RunData) -> None:
    """Raises StoreError when the file of the user's own strategy or task is another one than at the run's beginning."""
    experiment, asked = setup.experiment, run.header.asked
    for key, kind, then, now in (
        ("strategy.kind", experiment.strategy.kind, asked.strategy_sha256, code_sha256(experiment)),
        ("task.kind", experiment.task.kind, asked.task_sha256, setup.task.code_sha256),
    ):
        if now != then:
            raise StoreError(
                f"{run.path / 'run.db'}: the file of {key} = '{kind}' has changed since this run was begun; restore it to "
                "continue the run, or train a new one with it"
            )


def _same_data(setup: Setup, run: RunData) -> None:
    if setup.task.data_sha256 != run.header.asked.data_sha256:
        raise StoreError(
            f"{run.path / 'run.db'}: this run's data have changed since it was begun; restore them (or name them with --data) "
            "to continue it, or train a new run on them"
        )


class _Training:
    """The remaining work of a run: reads from the store what is done, does the rest and stores each step as it ends."""

    def __init__(self, setup: Setup, run: RunStore, trainers: Clients, testers: Clients, observer: Observer) -> None:
        self._setup, self._strategy, self._plan = setup, setup.strategy, setup.experiment
        self._run, self._trainers, self._testers, self._observer = run, trainers, testers, observer
        self._known = trainers.devices
        self._tested = setup.tested
        self._looked_at = Group.validation(setup.task) if setup.task.n_validation else None
        self._down = self._up = 0  # bytes of all rounds so far, for the curve over bytes

    def complete(self, start_seconds: float, rounds: int | None = None) -> RunResult:
        """Completes the run and returns its result; weights.npz is written even after an error.

        Args:
            start_seconds: How long the devices took to start.
            rounds: The run's new number of rounds; None if it is not changed.
        """
        try:
            past = self._run.read()
            self._down = sum(entry.bytes_down for entry in past.rounds)
            self._up = sum(entry.bytes_up for entry in past.rounds)
            self._run.append(SessionEntry(past.trained, tuple(self._known), run_figures.versions(), start_seconds, rounds))
            self._train(past)
            self._test()
        except BaseException:
            with suppress(StoreError):  # the disk may be full, which the first error reports
                self._export()
            raise
        run = self._export()
        result = run_figures.result(self._strategy, self._setup.task, run, self._setup.design.boards, self._tested)
        self._run.append(result)
        _refuse_collapse(run)
        return result

    def _train(self, past: RunData) -> None:
        total = self._plan.run.rounds
        if self._plan.privacy.is_private and (lacking := privacy_accounting.lacking()):
            self._observer.event(f"{lacking}; then tinymetafed report {past.path} shows it")
        if self._looked_at is None and self._plan.evaluation.every and past.trained < total:
            self._observer.event(
                f"evaluation.every = {self._plan.evaluation.every}: there are no validation clients, and test clients are not "
                f"looked at before the end, so nothing is scored on the way; {self._setup.task.spec.more_validation}"
            )
        self._observer.stage("meta-training", total - past.trained)
        if self._due(past.trained) and past.trained not in {entry.round for entry in past.evaluations}:
            self._evaluate(past.weights, past.trained)
        if past.trained == total:
            return
        boards = self._boards(past)
        first = initial(self._setup.design.manifest, self._plan.run.seed, self._plan.model.init)
        guard = Guard(self._strategy.spec, first, past.measures())
        done_rounds = rounds.rounds(self._strategy, self._setup.task, self._trainers, past.weights, past.trained, boards, guard)
        for done in _explained(done_rounds, self._plan, self._setup.task):
            self._write(done)
            self._observer.advance()
            if self._due(done.index + 1):
                self._evaluate(done.weights, done.index + 1)

    def _boards(self, past: RunData) -> list[bytes] | None:
        """Unique ids of the clients' own boards; None if any device may train any client, as in a simulation.

        Where each board is a client, they are the boards of the first session. Where clients only keep state, they are the
        boards of this session, because state is lost with a session.
        """
        if self._plan.task.boards_are_clients:
            ids = [device.unique_id for device in past.sessions[0].devices] if past.sessions else self._unique_ids
        elif self._strategy.kept:
            ids = self._unique_ids
        else:
            return None
        return sorted(bytes.fromhex(each) for each in ids if each) or None

    @property
    def _unique_ids(self) -> list[str]:
        return [device.unique_id for device in self._known]

    def _write(self, done: Round) -> None:
        """Stores a round."""
        joined = [device for device in self._trainers.devices if device not in self._known]
        self._known += joined
        sent = done.traffic
        entry = RoundEntry(
            round=done.index,
            alpha=done.alpha,
            contributions=tuple(done.contributions),
            devices=tuple(joined),  # the others are in the session's entry
            bytes_down=sent.down - sent.samples_down,
            bytes_up=sent.up - sent.samples_up,
            bytes_samples=sent.samples_down + sent.samples_up,
            retries=sent.retries,
            seconds=round(done.seconds, 6),
            update_norm=done.change,
            weights_sha256=sha256(done.weights),
            bytes_down_full=sent.down - sent.samples_down + sent.spared if self._strategy.spec.takes_differences else None,
        )
        self._run.append(entry, done.weights)
        self._down += entry.bytes_down
        self._up += entry.bytes_up

    def _due(self, trained: int) -> bool:
        """Whether validation clients are evaluated after this many rounds, before the final meta-test."""
        every = self._plan.evaluation.every
        if self._looked_at is None:
            return False
        if trained == self._plan.run.rounds and trained:
            return self._setup.keeps_best
        return bool(every) and 0 < trained < self._plan.run.rounds and trained % every == 0

    def _evaluate(self, weights: Floats, trained: int) -> None:
        """Evaluates a few validation clients during training. It only informs: it never ends the run."""
        past = self._run.evaluations
        test = self._meta_test(weights, trained, self._plan.evaluation.every_tasks, group=self._looked_at)
        entry = replace(test, per_task=(), per_unit=(), confusion=())
        so_far = [former for former in past if former.kept_sha256]
        if self._setup.keeps_best and (not so_far or _is_better(entry, so_far[-1])):
            entry = replace(entry, kept_sha256=sha256(weights))
        self._run.append(entry, weights if entry.kept_sha256 else None)
        after = "diverged" if entry.after is None else f"{entry.after:.3f}"
        self._observer.note(f"after {trained} rounds, validation clients: {entry.metric} {after}")
        known_before = bool(past) and past[-1].collapsed
        if entry.collapsed and not known_before:
            self._observer.event(f"{_collapse(self._plan, [*past, entry])}; training goes on")

    def _test(self) -> None:
        """Does what is missing of the final meta-test, its curve over numbers of samples, and the example."""
        run, setup = self._run.read(), self._setup
        last = run.evaluations[-1] if run.evaluations else None
        if last is None or not last.per_task or last.round < run.trained:
            tasks = self._plan.evaluation.tasks
            self._observer.stage(f"meta-test on unseen clients ({self._tested.kind})", tasks)
            last = self._meta_test(run.kept, run.trained, tasks, self._observer.advance)
            self._run.append(last)
        if run.showcase is None:
            started, asked = time.monotonic(), (self._testers, self._strategy, setup.task, run.kept)
            final = MetaTest.of(last)
            tried = meta_test.shots(setup.task, setup.experiment.task.count(SampleSet.ADAPT))
            self._observer.stage("meta-test with fewer and more samples", (len(tried) - 1) * len(final.after))
            curve, example = (
                meta_test.d_curve(*asked, final, self._observer.advance, self._tested),
                example_client.example(*asked, self._tested),
            )
            untrained = self._untrained(last, run.trained)
            self._run.append(Showcase(curve, example, time.monotonic() - started, untrained))

    def _untrained(self, final: Evaluation, trained: int) -> Scores:
        """The scores of the final meta-test's clients when they adapt from the initial weights."""
        if trained:
            experiment, manifest = self._plan, self._setup.design.manifest
            weights = initial(manifest, experiment.run.seed, experiment.model.init)
            self._observer.stage("meta-test without training by others", final.n_tasks)
            final = self._meta_test(weights, 0, final.n_tasks, self._observer.advance)
        return Scores(
            final.metric,
            final.before,
            final.after,
            final.after_ci95,
            final.n_tasks,
            final.n_clients,
            (),
            n_independent=final.n_independent,
            unit=final.unit,
            group=final.group,
        )

    def _meta_test(
        self,
        weights: Floats,
        trained: int,
        tasks: int,
        on_task: Callable[[], None] = lambda: None,
        group: Group | None = None,
    ) -> Evaluation:
        started, group = time.monotonic(), group or self._tested
        test = meta_test.meta_test(
            self._testers, self._strategy, self._setup.task, weights, tasks, on_task=on_task, group=group
        )
        return test.evaluation(trained, self._down, self._up, time.monotonic() - started)

    def _export(self) -> RunData:
        run = self._run.read()
        export.write(run, run.path / "weights.npz")
        return run


def _explained(done: Iterator[Round], experiment: Experiment, task: Task) -> Iterator[Round]:
    """The rounds; if training diverges on inputs that are not normalised, the error names their column instead of a remedy."""
    try:
        yield from done
    except Diverged as error:
        if (cause := unscaled(experiment, task)) is None:
            raise
        raise Diverged(error.what, cause) from None
    except TrainingFailed as error:
        if error.status is not Status.NOT_FINITE or (cause := unscaled(experiment, task)) is None:
            raise
        raise TrainingFailed(f"{error}, or inputs that are too large: {cause}", error.status) from None


def _refuse_collapse(run: RunData) -> None:
    """Raises Collapsed if the final meta-test of a run found networks that ignore their input."""
    if run.evaluations[-1].collapsed:
        raise Collapsed(f"{run.path}: training collapsed: {_collapse(run.experiment(), run.evaluations)}")


def _collapse(experiment: Experiment, evaluations: Sequence[Evaluation]) -> str:
    """Says that the last of a run's evaluations found a collapse, and what to do.

    A network that has hardly been trained gives one answer too; an earlier, better score shows that it has lost what it knew.
    """
    last = evaluations[-1]
    which = f"{last.constant} of {last.n_tasks} adapted networks"
    found = f"after {last.round} rounds {which} give the same answer whatever their input"
    better = [entry for entry in evaluations[:-1] if not entry.collapsed and _is_better(entry, last)]
    lower = "lower strategy.global_learning_rate or strategy.alpha_max"
    if last.metric == Metric.MSE and not 0 < experiment.strategy.output_clamp <= 1:
        lower = f"set strategy.output_clamp = 1.0, or {lower}"
    if better:
        return f"{found}, and the score fell since round {better[-1].round}; {lower}"
    train_more = "train longer (run.rounds) or raise strategy.global_learning_rate"
    return f"{found}; if training has only begun, {train_more}, otherwise {lower}"


def _is_better(one: Evaluation, other: Evaluation) -> bool:
    """Whether one evaluation has the better score after adaptation; a diverged one has the worst."""
    worst = one.metric.worst
    first, second = (worst if entry.after is None else entry.after for entry in (one, other))
    return one.metric.is_better(first, second)


def adapt(
    setup: Setup,
    urls: Sequence[str],
    weights: Floats,
    clients: Sequence[int],
    observer: Observer,
    save: Path | None = None,
    *,
    keep: bool = False,
) -> Adaptation:
    """Adapts clients on devices.

    Args:
        setup: The experiment's set-up.
        urls: URLs of the devices.
        weights: float32[n_global], the global weights.
        clients: Numbers of the clients.
        observer: Is told of progress.
        save: Folder for the adapted weights of each client; None to drop them.
        keep: Each client's device saves the adapted weights in its store.

    Returns:
        Each client's scores before and after.

    Raises:
        Error: LinkError, BuildError, SpecError, AdaptedError or StoreError.
    """
    strategy, task = setup.strategy, setup.task
    count = setup.experiment.task.count(SampleSet.ADAPT)
    tested = design(setup.experiment.streamed, setup.design.board, setup.source, setup.design.boards)
    with running(tested, urls, observer, data_sha256=task.data_sha256) as fleet:
        if keep:
            _require_stores(setup, len(clients), len(fleet.devices))
        observer.stage("adapting clients", len(clients))
        on_devices = DeviceClients(fleet, strategy, task).adapt(weights, clients, count, observer.advance, keep=keep)
    files: Sequence[Path | None] = [None] * len(on_devices)
    if save is not None:
        observer.stage("computing the adapted weights")
        simulated = adapted.compute(setup, weights, clients, count)
        adapted.require_same(on_devices, simulated, task)
        files = adapted.write(save, setup.design, task, simulated)
    return adapted.scores(task, on_devices, count, files)


def _require_stores(setup: Setup, clients: int, devices: int) -> None:
    """Raises SpecError unless there is a device with a store for each client."""
    if not setup.experiment.board.store:
        raise SpecError(f"{setup.source}: boards have no store to keep weights in; train with board.store = true")
    if clients > devices:
        raise SpecError(
            f"{setup.source}: {clients} clients to keep, but {devices} device(s), which keep one each; give more devices"
        )
