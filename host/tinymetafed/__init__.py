"""Federated meta-learning on microcontrollers: the public API, for notebooks, programs and the command line.

Names in ``__all__`` follow semantic versioning: before 1.0 a minor version may change them, and CHANGELOG.md says how; from
1.0 on only a major version may. All other names in the package may change at any time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tinymetafed_codegen import __version__
from tinymetafed_codegen.errors import Error, UsageError

if TYPE_CHECKING:
    from tinymetafed_codegen.board.board_errors import BoardError, BoardWarning
    from tinymetafed_codegen.board.board_facts import Board
    from tinymetafed_codegen.budget import BudgetError
    from tinymetafed_codegen.manifest import ArenaMap, ModelManifest
    from tinymetafed_codegen.memory.memory_prices import MemoryPrice
    from tinymetafed_codegen.protocol import Phase, SampleSet, Stream, Variant
    from tinymetafed_codegen.spec import SpecError, TaskFacts, TaskOptions
    from tinymetafed_codegen.toolchain import BuildError

    from .api.api_defaults import (
        ADAPTED_TASKS,
        CHECK_BOARD,
        DEFAULT_BAUD,
        DEFAULT_DEVICES,
        LOSSES,
        TASKS,
        TEST_DEVICE,
        TUNE_RANGES,
    )
    from .api.asking import (
        BoardStatus,
        Recorded,
        Sensing,
        board_classes,
        board_predict,
        board_status,
        label_sample,
        record,
        started,
    )
    from .api.checking import BoardNeeds, DataCause, DataCheck, DataProblem, check
    from .api.enrolling import Enrollment, KnownBoard, enroll, enrolled_boards, forget_board
    from .api.estimating import Cost, DailyEstimate, Day, estimate_day
    from .api.gateway_runs import Gateways, gateway
    from .api.loaded_experiment import Experiment, Generated, LayerChoice, choose_layers, codegen, load
    from .api.many_runs import SweepTable, paper, sweep
    from .api.measuring_boards import (
        bench_activations,
        bench_adaptation,
        bench_augmentation,
        bench_authentication,
        bench_board,
        bench_grid,
        bench_kernels,
        bench_memory,
        bench_sound,
        count_instructions,
    )
    from .api.measuring_gateways import bench_gateways
    from .api.measuring_lines import bench_downlink, bench_levels, bench_soak, bench_uplink, bench_wire
    from .api.measuring_runs import bench_all, bench_budget, bench_byzantine, bench_gains, bench_simulation
    from .api.planning import FederationPlan, FleetMeasurement, bench_fleet, plan
    from .api.progress import ProgressEvent, ProgressOption, watching
    from .api.run_handle import Run, compare, open_run
    from .api.run_history import History
    from .api.simulated_runs import simulate
    from .api.starting import import_model, monitor, new_project
    from .api.terminal import Terminal
    from .api.this_machine import board, examine, example, missing_tools
    from .api.training_runs import resume, train
    from .api.tuning import Tuning, budget_of, tune
    from .api.watching_runs import RunState, live, run_states
    from .api.whole_runs import new_run_folder
    from .bench import BenchError
    from .bench.board_speed import BoardSpeed
    from .devices.link.link_errors import LaunchError, LinkError
    from .devices.link.record import RecordingError
    from .experiments import SweepError, SweepFailed, TuneError
    from .federation.clients import TrainingFailed
    from .federation.meta_test import Collapsed
    from .federation.observer import Observer
    from .federation.result import Adaptation, ClassScores, FinalScores
    from .learn.codecs.delta import DeltaError, Sparse
    from .learn.strategies import (
        FedAvg,
        FedSgd,
        OwnStrategyError,
        Reptile,
        Strategy,
        StrategyError,
        TinyMetaFed,
        TinyOl,
        TinyReptile,
    )
    from .learn.tasks import HELD_OUT, DataError, Samples, Task
    from .learn.tasks.own_task import TaskError
    from .projects import ProjectError
    from .runs.adapted import AdaptedError
    from .runs.exported_weights import ExportError
    from .runs.journal import RunResult
    from .runs.privacy_spent import PrivacySpent
    from .runs.report import ReportError
    from .runs.run_errors import StoreError, UntrustedError
    from .runs.tensorflow import ModelFileError
    from .runs.verification import Verification
    from .trackers import TrackerError
    from .trackers.tracker import TrackedEnd, TrackedRound, TrackedRun, Tracker

# Each name's module, which is imported when the name is first used: so that a program starts with what it needs.
_WHERE = {
    ".api.asking": (
        "BoardStatus",
        "Recorded",
        "Sensing",
        "board_classes",
        "board_predict",
        "board_status",
        "label_sample",
        "record",
        "started",
    ),
    ".api.checking": (
        "BoardNeeds",
        "DataCause",
        "DataCheck",
        "DataProblem",
        "check",
    ),
    ".api.api_defaults": (
        "ADAPTED_TASKS",
        "CHECK_BOARD",
        "DEFAULT_BAUD",
        "DEFAULT_DEVICES",
        "LOSSES",
        "TASKS",
        "TEST_DEVICE",
        "TUNE_RANGES",
    ),
    ".api.enrolling": ("Enrollment", "KnownBoard", "enroll", "enrolled_boards", "forget_board"),
    ".api.estimating": (
        "Cost",
        "DailyEstimate",
        "Day",
        "estimate_day",
    ),
    ".api.gateway_runs": ("Gateways", "gateway"),
    ".api.loaded_experiment": (
        "Experiment",
        "Generated",
        "LayerChoice",
        "choose_layers",
        "codegen",
        "load",
    ),
    ".api.many_runs": (
        "SweepTable",
        "paper",
        "sweep",
    ),
    ".api.measuring_boards": (
        "bench_activations",
        "bench_adaptation",
        "bench_augmentation",
        "bench_authentication",
        "bench_board",
        "bench_grid",
        "bench_kernels",
        "bench_memory",
        "bench_sound",
        "count_instructions",
    ),
    ".api.measuring_gateways": ("bench_gateways",),
    ".api.measuring_lines": (
        "bench_downlink",
        "bench_levels",
        "bench_soak",
        "bench_uplink",
        "bench_wire",
    ),
    ".api.measuring_runs": (
        "bench_all",
        "bench_budget",
        "bench_byzantine",
        "bench_gains",
        "bench_simulation",
    ),
    ".api.planning": ("FederationPlan", "FleetMeasurement", "bench_fleet", "plan"),
    ".api.progress": (
        "ProgressEvent",
        "ProgressOption",
        "watching",
    ),
    ".api.run_handle": ("Run", "compare", "open_run"),
    ".api.run_history": ("History",),
    ".api.simulated_runs": ("simulate",),
    ".api.starting": ("import_model", "monitor", "new_project"),
    ".api.this_machine": ("board", "examine", "example", "missing_tools"),
    ".api.terminal": ("Terminal",),
    ".api.training_runs": ("resume", "train"),
    ".api.tuning": ("Tuning", "budget_of", "tune"),
    ".api.watching_runs": ("RunState", "live", "run_states"),
    ".api.whole_runs": ("new_run_folder",),
    ".bench": ("BenchError",),
    ".bench.board_speed": ("BoardSpeed",),
    ".devices.link.link_errors": (
        "LaunchError",
        "LinkError",
    ),
    ".devices.link.record": ("RecordingError",),
    ".experiments": (
        "SweepError",
        "SweepFailed",
        "TuneError",
    ),
    ".federation.clients": ("TrainingFailed",),
    ".federation.meta_test": ("Collapsed",),
    ".federation.observer": ("Observer",),
    ".federation.result": (
        "Adaptation",
        "ClassScores",
        "FinalScores",
    ),
    ".learn.codecs.delta": (
        "DeltaError",
        "Sparse",
    ),
    ".learn.strategies": (
        "FedAvg",
        "FedSgd",
        "OwnStrategyError",
        "Reptile",
        "Strategy",
        "StrategyError",
        "TinyMetaFed",
        "TinyOl",
        "TinyReptile",
    ),
    ".learn.tasks": (
        "DataError",
        "HELD_OUT",
        "Samples",
        "Task",
    ),
    ".learn.tasks.own_task": ("TaskError",),
    ".projects": ("ProjectError",),
    ".runs.adapted": ("AdaptedError",),
    ".runs.exported_weights": ("ExportError",),
    ".runs.journal": ("RunResult",),
    ".runs.privacy_spent": ("PrivacySpent",),
    ".runs.report": ("ReportError",),
    ".runs.run_errors": (
        "StoreError",
        "UntrustedError",
    ),
    ".runs.tensorflow": ("ModelFileError",),
    ".runs.verification": ("Verification",),
    ".trackers": ("TrackerError",),
    ".trackers.tracker": ("TrackedEnd", "TrackedRound", "TrackedRun", "Tracker"),
    "tinymetafed_codegen.board.board_errors": ("BoardError", "BoardWarning"),
    "tinymetafed_codegen.board.board_facts": ("Board",),
    "tinymetafed_codegen.budget": ("BudgetError",),
    "tinymetafed_codegen.manifest": (
        "ArenaMap",
        "ModelManifest",
    ),
    "tinymetafed_codegen.memory.memory_prices": ("MemoryPrice",),
    "tinymetafed_codegen.protocol": (
        "Phase",
        "SampleSet",
        "Stream",
        "Variant",
    ),
    "tinymetafed_codegen.spec": (
        "SpecError",
        "TaskFacts",
        "TaskOptions",
    ),
    "tinymetafed_codegen.toolchain": ("BuildError",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "ADAPTED_TASKS",
    "CHECK_BOARD",
    "DEFAULT_BAUD",
    "DEFAULT_DEVICES",
    "HELD_OUT",
    "LOSSES",
    "TASKS",
    "TEST_DEVICE",
    "TUNE_RANGES",
    "Adaptation",
    "AdaptedError",
    "ArenaMap",
    "BenchError",
    "Board",
    "BoardError",
    "BoardNeeds",
    "BoardSpeed",
    "BoardStatus",
    "BoardWarning",
    "BudgetError",
    "BuildError",
    "ClassScores",
    "Collapsed",
    "Cost",
    "DailyEstimate",
    "DataCause",
    "DataCheck",
    "DataError",
    "DataProblem",
    "Day",
    "DeltaError",
    "Enrollment",
    "Error",
    "Experiment",
    "ExportError",
    "FedAvg",
    "FedSgd",
    "FederationPlan",
    "FinalScores",
    "FleetMeasurement",
    "Gateways",
    "Generated",
    "History",
    "KnownBoard",
    "LaunchError",
    "LayerChoice",
    "LinkError",
    "MemoryPrice",
    "ModelFileError",
    "ModelManifest",
    "Observer",
    "OwnStrategyError",
    "Phase",
    "PrivacySpent",
    "ProgressEvent",
    "ProgressOption",
    "ProjectError",
    "Recorded",
    "RecordingError",
    "ReportError",
    "Reptile",
    "Run",
    "RunResult",
    "RunState",
    "SampleSet",
    "Samples",
    "Sensing",
    "Sparse",
    "SpecError",
    "StoreError",
    "Strategy",
    "StrategyError",
    "Stream",
    "SweepError",
    "SweepFailed",
    "SweepTable",
    "Task",
    "TaskError",
    "TaskFacts",
    "TaskOptions",
    "Terminal",
    "TinyMetaFed",
    "TinyOl",
    "TinyReptile",
    "TrackedEnd",
    "TrackedRound",
    "TrackedRun",
    "Tracker",
    "TrackerError",
    "TrainingFailed",
    "TuneError",
    "Tuning",
    "UntrustedError",
    "UsageError",
    "Variant",
    "Verification",
    "__version__",
    "bench_activations",
    "bench_adaptation",
    "bench_all",
    "bench_augmentation",
    "bench_authentication",
    "bench_board",
    "bench_budget",
    "bench_byzantine",
    "bench_downlink",
    "bench_fleet",
    "bench_gains",
    "bench_gateways",
    "bench_grid",
    "bench_kernels",
    "bench_levels",
    "bench_memory",
    "bench_simulation",
    "bench_soak",
    "bench_sound",
    "bench_uplink",
    "bench_wire",
    "board",
    "board_classes",
    "board_predict",
    "board_status",
    "budget_of",
    "check",
    "choose_layers",
    "codegen",
    "compare",
    "count_instructions",
    "enroll",
    "enrolled_boards",
    "estimate_day",
    "examine",
    "example",
    "forget_board",
    "gateway",
    "import_model",
    "label_sample",
    "live",
    "load",
    "missing_tools",
    "monitor",
    "new_project",
    "new_run_folder",
    "open_run",
    "paper",
    "plan",
    "record",
    "resume",
    "run_states",
    "simulate",
    "started",
    "sweep",
    "train",
    "tune",
    "watching",
]
