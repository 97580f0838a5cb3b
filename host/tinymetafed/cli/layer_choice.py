"""Shows which layers train within a budget of RAM, and what each costs: for codegen, check and estimate."""

from __future__ import annotations

import dataclasses

from rich.table import Table

import tinymetafed as tmf


def show(choice: tmf.LayerChoice | None, console: tmf.Terminal) -> None:
    """Prints a table of the layers and a summary; nothing if model.trainable is not a budget."""
    if choice is None:
        return
    table = Table(title=f"Layers that train: {choice.asked}", title_justify="left")
    table.add_column("layer")
    table.add_column("trains")
    for heading in ("weights", "adds RAM, bytes", "adds multiply-accumulates"):
        table.add_column(heading, justify="right")
    has_gains = any(layer.gain is not None for layer in choice.layers)
    if has_gains:
        table.add_column("gain", justify="right")
    for layer in choice.layers:
        cells = [f"{layer.weights:,}", f"{layer.ram_bytes:,}", f"{layer.multiply_accumulates:,}"]
        gain = ["" if layer.gain is None else f"{layer.gain:.3g}"] * has_gains
        table.add_row(layer.name, "yes" if layer.trains else "", *cells, *gain)
    console.print(table)
    console.print(choice.summary, soft_wrap=True, highlight=False)


def as_json(choice: tmf.LayerChoice | None) -> dict[str, object]:
    """What --json prints of it in addition: nothing if model.trainable is not a budget."""
    return {} if choice is None else {"choice": dataclasses.asdict(choice)}
