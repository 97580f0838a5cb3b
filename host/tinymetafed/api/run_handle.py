"""Runs: starts, resumes and opens them; their weights and history as arrays."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen.errors import Error, UsageError

from ..devices.device_urls import require_secure
from ..devices.link import faults
from ..federation.meta_test import Collapsed
from ..federation.result import Adaptation
from ..learn.tasks import HELD_OUT
from ..learn.weights import Floats, sha256
from ..runs import adapted, export, exporting, foreign_parts, report, run_folder, scoring, store, training
from ..runs.journal import RunResult
from ..runs.run_data import RunData, StoreError
from ..runs.setup import design_of, set_up
from .api_defaults import ADAPTED_TASKS, DEFAULT_DEVICES, TEST_DEVICE
from .loaded_experiment import Experiment, data_path
from .progress import ProgressOption, watching


class FileError(Error):
    """A file or folder that cannot be read or written; the text names it and says why."""


@dataclass(frozen=True)
class History:
    """A run's rounds and meta-tests as arrays.

    One entry per round: ``round``; ``alpha``, the server's learning rate; ``update_norm``, the Euclidean norm of the weights'
    change; ``bytes_down`` and ``bytes_up`` on the wire, framing and retries included, without samples; ``bytes_samples``,
    streamed samples and their answers; ``seconds``. One entry per meta-test: ``evaluated_after``, the rounds trained before
    it; ``before`` and ``after``, the mean score of unseen clients before and after adaptation in ``metric`` (NaN if a model
    diverged).
    """

    round: NDArray[np.int64]
    alpha: NDArray[np.float64]
    update_norm: NDArray[np.float64]
    bytes_down: NDArray[np.int64]
    bytes_up: NDArray[np.int64]
    bytes_samples: NDArray[np.int64]
    seconds: NDArray[np.float64]
    evaluated_after: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    metric: str


class Run:
    """A run in its folder: weights, history and result, and what can be done with them.

    A run that is still training may be opened too; ``reload`` reads what has been added.
    """

    def __init__(self, path: str | Path, *, trust: bool = False) -> None:
        """Opens a run folder; ``trust`` as in ``open_run``. Raises StoreError."""
        self.path = Path(path)
        self._data = store.read_run(self.path)
        if trust:
            self._data.trust()

    def __repr__(self) -> str:
        state = "finished" if self.finished else f"{self.rounds:,} rounds so far"
        return f"Run({str(self.path)!r}, {state})"

    def reload(self) -> Run:
        """Reads the folder again and returns the run. Raises StoreError."""
        self._data = store.read_run(self.path)
        return self

    @property
    def data(self) -> RunData:
        """The content of the run's store as typed values."""
        return self._data

    @property
    def experiment(self) -> Experiment:
        """The complete experiment of the run. Raises StoreError if this version cannot read it."""
        return Experiment(self._data.experiment(), str(self.path / "experiment.toml"))

    @property
    def rounds(self) -> int:
        """Number of rounds trained."""
        return self._data.trained

    @property
    def kept_round(self) -> int:
        """Rounds trained until ``weights``: all of them, or with run.keep = "best" until the best weights so far."""
        return self._data.kept_round

    @property
    def finished(self) -> bool:
        """Whether the run has been trained and tested to its end."""
        return self._data.result is not None

    @property
    def result(self) -> RunResult | None:
        """The figures of a finished run; None before that."""
        return self._data.result

    @property
    def weights(self) -> dict[str, Floats]:
        """The global weights after ``kept_round`` rounds, by names such as dense1.kernel: float32 in the tensor's shape."""
        return export.global_weights(self._data)

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of the global weights; the same experiment gives the same value on all devices and in a simulation."""
        return sha256(self._data.kept)

    @property
    def history(self) -> History:
        """Rounds and meta-tests so far, as arrays."""
        rounds, tests = self._data.rounds, self._data.evaluations

        def ints(values: Iterator[int]) -> NDArray[np.int64]:
            return np.array([*values], np.int64)

        def floats(values: Iterator[float | None]) -> NDArray[np.float64]:
            return np.array([np.nan if value is None else value for value in values], np.float64)

        return History(
            round=ints(entry.round for entry in rounds),
            alpha=floats(entry.alpha for entry in rounds),
            update_norm=floats(entry.update_norm for entry in rounds),
            bytes_down=ints(entry.bytes_down for entry in rounds),
            bytes_up=ints(entry.bytes_up for entry in rounds),
            bytes_samples=ints(entry.bytes_samples for entry in rounds),
            seconds=floats(entry.seconds for entry in rounds),
            evaluated_after=ints(test.round for test in tests),
            before=floats(test.before for test in tests),
            after=floats(test.after for test in tests),
            metric=tests[-1].metric if tests else "",
        )

    def report(self, output: str | Path | None = None) -> Path:
        """Writes the run's HTML report; of a run that still trains, up to the last ``reload``.

        Args:
            output: The file; None for report.html in the run folder.

        Returns:
            Path of the report.

        Raises:
            StoreError: The run cannot be read.
        """
        with _named_files():
            return report.write(self._data, None if output is None else Path(output))

    def export(
        self,
        output: str | Path,
        *,
        format: str | None = None,
        client: str | None = None,
        adapt: Sequence[str | Path] = (),
        outputs: Literal["logits", "softmax"] = "logits",
        data: str | Path | None = None,
    ) -> Path:
        """Writes the weights or the whole network to a file, or a library for boards to a folder.

        Args:
            output: FILE.npz or FILE.h for the weights, FILE.keras or FILE.tflite for the network, or a folder.
            format: "arduino", "cpp", "header", "keras", "tflite" or "npz"; None for the one of the file's suffix.
            client: A client to adapt the weights to: the name of its file, or the number of an unseen client.
            adapt: Files like those of the run, to adapt the weights to their samples.
            outputs: Whether a network for TensorFlow ends in logits or in the activation of its loss.
            data: Folder of the task's data; None for that of the run.

        Returns:
            Path of the file or folder.

        Raises:
            ExportError: The format is unknown, or the network cannot be exported so, or the folder is no earlier export.
            ModelFileError: TensorFlow is needed and not installed.
            StoreError: The file cannot be written.
            UsageError: ``data`` is given without ``client``, or is nothing that the task reads.
            Error: DataError, BuildError and SpecError where the weights are adapted.
        """
        if data is not None and client is None:
            raise UsageError(f"--data {data} has the clients of --client; give a client too, or leave --data out")
        with _named_files():
            return exporting.write(
                self._data,
                Path(output),
                format=format,
                client=client,
                adapt=[Path(file) for file in adapt],
                outputs=outputs,
                data=data_path(self._data.experiment().task, data),
            ).path

    def adapt(
        self,
        *,
        devices: Sequence[str] = DEFAULT_DEVICES,
        tasks: int | None = None,
        first: int | None = None,
        clients: Sequence[str] = (),
        samples: int | None = None,
        data: str | Path | None = None,
        save: str | Path | None = None,
        keep: bool = False,
        insecure: bool = False,
        progress: ProgressOption = True,
    ) -> Adaptation:
        """Adapts clients, starting from the run's weights.

        Args:
            devices: Device URLs to adapt on.
            tasks: Number of unseen clients; None for 10.
            first: Number of the first one; None for 0.
            clients: Names of the clients instead: of files where each client is a file, numbers of unseen clients otherwise.
            samples: Samples to adapt with, in the unit of ``task.adapt``; None for the run's own number.
            data: Folder of the task's data; None for that of the run.
            save: Folder for the adapted weights, an npz file per client; None to drop them.
            keep: Each device saves the weights of its client, one client per device, and predicts with them after a reset. The
                run's boards need a store: ``board.store = true``.
            insecure: As in ``train``.
            progress: As in ``simulate``.

        Returns:
            Each client's score before and after, their means, and the results by class.

        Raises:
            StoreError, SpecError, DataError, LinkError, LaunchError, BuildError.
            UsageError: Options contradict each other, or ``data`` is nothing that the task reads.
        """
        for option, value in (("--tasks", tasks), ("--first", first)):
            if clients and value is not None:
                raise UsageError(
                    f"{option} {value} and --client: give one of them; --client names the clients, --tasks and --first number "
                    "unseen ones"
                )
        experiment = self._data.experiment(adapt=samples)
        require_secure(devices, experiment.run.security, insecure)
        if save is not None:
            adapted.require_folder(Path(save))
        setup = set_up(experiment, str(self.path / "experiment.toml"), data_path(experiment.task, data) or self._data.data)
        training.same_model(setup, self._data)
        numbers = range(first or 0, (first or 0) + (ADAPTED_TASKS if tasks is None else tasks))
        chosen = [setup.task.find(name) for name in clients] or [HELD_OUT + number for number in numbers]
        with watching(progress) as observer, _named_files():
            return training.adapt(setup, devices, self._data.kept, chosen, observer, _path(save), keep=keep)

    def evaluate(
        self,
        *,
        data: str | Path | None = None,
        weights: str | Path | None = None,
        samples: int | None = None,
        threads: int | None = None,
        progress: ProgressOption = True,
    ) -> Adaptation:
        """Scores the run's model on any data, in a simulation.

        Args:
            data: The data, for instance a folder with other recordings; None for the held-out clients of the run's own.
            weights: A file that ``adapt`` saved, for all clients, or a folder with a file for each; then nothing is trained.
                None to let each client adapt with samples of its own.
            samples: Samples to adapt with, in the unit of ``task.adapt``; None for the run's own number.
            threads: Threads to use; None for all processors.
            progress: As in ``simulate``.

        Returns:
            Each client's score before and after, their means, and the results by class. Where each client is a file, every
            file of ``data`` is scored, on all of its rows that it has not adapted to; ``trained_on`` says whether the run
            has trained on the same samples. With ``weights``, the rows that they were adapted with are left out where the
            file says which they are. ``notes`` says what was left out, and what is not known.

        Raises:
            StoreError, SpecError, DataError, AdaptedError, BuildError.
            UsageError: Options contradict each other, or ``data`` is nothing that the task reads.
        """
        if weights is not None and samples is not None:
            raise UsageError(
                f"--samples {samples} and --weights: give one of them; weights that are adapted already adapt with no samples"
            )
        own = data_path(self._data.experiment().task, data)
        with watching(progress) as observer, _named_files():
            return scoring.evaluate(self._data, own, _path(weights), samples, _threads(threads), observer)

    def resume(
        self,
        *,
        devices: Sequence[str] = (),
        test_device: str | None = None,
        threads: int | None = None,
        data: str | Path | None = None,
        fault: str = "",
        record: str | Path | None = None,
        rounds: int | None = None,
        insecure: bool = False,
        progress: ProgressOption = True,
    ) -> Run:
        """Continues the run after its last finished round; see ``resume`` for the arguments."""
        return resume(
            self.path,
            devices=devices,
            test_device=test_device,
            threads=threads,
            data=data,
            fault=fault,
            record=record,
            rounds=rounds,
            insecure=insecure,
            progress=progress,
        )


def open_run(path: str | Path, *, trust: bool = False) -> Run:
    """Opens the folder of a run, finished or still training.

    Args:
        path: The run folder.
        trust: Accept the code, boards and devices that the run brings, now and from then on. Otherwise what needs them raises
            UntrustedError, unless this user has trained with them on this machine: they can do whatever he can.

    Raises:
        StoreError: The folder is no run, or is damaged.
    """
    return Run(path, trust=trust)


def simulate(
    experiment: Experiment,
    *,
    out: str | Path | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    progress: ProgressOption = True,
) -> Run:
    """Meta-trains in a simulation in this process, many clients at once, and tests on unseen clients.

    Args:
        experiment: An experiment from ``load``.
        out: Run folder to create; None for a new one in runs/.
        threads: Threads to simulate on; None for all processors. The result does not depend on it.
        data: Folder of the task's data; None for the usual place.
        progress: True for bars in a terminal or notebook and lines elsewhere, False for nothing; or a function that is called
            with a ProgressEvent, or an observer.

    Returns:
        The finished run; its weights are the same as with devices.

    Raises:
        Error: SpecError, DataError, BuildError, StoreError, StrategyError, TrainingFailed, Collapsed.
        KeyboardInterrupt: The finished rounds are in the run folder, and ``resume`` continues after them.
    """
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    folder = _path(out) or new_run_folder(experiment.name)
    with _whole_run(folder), watching(progress) as observer:
        training.simulate(setup, _threads(threads), folder, observer)
    return Run(folder)


def train(
    experiment: Experiment,
    devices: Sequence[str] = DEFAULT_DEVICES,
    *,
    test_device: str = TEST_DEVICE,
    out: str | Path | None = None,
    data: str | Path | None = None,
    fault: str = "",
    record: str | Path | None = None,
    instructions_per_step: dict[str, int] | None = None,
    insecure: bool = False,
    progress: ProgressOption = True,
) -> Run:
    """Meta-trains on boards, emulators or native processes, and tests on unseen clients.

    Args:
        experiment: An experiment from ``load``.
        devices: Device URLs, for instance ["native:4"], ["qemu:4", "/dev/ttyACM0"]. The result does not depend on them.
        test_device: URL of the devices on which unseen clients adapt in meta-tests.
        out: Run folder to create; None for a new one in runs/.
        data: Folder of the task's data; None for the usual place.
        fault: Faults to inject into the lines, for instance "flip=0.01,delay=20ms".
        record: File to record every byte of the lines in, for ``monitor``.
        instructions_per_step: Counted instructions by variant, for the report.
        insecure: Accept lines that leave this machine without TLS, such as socket://HOST:PORT, to boards that are not
            authenticated: whoever is on the network may then answer for a board.
        progress: As in ``simulate``.

    Returns:
        The finished run.

    Raises:
        Error: SpecError, DataError, BuildError, LinkError, LaunchError, DeltaError, StoreError, StrategyError, Collapsed.
        KeyboardInterrupt: The finished rounds are in the run folder, and ``resume`` continues after them.
    """
    require_secure([*devices, test_device], experiment.spec.run.security, insecure)
    foreign_parts.remember(foreign_parts.devices_of([*devices, test_device]))
    disturbance = faults.parse(fault) if fault else None
    setup = set_up(experiment.spec, experiment.source, data_path(experiment.spec.task, data))
    folder = _path(out) or new_run_folder(experiment.name)
    with _whole_run(folder), watching(progress) as observer:
        training.train(
            setup,
            list(devices),
            [test_device],
            folder,
            observer,
            faults=disturbance,
            record=_path(record),
            instructions_per_step=instructions_per_step,
        )
    return Run(folder)


def resume(
    path: str | Path,
    *,
    simulated: bool | None = None,
    devices: Sequence[str] = (),
    test_device: str | None = None,
    threads: int | None = None,
    data: str | Path | None = None,
    fault: str = "",
    record: str | Path | None = None,
    experiment: Experiment | None = None,
    rounds: int | None = None,
    insecure: bool = False,
    trust: bool = False,
    progress: ProgressOption = True,
) -> Run:
    """Continues a run after its last finished round; the weights are the same as without the interruption.

    Args:
        path: The run folder.
        simulated: True to continue in a simulation, False on devices, None as the run was begun.
        devices: Device URLs; empty for those that the run was begun with.
        test_device: URL of the devices to test on; None for the one that the run was begun with.
        threads: Threads to simulate on; None for all processors.
        data: Folder of the task's data; None for the one that the run was begun with.
        fault: As in ``train``.
        record: As in ``train``.
        experiment: If given, the run's experiment must be equal to it, up to run.rounds if these were changed.
        rounds: Rounds after which the run now ends, also of a finished run: run.rounds; None for the run's own number. Where
            the server's learning rate does not depend on it, the weights are those of a run begun with it.
        insecure: As in ``train``, also for the devices that the run was begun with.
        trust: As in ``open_run``.
        progress: As in ``simulate``.

    Returns:
        The finished run.

    Raises:
        UntrustedError: The run brings code, boards or devices that this user has not used.
        StoreError: The folder is no run, is damaged, was made by another version, or has another experiment.
        Error: As ``train``.
    """
    folder = Path(path)
    begun = store.read_run(folder)
    if trust:
        begun.trust()
    if experiment is not None:
        foreign_parts.remember(foreign_parts.of_experiment(experiment.spec, experiment.source))
    begun_with = begun.experiment()
    own = data_path(begun_with.task, data)
    if experiment is not None and not _is_of(experiment, begun, any_rounds=rounds is not None):
        raise StoreError(
            f"{experiment.source}: not the experiment of {folder}, which cannot change during a run; leave it out to continue "
            "that run, or leave --resume out to begin another"
        )
    asked = begun.header.asked
    here = not (devices or asked.devices) if simulated is None else simulated
    if not here:
        testers = asked.test_devices if test_device is None else (test_device,)
        require_secure([*(devices or asked.devices), *testers], begun_with.run.security, insecure)
        foreign_parts.remember(foreign_parts.devices_of([*devices, *([test_device] if test_device else [])]))
        remedy = "give the command again with --trust, or with devices of your own (--device, --test-device)"
        foreign_parts.require_known(foreign_parts.devices_of([*(devices or asked.devices), *testers]), folder, remedy)
    with _whole_run(folder, begun=True), watching(progress) as observer:
        if here:
            training.resume_simulated(folder, _threads(threads), observer, data=own, rounds=rounds)
        else:
            training.resume(
                folder,
                observer,
                urls=list(devices),
                test_urls=[test_device] if test_device else (),
                data=own,
                faults=faults.parse(fault) if fault else None,
                record=_path(record),
                rounds=rounds,
            )
    return Run(folder)


def _is_of(experiment: Experiment, run: RunData, *, any_rounds: bool) -> bool:
    """Whether a run was begun with this experiment; its rounds may differ where the run is or was extended."""
    given = experiment.spec
    if given.model.ram_budget is not None:  # the run names the layers that it picked
        given = design_of(given, experiment.source).experiment
    if any_rounds or run.extended is not None:
        own = run.experiment().run.rounds
        given = given.model_copy(update={"run": given.run.model_copy(update={"rounds": own})})
    return given == run.experiment().as_asked(given)


def compare(runs: Sequence[Run | str | Path], output: str | Path = "comparison.html", *, trust: bool = False) -> list[str]:
    """Writes an HTML page that compares several finished runs of one task.

    Args:
        runs: Runs or their folders.
        output: The page to write.
        trust: As in ``open_run``.

    Returns:
        A line of text for each run that was left out because it has not finished or cannot be read.

    Raises:
        UntrustedError: A run brings code or boards that this user has not used.
        ReportError: Fewer than two runs can be compared, a run is given twice, or tasks or metrics differ.
    """
    for run in runs if trust else ():
        (run if isinstance(run, Run) else Run(run)).data.trust()
    with _named_files():
        return report.compare([run.path if isinstance(run, Run) else Path(run) for run in runs], Path(output))


def new_run_folder(name: str) -> Path:
    """Creates a new folder runs/NAME-DATE-TIME, with a number at its end if the name is taken already."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    for suffix in itertools.count(1):
        folder = Path("runs") / (stem if suffix == 1 else f"{stem}.{suffix}")
        try:
            with _named_files():
                folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


@contextmanager
def _whole_run(folder: Path, begun: bool = False) -> Iterator[None]:
    """Creates the folder of a new run; writes the report even if the run collapses."""
    with _named_files():
        try:
            if begun:
                yield
            else:
                with run_folder.claimed(folder):
                    yield
        except Collapsed:
            report.write(store.read_run(folder))
            raise


@contextmanager
def _named_files() -> Iterator[None]:
    """Raises the system's errors about files as FileErrors, whose text begins with the file."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.filename is None:
            raise
        raise FileError(f"{error.filename}: {error.strerror}") from error


def _threads(asked: int | None) -> int:
    return asked or os.cpu_count() or 1


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
