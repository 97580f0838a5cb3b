"""The experiment file: reads the TOML into a complete, immutable Experiment; one module per section."""

from ..loss import TARGETS, LossName, Targets, is_classification, target_size
from ..section import SpecError
from .augment import AugmentSpec, PredictSpec
from .data import DataSpec, Normalise
from .defaults import CLIENTS
from .experiment import EvaluationSpec, Experiment, TooFewClients
from .experiment_file import WrongKey, dump, folder_task, load, parse
from .folder_task import ColumnName, FolderTask
from .model import ModelSpec
from .own_task_spec import OwnTaskSpec
from .paths import PUBLISHED, anchor, anchored, portable, relative
from .privacy import PrivacySpec
from .run import RunSpec
from .sampled_tasks import KeywordsTask, OmniglotTask, PresenceTask, SineTask
from .strategy import (
    AdaptationSpec,
    FedAvgSpec,
    FedSgdSpec,
    OwnStrategySpec,
    ReptileSpec,
    SharingSpec,
    TinyMetaFedSpec,
    TinyReptileSpec,
)
from .task import TASKS, TaskSpec
from .task_base import SPECTROGRAM, SoundOptions, TaskBase
from .task_facts import StatesFacts, TaskFacts, TaskOptions, TaskShapes

__all__ = [
    "CLIENTS",
    "PUBLISHED",
    "SPECTROGRAM",
    "TARGETS",
    "TASKS",
    "AdaptationSpec",
    "AugmentSpec",
    "ColumnName",
    "DataSpec",
    "EvaluationSpec",
    "Experiment",
    "FedAvgSpec",
    "FedSgdSpec",
    "FolderTask",
    "KeywordsTask",
    "LossName",
    "ModelSpec",
    "Normalise",
    "OmniglotTask",
    "OwnStrategySpec",
    "OwnTaskSpec",
    "PredictSpec",
    "PresenceTask",
    "PrivacySpec",
    "ReptileSpec",
    "RunSpec",
    "SharingSpec",
    "SineTask",
    "SoundOptions",
    "SpecError",
    "StatesFacts",
    "Targets",
    "TaskBase",
    "TaskFacts",
    "TaskOptions",
    "TaskShapes",
    "TaskSpec",
    "TinyMetaFedSpec",
    "TinyReptileSpec",
    "TooFewClients",
    "WrongKey",
    "anchor",
    "anchored",
    "dump",
    "folder_task",
    "is_classification",
    "load",
    "parse",
    "portable",
    "relative",
    "target_size",
]
