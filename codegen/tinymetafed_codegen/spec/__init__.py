"""Experiment TOML in, frozen and complete experiment out; a module for each section."""

from .defaults import CLIENTS
from .experiment import EvaluationSpec, Experiment, RunSpec, dump, load, parse
from .model import (
    ACTIVATIONS,
    AddSpec,
    AvgPoolSpec,
    Conv1dSpec,
    Conv2dSpec,
    DenseSpec,
    DepthwiseConv2dSpec,
    FlattenSpec,
    GlobalAvgPoolSpec,
    LayerSpec,
    LeakyReluSpec,
    MaxPoolSpec,
    ModelSpec,
    SeparableConv2dSpec,
)
from .section import SpecError
from .strategy import AdaptationSpec, TinyMetaFedSpec
from .task import FolderTask, KeywordsTask, OmniglotTask, SineTask, TaskShapes, TaskSpec

__all__ = [
    "ACTIVATIONS",
    "CLIENTS",
    "AdaptationSpec",
    "AddSpec",
    "AvgPoolSpec",
    "Conv1dSpec",
    "Conv2dSpec",
    "DenseSpec",
    "DepthwiseConv2dSpec",
    "EvaluationSpec",
    "Experiment",
    "FlattenSpec",
    "FolderTask",
    "GlobalAvgPoolSpec",
    "KeywordsTask",
    "LayerSpec",
    "LeakyReluSpec",
    "MaxPoolSpec",
    "ModelSpec",
    "OmniglotTask",
    "RunSpec",
    "SeparableConv2dSpec",
    "SineTask",
    "SpecError",
    "TaskShapes",
    "TaskSpec",
    "TinyMetaFedSpec",
    "dump",
    "load",
    "parse",
]
