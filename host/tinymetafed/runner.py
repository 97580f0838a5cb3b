"""A whole run: firmware built, devices started, rounds trained, unseen clients tested, everything written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import tomli_w

from tinymetafed_codegen import boards, generate
from tinymetafed_codegen.emit import write_if_changed
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment, FolderTask, SpecError, dump

from . import evaluate, export, firmware, project, results, server, store
from .clients import Clients
from .device import DeviceClients
from .evaluate import Collapsed, MetaTest
from .firmware import AS_THE_BOARD_SAYS, Deviation, Firmware
from .fleet import Fleet
from .learn.strategies import Strategy, code_sha256, open_strategy
from .learn.tasks import HELD_OUT, Task
from .learn.tasks.registry import open_task
from .learn.weights import Floats, initial, sha256
from .link.device import Device
from .link.faults import FaultPlan
from .link.launch import DeviceUrlError, launch, parse, require
from .server import Round
from .simulate import SimulatedClients
from .simulator import open_simulator
from .store import Json, RunData, RunStore, StoreError

TEST_URL = "native:2"  # where unseen clients adapt unless somebody says otherwise


class Observer(Protocol):
    """Who watches a run; the command line draws progress from this."""

    def stage(self, text: str, total: int = 0) -> None:
        """A new part of the run begins; ``total`` steps long, 0 when that is not known."""

    def advance(self) -> None:
        """One step of the current part is done."""

    def note(self, text: str) -> None:
        """Something to show beside the progress, for instance the latest score."""

    def event(self, text: str) -> None:
        """Something that went wrong and was dealt with; comes from any thread and stays readable."""


@dataclass(frozen=True)
class Setup:
    """An experiment made ready: its task's data, its strategy, its manifest on the native board."""

    experiment: Experiment
    source: str
    task: Task
    manifest: dict[str, Any]
    strategy: Strategy
    data: Path | None


def set_up(experiment: Experiment, source: str, data: Path | None) -> Setup:
    """Reads data and settles the model. Raises SpecError, DataError."""
    manifest = manifest_of(experiment, source, "native")
    task = open_task(experiment, data)
    return Setup(experiment, source, task, manifest, open_strategy(experiment, manifest), data and data.resolve())


def manifest_of(experiment: Experiment, source: str, board: str) -> dict[str, Any]:
    """The experiment's manifest on a board. Raises SpecError, BoardError."""
    return generate.design(experiment, boards.load(board), source).manifest


def build(experiment: Experiment, source: str, board: str, deviation: Deviation = AS_THE_BOARD_SAYS) -> Firmware:
    """Builds the experiment's firmware for a board, in a folder of its model's own. Raises FirmwareError, SpecError."""
    manifest_of(experiment, source, board)  # refuses a model that is too large before anything is compiled
    settled = settle(experiment, source)
    return firmware.build(settled, board, key=settled.parent.name, deviation=deviation)


def settle(experiment: Experiment, source: str) -> Path:
    """Writes the complete experiment where its model's builds go, and beside it what lets PlatformIO flash it by hand."""
    key: str = manifest_of(experiment, source, "native")["model_hash"]
    folder = firmware.build_root() / key
    write_if_changed(folder / "experiment.toml", tomli_w.dumps(dump(experiment)))
    packages = (firmware.build_root() / "core").as_posix()  # one for all: a real board's compiler is large
    for name, text in project.platformio_files("native", packages).items():
        write_if_changed(folder / name, text)
    return folder / "experiment.toml"


@contextmanager
def running(
    experiment: Experiment,
    source: str,
    urls: Sequence[str],
    observer: Observer,
    *,
    icount: bool = False,
    faults: FaultPlan | None = None,
    record: Path | None = None,
) -> Iterator[Fleet]:
    """Builds firmware where needed, starts or opens the devices and checks what is on them; stops them at the end."""

    def check(device: Device) -> None:
        manifest = manifest_of(experiment, source, device.board)
        remedy = f"pio run -d {settle(experiment, source).parent} -e {device.board} -t upload"
        device.session.check(device.hello, manifest, remedy)

    specs = parse(urls)
    require(specs)
    programs: dict[str, Path] = {}
    for board in dict.fromkeys(spec.board for spec in specs if spec.board is not None):
        observer.stage(f"building firmware for {board}")
        programs[board] = build(experiment, source, board).program
    observer.stage(f"starting {', '.join(urls)}")
    with launch(specs, programs.__getitem__, icount=icount, faults=faults, record=record, check=check) as devices:
        yield Fleet(devices, on_event=observer.event)


class Site(Protocol):
    """Where a session of a run takes place.

    ``hold_seconds``: how long finished rounds may wait for others to be written with (store.RunStore).
    """

    @property
    def hold_seconds(self) -> float: ...  # noqa: D102  # the class says it

    def open(self, setup: Setup, observer: Observer) -> AbstractContextManager[tuple[Clients, Clients]]:
        """The clients to train and those to test on, ready to work. Raises LinkError, FirmwareError, SpecError."""


@dataclass(frozen=True)
class OnDevices:
    """URLs to train and to test on, and what is done to the training lines."""

    hold_seconds: ClassVar[float] = 0.0  # what a board has trained on may exist nowhere else
    urls: Sequence[str]
    test_urls: Sequence[str]
    faults: FaultPlan | None = None
    record: Path | None = None

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Builds, starts and checks the devices; stops them at the end. Raises SpecError for another number than it takes."""
        _a_board_for_each_client(setup, sum(spec.count for spec in parse(self.urls)))
        require([*parse(self.urls), *parse(self.test_urls)])
        if shared := {spec.url for spec in parse(self.urls) if spec.kind == "serial"} & set(self.test_urls):
            raise DeviceUrlError(f"{', '.join(sorted(shared))}: given both to train and to test on; a port serves one session")
        strategy, task = setup.strategy, setup.task
        with (
            running(setup.experiment, setup.source, self.urls, observer, faults=self.faults, record=self.record) as fleet,
            running(setup.experiment.streamed, setup.source, self.test_urls, observer) as testers,
        ):
            yield DeviceClients(fleet, strategy, task), DeviceClients(testers, strategy, task)


@dataclass(frozen=True)
class Simulated:
    """This process, on so many threads."""

    hold_seconds: ClassVar[float] = 0.25  # done again in less
    threads: int

    @contextmanager
    def open(self, setup: Setup, observer: Observer) -> Iterator[tuple[Clients, Clients]]:
        """Compiles the kernels, unless that has been done."""
        observer.stage("compiling the simulation")
        simulator = open_simulator(setup.experiment, setup.source, self.threads)
        clients = SimulatedClients(simulator, setup.strategy, setup.task)
        yield clients, clients


def train(
    setup: Setup,
    urls: Sequence[str],
    test_urls: Sequence[str],
    out: Path,
    observer: Observer,
    *,
    faults: FaultPlan | None = None,
    record: Path | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs an experiment into the folder ``out`` and returns its result, ``facts`` added to it as they are.

    Raises LinkError, FirmwareError, DeltaError, StoreError; Collapsed when the network no longer depends on its input.
    Whatever ends it early, every finished round is in the store, and ``resume`` continues after it.
    """
    asked = {"devices": list(urls), "test_devices": list(test_urls), "facts": dict(facts or {})}
    return _begin(setup, OnDevices(urls, test_urls, faults, record), asked, out, observer)


def simulate(setup: Setup, threads: int, out: Path, observer: Observer) -> dict[str, Any]:
    """As ``train``, with all clients in this process."""
    return _begin(setup, Simulated(threads), {"devices": [], "test_devices": [TEST_URL], "facts": {}}, out, observer)


def resume(
    path: Path,
    observer: Observer,
    *,
    urls: Sequence[str] = (),
    test_urls: Sequence[str] = (),
    data: Path | None = None,
    faults: FaultPlan | None = None,
    record: Path | None = None,
) -> dict[str, Any]:
    """Continues a run after its last finished round, on the devices that it began with unless ``urls`` names others.

    Returns the result of the whole run. Raises as ``train``.
    """

    def site(asked: Json) -> Site:
        if not urls and not asked["devices"]:
            raise StoreError(
                f"{path}: this run was begun as a simulation; continue it with tinymetafed simulate --resume {path}, or say "
                "with --device where its clients are now"
            )
        return OnDevices(urls or asked["devices"], test_urls or asked["test_devices"], faults, record)

    return _continue(path, site, data, observer)


def resume_simulated(path: Path, threads: int, observer: Observer, *, data: Path | None = None) -> dict[str, Any]:
    """Continues any run after its last finished round, with all clients in this process. Raises as ``train``."""
    return _continue(path, lambda asked: Simulated(threads), data, observer)


def _begin(setup: Setup, site: Site, asked: dict[str, Any], out: Path, observer: Observer) -> dict[str, Any]:
    experiment = setup.experiment
    weights = initial(setup.manifest, experiment.run.seed, experiment.model.init)
    asked |= {"data": None if setup.data is None else str(setup.data), "data_sha256": setup.task.data_sha256}
    asked |= {"strategy_sha256": code_sha256(experiment)}
    started = time.monotonic()
    with site.open(setup, observer) as (trainers, testers):
        manifest = manifest_of(experiment, setup.source, trainers.devices[0]["board"])
        with store.create(out, experiment, manifest, weights, asked) as run:
            run.hold_seconds = site.hold_seconds
            return _Training(setup, run, trainers, testers, observer).complete(time.monotonic() - started)


def _continue(path: Path, site: Callable[[Json], Site], data: Path | None, observer: Observer) -> dict[str, Any]:
    started = time.monotonic()
    with store.reopen(path) as run:
        past = run.read()
        if past.evaluations:
            _refuse_collapse(past.experiment(), path, past.evaluations[-1])
        if past.result is not None:
            return dict(past.result)
        if run.warning:
            observer.event(run.warning)
        setup = set_up(past.experiment(), str(path / "experiment.toml"), data or past.data)
        same_model(setup, past)
        _same_data(setup, past)
        _same_strategy(setup, past)
        if setup.strategy.kept and 0 < past.trained < setup.experiment.run.rounds:
            observer.event(
                f"{path}: what clients keep between rounds ({', '.join(setup.strategy.kept)}) was forgotten when the run "
                f"stopped after {past.trained} rounds; they go on with nothing kept"
            )
        place = site(past.run["asked"])
        with place.open(setup, observer) as (trainers, testers):
            run.hold_seconds = place.hold_seconds
            return _Training(setup, run, trainers, testers, observer).complete(time.monotonic() - started)


def _boards_are_clients(experiment: Experiment) -> bool:
    return isinstance(experiment.task, FolderTask) and experiment.task.client_per_board


def _a_board_for_each_client(setup: Setup, boards: int) -> None:
    """Raises SpecError where clients live on boards and there is not one for each."""
    clients = setup.task.clients
    if setup.strategy.kept and not _boards_are_clients(setup.experiment) and clients != boards:
        raise SpecError(
            f"{setup.source}: {' and '.join(setup.strategy.kept)} keeps something on a client's own board, but "
            f"run.clients = {clients} and there are {boards} boards; set run.clients = {boards}, give --device for {clients}, "
            "or simulate"
        )


def same_model(setup: Setup, run: RunData) -> None:
    """Raises StoreError when this version makes another model of a run's experiment than its weights belong to."""
    if setup.manifest["model_hash"] != run.manifest["model_hash"]:
        files = [str(file) for file in (generate.own_source(setup.experiment), setup.experiment.model.weights) if file]
        remedy = f"restore {' and '.join(files)} as it was then, or use " if files else "use "
        raise StoreError(
            f"{run.path / 'run.db'}: holds weights of model {run.manifest['model_hash']}, this version makes its experiment "
            f"into model {setup.manifest['model_hash']}; {remedy}tinymetafed {run.run['tinymetafed']}"
        )


def _same_strategy(setup: Setup, run: RunData) -> None:
    if code_sha256(setup.experiment) != run.run["asked"]["strategy_sha256"]:
        raise StoreError(
            f"{run.path / 'run.db'}: the file of strategy.kind = '{setup.experiment.strategy.kind}' has changed since this run "
            "was begun; restore it to continue the run, or train a new one with it"
        )


def _same_data(setup: Setup, run: RunData) -> None:
    if setup.task.data_sha256 != run.run["asked"]["data_sha256"]:
        raise StoreError(
            f"{run.path / 'run.db'}: this run's data have changed since it was begun; restore them (or name them with --data) "
            "to continue it, or train a new run on them"
        )


class _Training:
    """What is left of a run: it asks the store what has been done, does the rest, and writes down each step as it ends."""

    def __init__(self, setup: Setup, run: RunStore, trainers: Clients, testers: Clients, observer: Observer) -> None:
        self._setup, self._strategy, self._plan = setup, setup.strategy, setup.experiment
        self._run, self._trainers, self._testers, self._observer = run, trainers, testers, observer
        self._known = trainers.devices
        self._bytes = {"bytes_down": 0, "bytes_up": 0}  # of all rounds so far, for curves over what was sent

    def complete(self, start_seconds: float) -> dict[str, Any]:
        """Goes through to the run's end and returns its result; whatever happens, weights.npz is that of the last round."""
        try:
            past = self._run.read()
            self._bytes = {key: sum(entry[key] for entry in past.rounds) for key in self._bytes}
            session = {"round": past.trained, "devices": self._known.copy(), "versions": results.versions()}
            self._run.append("session", {**session, "start_seconds": start_seconds})
            self._train(past)
            self._test()
        except BaseException:
            with suppress(StoreError):  # the disk may be full, and that is being said already
                self._export()
            raise
        run = self._export()
        result = results.result(self._strategy, self._setup.task, run)
        self._run.append("result", result)
        _refuse_collapse(self._plan, self._run.path, run.evaluations[-1])
        return result

    def _train(self, past: RunData) -> None:
        rounds = self._plan.run.rounds
        self._observer.stage("meta-training", rounds - past.trained)
        if self._due(past.trained) and past.trained not in {entry["round"] for entry in past.evaluations}:
            self._evaluate(past.weights, past.trained)
        if past.trained == rounds:
            return
        boards = self._boards(past)
        for done in server.rounds(self._strategy, self._setup.task, self._trainers, past.weights, past.trained, boards):
            self._write(done)
            self._observer.advance()
            if self._due(done.index + 1):
                self._evaluate(done.weights, done.index + 1)

    def _boards(self, past: RunData) -> list[bytes] | None:
        """Unique ids of the boards that clients live on; None where any serves any, as in a simulation.

        Boards that are the clients are those of the run's first session; what others keep is forgotten with a session.
        """
        if _boards_are_clients(self._plan):
            devices = past.sessions[0]["devices"] if past.sessions else self._known
        elif self._strategy.kept:
            devices = self._known
        else:
            return None
        return sorted(bytes.fromhex(device["unique_id"]) for device in devices if device["unique_id"]) or None

    def _write(self, done: Round) -> None:
        """Commits a round."""
        joined = [device for device in self._trainers.devices if device not in self._known]
        self._known += joined
        entry: dict[str, Any] = {
            "round": done.index,
            "alpha": done.alpha,
            "contributions": [vars(contribution) for contribution in done.contributions],
            "devices": joined,  # the session's entry has those that were there from the start
            "bytes_down": done.traffic.down - done.traffic.samples_down,
            "bytes_up": done.traffic.up - done.traffic.samples_up,
            "bytes_samples": done.traffic.samples_down + done.traffic.samples_up,
            "retries": done.traffic.retries,
            "seconds": round(done.seconds, 6),
            "update_norm": done.change,
            "weights_sha256": sha256(done.weights),
        }
        self._run.append("round", entry, done.weights)
        self._bytes["bytes_down"] += entry["bytes_down"]
        self._bytes["bytes_up"] += entry["bytes_up"]

    def _due(self, trained: int) -> bool:
        """Whether held-out clients are tried after this many rounds, on the way."""
        every = self._plan.evaluation.every
        return bool(every) and 0 < trained < self._plan.run.rounds and trained % every == 0

    def _evaluate(self, weights: Floats, trained: int) -> None:
        """Tries a few held-out clients on the way. Raises Collapsed."""
        entry = self._meta_test(weights, trained, self._plan.evaluation.every_tasks)
        del entry["per_task"]
        self._run.append("evaluation", entry)
        after = "diverged" if entry["after"] is None else f"{entry['after']:.3f}"
        self._observer.note(f"after {trained} rounds: {entry['metric']} {after}")
        _refuse_collapse(self._plan, self._run.path, entry)

    def _test(self) -> None:
        """The final meta-test, its curve over numbers of samples and an example, as far as they are missing."""
        run, setup = self._run.read(), self._setup
        last = run.evaluations[-1] if run.evaluations else {}
        if "per_task" not in last:
            tasks = self._plan.evaluation.tasks
            self._observer.stage("meta-test on unseen clients", tasks)
            last = self._meta_test(run.weights, run.trained, tasks, self._observer.advance)
            self._run.append("evaluation", last)
        if run.showcase is None:
            started, asked = time.monotonic(), (self._testers, self._strategy, setup.task, run.weights)
            final = MetaTest.of(last)
            tried = evaluate.shots(setup.task, setup.experiment.task.count(SampleSet.ADAPT))
            self._observer.stage("meta-test with fewer and more samples", (len(tried) - 1) * len(final.after))
            shown = {"d_curve": evaluate.d_curve(*asked, final, self._observer.advance), "example": evaluate.example(*asked)}
            self._run.append("showcase", {**shown, "seconds": time.monotonic() - started})

    def _meta_test(
        self, weights: Floats, trained: int, tasks: int, on_task: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        started = time.monotonic()
        test = evaluate.meta_test(self._testers, self._strategy, self._setup.task, weights, tasks, on_task=on_task)
        clients = min(tasks, self._setup.task.unseen_clients)
        judged = {"round": trained, **self._bytes, "n_clients": clients, "constant": test.constant, "collapsed": test.collapsed}
        return {**test.summary(), **judged, "seconds": time.monotonic() - started}

    def _export(self) -> RunData:
        run = self._run.read()
        export.write(run, run.path / "weights.npz")
        return run


def _refuse_collapse(experiment: Experiment, path: Path, evaluation: Json) -> None:
    if not evaluation["collapsed"]:
        return
    remedy = "lower strategy.global_learning_rate or strategy.alpha_max"
    if evaluation["metric"] == "mse" and not 0 < experiment.strategy.output_clamp <= 1:
        remedy = f"set strategy.output_clamp = 1.0, or {remedy}"
    raise Collapsed(
        f"{path}: training collapsed: after {evaluation['round']} rounds {evaluation['constant']} of "
        f"{evaluation['n_tasks']} adapted networks give the same answer whatever their input; {remedy}"
    )


def adapt(setup: Setup, urls: Sequence[str], weights: Floats, clients: Sequence[int], observer: Observer) -> dict[str, Any]:
    """Adapts unseen clients one by one and returns each one's scores before and after. Raises LinkError, SpecError."""
    strategy, task = setup.strategy, setup.task
    count = setup.experiment.task.count(SampleSet.ADAPT)
    with running(setup.experiment.streamed, setup.source, urls, observer) as fleet:
        observer.stage("adapting unseen clients", len(clients))
        unseen = [HELD_OUT + client for client in clients]
        adapted = DeviceClients(fleet, strategy, task).adapt(weights, unseen, count, observer.advance)
    rows: list[dict[str, Any]] = [
        {
            "client": each.client - HELD_OUT,
            "task": task.describe(each.client),
            "before": evaluate.finite(task.score(each.before, each.test)),
            "after": evaluate.finite(task.score(each.after, each.test)),
        }
        for each in adapted
    ]
    return {
        "metric": task.metric,
        "samples": count,
        "before": evaluate.mean([row["before"] for row in rows]),
        "after": evaluate.mean([row["after"] for row in rows]),
        "clients": rows,
    }
