"""The remaining work of a run: rounds, evaluations and the final meta-test, each stored as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

from tinymetafed_codegen.protocol import SampleSet, Status
from tinymetafed_codegen.spec import Experiment

from ..federation import example_client, meta_test, rounds
from ..federation.clients import Clients, Trainers, TrainingFailed
from ..federation.meta_test import Group, MetaTest
from ..federation.observer import Observer
from ..federation.predict_then_train import is_online, predict_then_train
from ..federation.result import Evaluation, Scores
from ..federation.rounds import Round
from ..federation.standing import Guard
from ..learn.normalisation import unscaled
from ..learn.server_optimiser import ServerState
from ..learn.strategies import Diverged
from ..learn.tasks import Task
from ..learn.weights import Floats, initial, sha256
from . import export, lateness, privacy_accounting, run_figures
from .beside import Beside
from .collapse import collapse_found, is_better, refuse_collapse
from .journal import Entry, RoundEntry, RunResult, ServerEntry, SessionEntry, Showcase
from .journal_observer import JournalObserver
from .run_data import RunData, StoreError
from .setup import Setup
from .store import RunStore


class RestOfRun:
    """The remaining work of a run: reads from the store what is done, does the rest and stores each step as it ends."""

    def __init__(self, setup: Setup, run: RunStore, trainers: Trainers, testers: Clients, observer: Observer) -> None:
        self._setup, self._strategy, self._plan = setup, setup.strategy, setup.experiment
        self._run, self._trainers, self._testers, self._observer = run, trainers, testers, observer
        self._journal_observer = observer if isinstance(observer, JournalObserver) else None  # asked once: it takes long
        self._known = trainers.devices
        self._tested = setup.tested
        self._looked_at = Group.validation(setup.task) if setup.task.n_validation else None
        self._late: set[str] = set()  # devices that were late in the last round
        self._down = self._up = 0  # bytes of all rounds so far, for the curve over bytes
        self._looking = Beside[Evaluation]()  # an evaluation on the way, on devices that do not train

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
            if self._journal_observer is not None:
                self._journal_observer.opened(self._run.read())
            self._train(past)
            self._looking.finish()
            self._test()
        except BaseException:
            with suppress(StoreError):  # the disk may be full, which the first error reports
                self._export()
            raise
        run = self._export()
        result = run_figures.result(self._strategy, self._setup.task, run, self._setup.design.boards, self._tested)
        self._append(result)
        refuse_collapse(run)
        return result

    def _append(self, entry: Entry, weights: Floats | None = None, server: ServerState | None = None) -> None:
        """Stores an entry, and shows it to an observer of the journal."""
        self._run.append(entry, weights, server)
        if self._journal_observer is not None:
            self._journal_observer.stored(entry)

    def _train(self, past: RunData) -> None:
        total = self._plan.run.rounds
        if self._plan.privacy.is_private and (lacking := privacy_accounting.lacking()):
            self._observer.event(f"{lacking}; then tinymetafed report {past.path} shows it")
        if self._looked_at is None and self._plan.evaluation.every and past.trained < total:
            self._observer.event(
                f"evaluation.every = {self._plan.evaluation.every}: there are no validation clients, and test clients are "
                f"scored only at the end, so the run has no scores before it; {self._setup.task.spec.more_validation}"
            )
        self._observer.stage("meta-training", total - past.trained)
        looked_at = {entry.round for entry in past.evaluations}
        if (begun := past.evaluating) is not None:
            sent = past.rounds[: begun.round]
            traffic = sum(entry.bytes_down for entry in sent), sum(entry.bytes_up for entry in sent)
            self._evaluate(begun.weights, begun.round, traffic)
            looked_at.add(begun.round)
        if self._due(past.trained) and past.trained not in looked_at:
            self._evaluate(past.server.result(past.weights), past.trained)
        if past.trained == total:
            return
        boards = self._boards(past)
        first = initial(self._setup.design.manifest, self._plan.run.seed, self._plan.model.init)
        guard = Guard(self._strategy.spec, first, past.measures())
        asked = (self._strategy, self._setup.task, self._trainers, past.weights, past.trained, boards, guard, past.server)
        done_rounds = rounds.rounds(*asked)
        for done in _explained(done_rounds, self._plan, self._setup.task):
            self._write(done)
            self._observer.advance()
            self._looking.look()
            if self._due(done.index + 1):
                self._evaluate(done.server.result(done.weights), done.index + 1)

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
            server=ServerEntry(done.server.sha256, done.server.averaged) if done.server.sha256 else None,
            late=done.late or None,
            returned=done.returned or None,
        )
        self._append(entry, done.weights, done.server)
        self._tell_of_late(entry)
        self._down += entry.bytes_down
        self._up += entry.bytes_up

    def _tell_of_late(self, entry: RoundEntry) -> None:
        """Says who was late, unless the same boards were in the round before."""
        boards = {each.device for each in entry.late or ()}
        if entry.late and boards != self._late:
            self._observer.event(lateness.said(entry))
        self._late = boards

    def _due(self, trained: int) -> bool:
        """Whether validation clients are evaluated after this many rounds, before the final meta-test."""
        every = self._plan.evaluation.every
        if self._looked_at is None:
            return False
        if trained == self._plan.run.rounds and trained:
            return self._setup.keeps_best
        return bool(every) and 0 < trained < self._plan.run.rounds and trained % every == 0

    def _evaluate(self, weights: Floats, trained: int, sent: tuple[int, int] | None = None) -> None:
        """Evaluates a few validation clients during training, beside the rounds where it can.

        It only informs: it never ends the run. ``sent``: bytes down and up until then; None for those of all rounds so far.
        """
        self._looking.finish()  # one at a time, in the order of the rounds
        tasks = self._plan.evaluation.every_tasks
        look = partial(self._meta_test, weights, trained, tasks, group=self._looked_at, sent=sent or (self._down, self._up))
        if self._testers is self._trainers:  # a simulation, whose kernels do one thing at a time
            test = look()
            self._looked(weights, trained, test, test.seconds)
            return
        self._run.begin_evaluation(trained, weights)
        if self._journal_observer is not None:
            self._journal_observer.evaluates(trained)
        self._looking.start(look, partial(self._looked, weights, trained))

    def _looked(self, weights: Floats, trained: int, test: Evaluation, waited: float) -> None:
        """Stores and tells what an evaluation has found, for which the run has ``waited`` seconds."""
        past = self._run.evaluations
        entry = replace(test, per_task=(), per_unit=(), confusion=(), seconds=waited)
        so_far = [former for former in past if former.kept_sha256]
        if self._setup.keeps_best and (not so_far or is_better(entry, so_far[-1])):
            entry = replace(entry, kept_sha256=sha256(weights))
        self._append(entry, weights if entry.kept_sha256 else None)
        after = "diverged" if entry.after is None else f"{entry.after:.3f}"
        self._observer.note(f"after {trained} rounds, validation clients: {entry.metric} {after}")
        known_before = bool(past) and past[-1].collapsed
        if entry.collapsed and not known_before:
            self._observer.event(f"{collapse_found(self._plan, [*past, entry])}; training goes on")

    def _test(self) -> None:
        """Does what is missing of the final meta-test, its curve over numbers of samples, and the example."""
        run, setup = self._run.read(), self._setup
        last = run.evaluations[-1] if run.evaluations else None
        if last is None or not last.per_task or last.round < run.trained:
            tasks = self._plan.evaluation.tasks
            self._observer.stage(f"meta-test on unseen clients ({self._tested.kind})", tasks)
            last = self._meta_test(run.kept, run.trained, tasks, self._observer.advance)
            self._append(last)
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
            online = self._online(last, run.kept)
            self._append(Showcase(curve, example, time.monotonic() - started, untrained, online))

    def _online(self, final: Evaluation, weights: Floats) -> Scores | None:
        """The final meta-test's clients, scored on each sample before they train on it; None if they train on it again."""
        if not is_online(self._strategy):
            return None
        self._observer.stage("predicting each sample before training on it", final.n_tasks)
        asked = (self._testers, self._strategy, self._setup.task, weights, final.n_tasks)
        return predict_then_train(*asked, self._observer.advance, self._tested)

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
        sent: tuple[int, int] | None = None,
    ) -> Evaluation:
        started, group = time.monotonic(), group or self._tested
        down, up = sent or (self._down, self._up)
        test = meta_test.meta_test(
            self._testers, self._strategy, self._setup.task, weights, tasks, on_task=on_task, group=group
        )
        return test.evaluation(trained, down, up, time.monotonic() - started)

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
