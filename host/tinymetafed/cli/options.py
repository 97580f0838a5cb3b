"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ExperimentArgument = Annotated[Path, typer.Argument(help="Experiment file, for instance examples/sine.toml.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: run.rounds=50. May be given several times.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="The task's data: an archive of Omniglot or of speech, a folder with it, or what replaces task.path.",
        show_default="task.path; public data are downloaded once",
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        "-d",
        help="Devices that clients run on: native:4, qemu:4, renode:4, /dev/ttyACM0, COM5, tls://host:port, "
        "mqtt://broker/topic. May be given several times.",
        show_default="native:2",
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Accept socket:// to another machine, mqtt:// without authenticated boards, and a SuperLink without TLS: anybody "
        "on the network may then answer in place of a board.",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Accept code, boards and devices of somebody else's run, from now on; they can do whatever you can.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        help="Threads to simulate on; the result does not depend on it.",
        show_default="all; to measure 1",
    ),
]
LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        help="Log the run elsewhere, too: csv, tensorboard, mlflow, wandb, or FILE.py:CLASS of your own (docs/trackers.md). "
        "May be given several times.",
    ),
]
