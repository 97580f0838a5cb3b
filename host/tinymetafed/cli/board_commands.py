"""Commands about boards: status, predict, record and label ask a running one; start runs some; estimate computes."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from . import layer_choice
from .options import InsecureOption, JsonOption, SetOption, TrustOption
from .output import notes, results

SHOWN_FILES = 10  # of a recording

DeviceArgument = Annotated[
    str, typer.Argument(metavar="DEVICE", help="The board's serial port: /dev/ttyACM0, COM5, /dev/ttyUSB0@esp32dev.")
]


def status(device: DeviceArgument, insecure: InsecureOption = False, json_: JsonOption = False) -> None:
    """Ask a running board what it is, how far its last round is, and how well its own program has learned.

    tinymetafed status /dev/ttyACM0
    """
    found = tmf.board_status(device, insecure=insecure)
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
    if found.enrolled:
        table.add_row(
            "enrolled", f"as {found.enrolled}; dropped {found.forged:,} forged and {found.replayed:,} replayed frames"
        )
    if found.classes:
        table.add_row("classes", ", ".join(found.classes))
    if found.sensing is not None:
        _add_sensing(table, found.sensing, found.classes)
    results().print(table)


def _add_sensing(table: Table, sensing: tmf.Sensing, classes: Sequence[str]) -> None:
    table.add_row("sensor", sensing.state + (f": {sensing.problem}" if sensing.problem else ""))
    rate = f", {sensing.rate:.4g} per second" if sensing.rate else ""
    refused = f", {sensing.refused:,} with a label that the model does not have" if sensing.refused else ""
    table.add_row("rows", f"{sensing.rows:,}{rate}{refused}")
    table.add_row("samples", f"{sensing.samples:,}, {sensing.learned:,} learned by the labels of their rows")
    if sensing.label is not None:
        table.add_row(
            "prediction", f"{_named(sensing.label, classes)}, confidence {sensing.confidence:.2f}, for the newest sample"
        )
    elif sensing.samples:
        table.add_row("prediction", "none: the board has had no weights since its start, or they have diverged; let it adapt")


def _named(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else str(label)


def predict(
    device: DeviceArgument,
    features: Annotated[
        list[str] | None, typer.Option("--features", help="Numbers of one sample: 0.1,0.5,2. May be given several times.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="A CSV file of numbers: each row is a sample, without label.")
    ] = None,
    insecure: InsecureOption = False,
    json_: JsonOption = False,
) -> None:
    """Let a running board predict samples with the weights that it has; it learns nothing from them.

    tinymetafed predict /dev/ttyACM0 --features 0.5
    """
    rows = [_numbers(text, f"--features {text}") for text in features or ()]
    if csv is not None:
        try:
            lines = csv.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise tmf.UsageError(f"{csv}: is not text in UTF-8; save it as CSV in UTF-8") from None
        rows += [_numbers(line, f"{csv}, row {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise tmf.UsageError("nothing to predict; give --features 0.1,0.5 or --csv FILE")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise tmf.UsageError(f"sample {number} has {len(row)} features, the first has {len(rows[0])}")
    scores = tmf.board_predict(device, rows, insecure=insecure)
    if json_:
        print(json.dumps([[float(score) for score in row] for row in scores]))
        return
    names = tmf.board_classes(device, insecure=insecure) if scores.shape[1] > 1 else ()
    table = Table()
    table.add_column("sample", justify="right")
    table.add_column("scores")
    if scores.shape[1] > 1:
        table.add_column("highest", justify="right")
    for number, row in enumerate(scores, 1):
        best = [_named(int(row.argmax()), names)] if scores.shape[1] > 1 else []
        table.add_row(str(number), " ".join(f"{float(score):.6g}" for score in row), *best)
    results().print(table)


def record(
    device: Annotated[
        str,
        typer.Argument(metavar="DEVICE", help="The board's serial port; or one that is started now: 'qemu:1?replay=DIR'."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the recordings: DIR/CLIENT/0001.csv, 0002.csv, …")],
    client: Annotated[
        str | None,
        typer.Option("--client", help="Name of the client, a folder in DIR.", show_default="the board's name and id"),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Label of all rows.", show_default="those that the sensor gives")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", help="Rows to record.", show_default="no limit")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Seconds to record.", show_default="no limit")] = None,
    experiment: Annotated[
        Path | None, typer.Option("--experiment", help="Experiment whose firmware a board that is started now gets.")
    ] = None,
    insecure: InsecureOption = False,
    json_: JsonOption = False,
) -> None:
    """Record a board's sensor into CSV files that the task folder of its experiment reads; Ctrl-C ends it.

    No file is ever written over. Where rows are lost, a new file begins, so that no window spans the gap.

    tinymetafed record /dev/ttyACM0 -o recordings --client anna --label wave --seconds 30
    """
    found = tmf.record(
        device,
        output,
        client=client,
        label=label,
        rows=rows,
        seconds=seconds,
        experiment=None if experiment is None else tmf.load(experiment),
        insecure=insecure,
    )
    if json_:
        plain = dataclasses.asdict(found) | {"files": [str(file) for file in found.files], "rate_is_off": found.rate_is_off}
        print(json.dumps(plain))
        return
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_row("rows", f"{found.rows:,} in {len(found.files)} file(s)")
    table.add_row("dropped", f"{found.dropped:,}")
    if found.rate:
        expected = f", task.rate is {found.expected_rate:g}" if found.expected_rate else ""
        table.add_row(
            "rate", f"{found.rate:.4g} per second{expected}{': OFF by more than a tenth' if found.rate_is_off else ''}"
        )
    table.add_row("ended", found.ended)
    if found.unlabelled:
        sounds = found.files[0].suffix == ".wav"
        otherwise = (
            "move the files into folders of their classes" if sounds else "leave such rows out with task.missing = 'drop'"
        )
        remedy = f"record with --label, or {otherwise}"
        table.add_row("without label", f"{found.unlabelled:,} rows; {remedy}")
    for file in found.files[:SHOWN_FILES]:
        table.add_row("", str(file))
    if len(found.files) > SHOWN_FILES:
        table.add_row("", f"… and {len(found.files) - SHOWN_FILES} more")
    results().print(table, soft_wrap=True)


def label(
    device: DeviceArgument,
    label: Annotated[
        str,
        typer.Argument(metavar="LABEL", help="The label: the number of the class from 0 on, or its name in the board's store."),
    ],
    keep: Annotated[bool, typer.Option("--keep", help="Let the board save its weights then, for after a reset.")] = False,
    insecure: InsecureOption = False,
    json_: JsonOption = False,
) -> None:
    """Label the newest sample of a running board's sensor; the board learns it.

    tinymetafed label /dev/ttyACM0 2
    """
    found = tmf.label_sample(device, label, keep=keep, insecure=insecure)
    if json_:
        print(json.dumps(dataclasses.asdict(found)))
        return
    was = "it had no prediction" if found.label is None else f"its prediction was {found.label}"
    kept = ", and saved its weights" if keep else ""
    results().write(f"Learned the newest of {found.samples:,} samples as {label} ({was}){kept}.")
    if found.problem:
        notes.print(f"Note: {found.problem}", soft_wrap=True)


def start(
    experiment: Annotated[Path, typer.Argument(help="Experiment file, or a run's folder, whose firmware the boards get.")],
    device: Annotated[
        list[str],
        typer.Option("--device", "-d", help="Boards to start: 'qemu:1?store=DIR&replay=DIR'. May be given several times."),
    ],
    set_: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Start native or emulated boards and keep them running until Ctrl-C, to be asked on the ports that it prints.

    tinymetafed start runs/mine -d 'qemu:1?store=flash&replay=recordings'
    """
    if experiment.is_dir():
        if set_:
            raise tmf.UsageError(f"--set changes an experiment file, and {experiment} is a run; leave --set out")
        chosen = tmf.open_run(experiment, trust=trust).experiment
    else:
        chosen = tmf.load(experiment, set_ or ())
    with tmf.started(chosen, device) as ports, suppress(KeyboardInterrupt):
        for name, port in ports.items():
            results().write(f"{name} {port}")
        notes.print("Running. In another terminal, for instance:  tinymetafed status PORT.  Ctrl-C ends it.")
        threading.Event().wait()


def enroll(
    device: Annotated[
        str | None,
        typer.Argument(metavar="[DEVICE]", help="The board's serial port: /dev/ttyACM0, COM5, /dev/ttyUSB0@esp32dev."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The board's name on this machine, such as kitchen.")] = None,
    compiled_in: Annotated[
        Path | None,
        typer.Option(
            "--compiled-in", help="For firmware without a store: header to write, which gives the next build the key."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Give an enrolled board another key and this name.")] = False,
    forget: Annotated[
        str | None, typer.Option("--forget", help="Name of a board whose key is removed, on the board too if DEVICE is given.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the enrolled boards.")] = False,
    insecure: InsecureOption = False,
    json_: JsonOption = False,
) -> None:
    """Give a board a secret key, so that runs with run.security = "authenticated" accept this board and nobody in its place.

    The board has firmware of such an experiment and is on a cable that nobody else reads: the key crosses it once, in the
    clear. The board keeps it in its store (board.store = true). This machine keeps it in ~/.config/tinymetafed/keys.toml,
    or in the file that TINYMETAFED_KEYS names, which only you may read (mode 0600).

    tinymetafed enroll /dev/ttyACM0 --name kitchen
    tinymetafed train mine.toml -d /dev/ttyACM0 --set run.security=authenticated

    Firmware without a store has its key compiled in; flash it with the command that this prints:

    tinymetafed enroll /dev/ttyACM0 --name kitchen --compiled-in kitchen.hpp
    """
    if sum((list_, forget is not None, name is not None)) != 1:
        raise tmf.UsageError("give one of: DEVICE --name NAME to enroll a board, --forget NAME, --list")
    if list_:
        _list_boards(json_)
    elif forget is not None:
        gone = tmf.forget_board(forget, device, insecure=insecure)
        if json_:
            print(json.dumps(dataclasses.asdict(gone)))
            return
        kept = (
            "; the board still has it, and takes another only once its flash is erased"
            if device is None
            else ", and from the board"
        )
        results().write(f"Removed the key of {gone.name} ({gone.board}, id {gone.unique_id}) from this machine{kept}.")
    else:
        if device is None or name is None:
            raise tmf.UsageError(f"--name {name}: name the board's port too, for instance /dev/ttyACM0")
        _enroll(tmf.enroll(device, name, compiled_in=compiled_in, again=again, insecure=insecure), json_)


def _enroll(made: tmf.Enrollment, json_: bool) -> None:
    if json_:
        plain = dataclasses.asdict(made) | {"header": None if made.header is None else str(made.header)}
        print(json.dumps(plain))
        return
    results().write(f"Enrolled {made.name}: {made.board}, id {made.unique_id}.")
    if made.header is not None:
        remedy = "until its firmware is built with it, the board does not have it"
        notes.print(f"The key is in {made.header}: {remedy}.", soft_wrap=True)
        notes.print(f"TINYMETAFED_BOARD_KEY={made.header.resolve()} pio run -e {made.board} -t upload", soft_wrap=True)
    elif not made.is_kept:
        notes.print("Note: its firmware has no store (board.store = true), so a reset makes it forget the key.", soft_wrap=True)


def _list_boards(json_: bool) -> None:
    known = tmf.enrolled_boards()
    if json_:
        print(json.dumps([dataclasses.asdict(board) for board in known]))
        return
    table = Table()
    for heading in ("name", "board", "id"):
        table.add_column(heading)
    for board in known:
        table.add_row(board.name, board.board, board.unique_id)
    results().print(table)


def _numbers(text: str, source: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise tmf.UsageError(f"{source}: expected numbers with commas between them, such as 0.1,0.5,2") from None


def estimate(
    source: Annotated[Path, typer.Argument(help="Experiment file, or the folder of a run, whose counted bytes are used.")],
    board: Annotated[str, typer.Option(help="A real board.")] = "nano33ble",
    rounds: Annotated[float | None, typer.Option(help="Rounds per day.", show_default="one an hour")] = None,
    learned: Annotated[
        float | None, typer.Option(help="Samples per day that the board learns by itself.", show_default="100")
    ] = None,
    predictions: Annotated[float | None, typer.Option(help="Predictions per day.", show_default="one a minute")] = None,
    set_: SetOption = None,
    trust: TrustOption = False,
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
        run = tmf.open_run(source, trust=trust)
        experiment = run.experiment
        counted = None if run.result is None or run.result.estimate is None else run.result.estimate.bytes
    else:
        experiment = tmf.load(source, set_ or ())
    found = tmf.estimate_day(experiment, board, day, counted_bytes=counted)
    choice = tmf.choose_layers(experiment)
    if json_:
        print(json.dumps(dataclasses.asdict(found) | layer_choice.as_json(choice)))
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
    console = results()
    console.print(table)
    layer_choice.show(choice, console)
    lines = [f"A day takes {_between(found.milliampere_hours, 1, 'mAh')} of a battery."]
    if found.saves:
        lasts = "" if found.flash_years is None else f"; the flash lasts {found.flash_years:,.1f} years"
        lines.append(f"The store saves {found.saves:,.1f} times a day, {found.flash_bytes:,.0f} bytes{lasts}.")
    lines.append(f"Estimate: {found.basis}.")
    for line in lines:
        console.print(line, soft_wrap=True)


def _between(pair: tuple[float, float], factor: float, unit: str) -> str:
    low, high = (f"{value * factor:,.3g}" if value * factor < 1000 else f"{value * factor:,.0f}" for value in pair)
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
