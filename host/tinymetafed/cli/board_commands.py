"""Commands about one board: status and predict ask a running one, estimate computes what it takes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import tinymetafed as tmf

from .options import JsonOption, SetOption

DeviceArgument = Annotated[
    str, typer.Argument(metavar="DEVICE", help="The board's serial port: /dev/ttyACM0, COM5, /dev/ttyUSB0@esp32dev.")
]


def status(device: DeviceArgument, json_: JsonOption = False) -> None:
    """Ask a running board what it is, how far its last round is, and how well its own program has learned.

    tinymetafed status /dev/ttyACM0
    """
    found = tmf.board_status(device)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("board", f"{found.board}, id {found.unique_id}")
    table.add_row("model", f"{found.model_hash}, receive window {found.receive_window:,} bytes")
    table.add_row("last round", f"{found.state}, {found.step:,} training steps")
    learning = found.learning
    if learning is None:
        table.add_row("learned", "nothing by itself")
    else:
        table.add_row("learned", f"{learning.learned:,} samples by itself")
        table.add_row("error of late", f"{learning.error:.3f} before learning (share of wrong labels, or mean distance)")
        table.add_row("drift", "the error has grown: let it adapt" if learning.drifted else "none found")
    if found.store:
        table.add_row("store", found.problem or found.store)
    if found.classes:
        table.add_row("classes", ", ".join(found.classes))
    Console().print(table, highlight=False)


def predict(
    device: DeviceArgument,
    features: Annotated[
        list[str] | None, typer.Option("--features", help="Numbers of one sample: 0.1,0.5,2. May be given several times.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="A CSV file of numbers: each row is a sample, without label.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Let a running board predict samples with the weights that it has; it learns nothing from them.

    tinymetafed predict /dev/ttyACM0 --features 0.5
    """
    rows = [_numbers(text, f"--features {text}") for text in features or ()]
    if csv is not None:
        lines = csv.read_text(encoding="utf-8-sig").splitlines()
        rows += [_numbers(line, f"{csv}, row {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise tmf.UsageError("nothing to predict; give --features 0.1,0.5 or --csv FILE")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise tmf.UsageError(f"sample {number} has {len(row)} features, the first has {len(rows[0])}")
    scores = tmf.board_predict(device, np.array(rows, np.float32))
    if json_:
        print(json.dumps([[float(score) for score in row] for row in scores]))
        return
    names = tmf.board_classes(device) if scores.shape[1] > 1 else ()
    table = Table()
    table.add_column("sample", justify="right")
    table.add_column("scores")
    if scores.shape[1] > 1:
        table.add_column("highest", justify="right")
    for number, row in enumerate(scores, 1):
        highest = int(row.argmax())
        best = [names[highest] if highest < len(names) else str(highest)] if scores.shape[1] > 1 else []
        table.add_row(str(number), " ".join(f"{float(score):.6g}" for score in row), *best)
    Console().print(table, highlight=False)


def _numbers(text: str, source: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise tmf.UsageError(f"{source}: expected numbers with commas between them, such as 0.1,0.5,2") from None


def estimate(
    source: Annotated[Path, typer.Argument(help="Experiment file, or the folder of a run, whose counted bytes are used.")],
    board: Annotated[str, typer.Option(help="A real board.")] = "nano33ble",
    rounds: Annotated[float | None, typer.Option(min=0, help="Rounds per day.", show_default="one an hour")] = None,
    learned: Annotated[
        float | None, typer.Option(min=0, help="Samples per day that the board learns by itself.", show_default="100")
    ] = None,
    predictions: Annotated[float | None, typer.Option(min=0, help="Predictions per day.", show_default="one a minute")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Estimate time, energy and flash wear of a board: of a round, a learned sample, a prediction, and a day.

    Nothing is measured: the figures are computed from counted work and bytes and from data sheets.

    tinymetafed estimate examples/sine.toml --board nano33ble --set board.store=true --rounds 4 --learned 50
    """
    given = {"rounds": rounds, "learned": learned, "predictions": predictions}
    day, counted = tmf.Day(**{name: count for name, count in given.items() if count is not None}), None
    if source.is_dir():
        if set_:
            raise tmf.UsageError(f"--set {set_[0]}: {source} is a run, whose experiment is fixed; give its experiment file")
        run = tmf.open_run(source)
        experiment = run.experiment
        counted = None if run.result is None or run.result.estimate is None else run.result.estimate.bytes
    else:
        experiment = tmf.load(source, set_ or ())
    found = tmf.estimate_day(experiment, board, day, counted_bytes=counted)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    table = Table(title=f"{source} on {found.title}: an estimate", title_justify="left")
    for heading in ("", "time", "of it flash", "energy"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, cost in (
        (f"a round, {found.bytes:,.0f} bytes", found.per_round),
        ("a learned sample", found.per_learned_sample),
        ("a prediction", found.per_prediction),
        (f"a day: {day.rounds:,g} rounds, {day.learned:,g} learned, {day.predictions:,g} predictions", found.per_day),
    ):
        flash = _between(cost.flash_seconds, 1e6, "µs")
        table.add_row(name, _between(cost.seconds, 1000, "ms"), flash, _between(cost.millijoules, 1, "mJ"))
    console = Console()
    console.print(table)
    lines = [f"A day takes {_between(found.milliampere_hours, 1, 'mAh')} of a battery."]
    if found.saves:
        lasts = "" if found.flash_years is None else f"; the flash lasts {found.flash_years:,.1f} years"
        lines.append(f"The store saves {found.saves:,.1f} times a day, {found.flash_bytes:,.0f} bytes{lasts}.")
    lines.append(f"Estimate: {found.basis}.")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _between(pair: tuple[float, float], factor: float, unit: str) -> str:
    low, high = (f"{value * factor:,.3g}" if value * factor < 1000 else f"{value * factor:,.0f}" for value in pair)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
