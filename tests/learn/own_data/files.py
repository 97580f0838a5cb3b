"""Small CSV files with three classes, in the usual form and in any other, and the task that reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed.learn.tasks.folder import Folder
from tinymetafed.learn.tasks.own_data.folder_content import Reading
from tinymetafed.learn.tasks.own_data.reading import read_folder
from tinymetafed_codegen.spec import FolderTask, TaskShapes

LABELS = ("idle", "run", "walk")
VALUES = np.random.default_rng(1).uniform(-3, 3, (45, 2)).round(3)
ROWS = [(f"{a:.3f}", f"{b:.3f}", LABELS[i // 15]) for i, (a, b) in enumerate(VALUES)]
HEADER = "ax,ay,activity\n"
BODY = "".join(",".join(row) + "\n" for row in ROWS)
SHAPES = TaskShapes((2,), 3, "softmax_cross_entropy")
COUNTS: dict[str, Any] = {"support": 6, "query": 6, "adapt": 6, "held_out": ["anna"]}


def write(folder: Path, **files: str | bytes) -> Path:
    """Writes files NAME.csv; double underscores in a name stand for a folder."""
    for name, content in files.items():
        file = folder / f"{name.replace('__', '/')}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def spec_of(**keys: Any) -> FolderTask:
    return FolderTask(kind="folder", path="data", **{**COUNTS, **keys})


def task_of(folder: Path, shapes: TaskShapes = SHAPES, **keys: Any) -> Folder:
    return Folder.from_files(folder, spec_of(**keys), shapes, 1, None)


def reading_of(folder: Path, shapes: TaskShapes | None = SHAPES, **keys: Any) -> Reading:
    return read_folder(folder, spec_of(**keys), shapes, 1)
