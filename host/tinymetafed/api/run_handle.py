"""A run in its folder, as an object: its weights, history and result, and what can be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinymetafed_codegen.errors import UsageError

from ..federation.result import Adaptation
from ..learn.tasks import HELD_OUT
from ..learn.weights import Floats, sha256
from ..runs import export, report, store
from ..runs.journal import RunResult
from ..runs.run_data import RunData
from ..trackers.trackers_by_name import LogOption, trackers
from .api_defaults import ADAPTED_TASKS, DEFAULT_DEVICES, threads_of
from .loaded_experiment import Experiment, data_path
from .named_files import named_files, path_of
from .number_ranges import require
from .progress import ProgressOption, watching
from .run_history import History

if TYPE_CHECKING:  # the modules of single functions are imported there: opening a run and its report need none of them
    from ..runs.verification import Verification

MAX_TASKS, MAX_FIRST = 100_000, 1 << 30  # unseen clients that one call adapts, and the number of the first


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
        return History.of(self._data)

    def report(self, output: str | Path | None = None) -> Path:
        """Writes the run's HTML report; of a run that still trains, up to the last ``reload``.

        Args:
            output: The file; None for report.html in the run folder.

        Returns:
            Path of the report.

        Raises:
            StoreError: The run cannot be read.
        """
        with named_files():
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
            ExportError: The format is unknown, or the network cannot be exported so, or the folder is not an earlier export.
            ModelFileError: TensorFlow is needed and not installed.
            StoreError: The file cannot be written.
            UsageError: ``data`` is given without ``client``, or is nothing that the task reads.
            Error: DataError, BuildError and SpecError where the weights are adapted.
        """
        from ..runs import exporting

        if data is not None and client is None:
            raise UsageError(f"--data {data} has the clients of --client; give a client too, or leave --data out")
        with named_files():
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
            Error: StoreError, SpecError, DataError, LinkError, LaunchError, BuildError.
            UsageError: Options contradict each other, or ``data`` is nothing that the task reads.
        """
        from ..devices.device_urls import require_secure, some
        from ..runs import adapted, adapting, unchanged
        from ..runs.setup import set_up

        named = [clients] if isinstance(clients, str) else clients
        for option, value in (("--tasks", tasks), ("--first", first)):
            if named and value is not None:
                raise UsageError(
                    f"{option} {value} and --client: give one of them; --client names the clients, --tasks and --first number "
                    "unseen ones"
                )
        require("--tasks", tasks, 1, MAX_TASKS)
        require("--first", first, 0, MAX_FIRST)
        experiment, urls = self._data.experiment(adapt=samples), some(devices)
        require_secure(urls, experiment.run.security, insecure)
        if save is not None:
            adapted.require_folder(Path(save))
        setup = set_up(experiment, str(self.path / "experiment.toml"), data_path(experiment.task, data) or self._data.data)
        unchanged.same_model(setup, self._data)
        numbers = range(first or 0, (first or 0) + (ADAPTED_TASKS if tasks is None else tasks))
        chosen = [setup.task.find(name) for name in named] or [HELD_OUT + number for number in numbers]
        with watching(progress) as observer, named_files():
            return adapting.adapt(setup, urls, self._data.kept, chosen, observer, path_of(save), keep=keep)

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
            Error: StoreError, SpecError, DataError, AdaptedError, BuildError.
            UsageError: Options contradict each other, or ``data`` is nothing that the task reads.
        """
        from ..runs import scoring

        if weights is not None and samples is not None:
            raise UsageError(
                f"--samples {samples} and --weights: give one of them; weights that are adapted already are not adapted again"
            )
        own = data_path(self._data.experiment().task, data)
        with watching(progress) as observer, named_files():
            return scoring.evaluate(self._data, own, path_of(weights), samples, threads_of(threads), observer)

    def verify(
        self, *, data: str | Path | None = None, threads: int | None = None, progress: ProgressOption = True
    ) -> Verification:
        """Repeats the run's rounds in a simulation, with the clients that took part in each, and compares the weights.

        Args:
            data: Folder of the task's data; None for that of the run.
            threads: Threads to simulate on; None for all processors.
            progress: As in ``simulate``.

        Returns:
            Whether the weights are the same after every round, and otherwise the first one that differs.

        Raises:
            Error: StoreError, SpecError, DataError, BuildError, StrategyError, TrainingFailed.
            UsageError: The updates have secret noise, or ``data`` is nothing that the task reads.
        """
        from ..runs import verification

        own = data_path(self._data.experiment().task, data)
        with watching(progress) as observer, named_files():
            return verification.verify(self._data, own, threads_of(threads), observer)

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
        log: LogOption = (),
        progress: ProgressOption = True,
    ) -> Run:
        """Continues the run after its last finished round.

        Args:
            devices: Device URLs; empty for those that the run was begun with.
            test_device: URL of the devices to test on; None for the one that the run was begun with.
            threads: Threads to simulate on; None for all processors.
            data: Folder of the task's data; None for the one that the run was begun with.
            fault: Faults to inject into the lines, as in ``train``.
            record: File to record every byte of the lines in.
            rounds: Rounds after which the run now ends; None for the run's own number.
            insecure: Accept lines that leave this machine without TLS to boards that are not authenticated.
            log: As in ``simulate``.
            progress: As in ``simulate``.

        Returns:
            The run, with the rounds that were added.

        Raises:
            Error: As ``tinymetafed.resume``.
        """
        from .continuing import Continuation, continue_run

        how = Continuation(
            devices=devices,
            test_device=test_device,
            threads=threads,
            data=data,
            fault=fault,
            record=record,
            rounds=rounds,
            insecure=insecure,
            log=log,
        )
        continue_run(self.path, how, progress)
        return Run(self.path)

    def log(self, log: LogOption, *, progress: ProgressOption = True) -> None:
        """Writes the rounds so far, the keys and, of a finished run, the result into logs; what a log has already stays.

        Args:
            log: As in ``simulate``.
            progress: As in ``simulate``.

        Raises:
            TrackerError: A tracker is unknown, its library is not installed, or a log cannot be written.
            StoreError: The run cannot be read.
        """
        from ..trackers.run_logs import write_logs

        logs = trackers(log)
        with watching(progress) as observer, named_files():
            write_logs(self.path, logs, observer)


def open_run(path: str | Path, *, trust: bool = False) -> Run:
    """Opens the folder of a run, finished or still training.

    Args:
        path: The run folder.
        trust: Accept the code, boards and devices that the run brings, now and from then on. Otherwise what needs them raises
            UntrustedError, unless this user has trained with them on this machine: they can do whatever the user can.

    Returns:
        The run.

    Raises:
        StoreError: The folder is not a run, or is damaged.
    """
    return Run(path, trust=trust)


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
    with named_files():
        return report.compare([run.path if isinstance(run, Run) else Path(run) for run in runs], Path(output))
