"""The command of ``tinymetafed bench`` that measures rounds behind gateways."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import tinymetafed as tmf

from .options import DataOption, JsonOption, SetOption
from .output import results


def gateways(
    experiment: Annotated[
        Path | None, typer.Argument(help="Experiment file; default: sine waves, 20 rounds with a client for each board.")
    ] = None,
    count: Annotated[int, typer.Option("--gateways", help="Gateways, each a process of its own, up to 64.")] = 4,
    boards: Annotated[int, typer.Option(help="Native boards of each gateway, up to 1000.")] = 8,
    form: Annotated[
        list[str] | None,
        typer.Option(help="strategy.gateways: forward or pre-summed. May be given several times.", show_default="both"),
    ] = None,
    data: DataOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure rounds behind gateways: bytes between them and the server, processor time, Flower's share; compare the weights.

    tinymetafed bench gateways --gateways 2 --boards 4
    """
    if wrong := [each for each in form or () if each not in FORMS]:
        raise tmf.UsageError(f"--form {wrong[0]}: expected {' or '.join(FORMS)}")
    few = ["run.rounds=20", f"run.devices_per_round={count * boards}"] if experiment is None else []
    chosen = tmf.load(experiment or tmf.example("sine.toml"), [*few, *(set_ or ())])
    found = tmf.bench_gateways(chosen, gateways=count, boards=boards, forms=form or FORMS, data=data)
    if json_:
        print(json.dumps([asdict(each) | {"flower_share": each.flower_share} for each in found]))
        return
    first = found[0]
    table = Table(title=f"{first.clients} clients in each of {first.rounds} rounds, {count} gateways of {boards} native boards")
    for heading in ("", *(each.form for each in found)):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = {
        "bytes down per round": [f"{each.down:,.0f}" for each in found],
        "bytes up per round": [f"{each.up:,.0f}" for each in found],
        "seconds per round": [f"{each.seconds:.3f}" for each in found],
        "of them Flower and the server": [f"{each.flower_share:.0%}" for each in found],
        "gateway, ms of a processor per client": [f"{each.processor:.2f}" for each in found],
        "weights": [f"{each.weights_sha256[:16]}…" for each in found],
        "as in a simulation": ["yes" if each.equals_simulation else "NO" for each in found],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    console = results()
    console.print(table)
    if len(found) == len(FORMS):
        forward, summed = found
        console.print(
            f"  pre-summed takes {forward.up / summed.up:.1f} times fewer bytes up, "
            f"{(forward.up + forward.down) / (summed.up + summed.down):.1f} times fewer in both directions"
        )


FORMS = ("forward", "pre-summed")
