"""Experiment TOML in, frozen and complete experiment out; a module for each section."""

from ..section import SpecError
from .defaults import CLIENTS
from .experiment import EvaluationSpec, Experiment, RunSpec, dump, load, parse
from .model import ModelSpec
from .strategy import (
    AdaptationSpec,
    FedAvgSpec,
    FedSgdSpec,
    OwnStrategySpec,
    ReptileSpec,
    SharingSpec,
    TinyMetaFedSpec,
    TinyOlSpec,
    TinyReptileSpec,
)
from .task import TASKS, FolderTask, KeywordsTask, OmniglotTask, PresenceTask, SineTask, TaskBase, TaskShapes, TaskSpec

__all__ = [
    "CLIENTS",
    "TASKS",
    "AdaptationSpec",
    "EvaluationSpec",
    "Experiment",
    "FedAvgSpec",
    "FedSgdSpec",
    "FolderTask",
    "KeywordsTask",
    "ModelSpec",
    "OmniglotTask",
    "OwnStrategySpec",
    "PresenceTask",
    "ReptileSpec",
    "RunSpec",
    "SharingSpec",
    "SineTask",
    "SpecError",
    "TaskBase",
    "TaskShapes",
    "TaskSpec",
    "TinyMetaFedSpec",
    "TinyOlSpec",
    "TinyReptileSpec",
    "dump",
    "load",
    "parse",
]
