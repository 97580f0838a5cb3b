"""Firmware whose first layer reads bytes: the graph in which the input stays as it travels, a byte for each value."""

from __future__ import annotations

import dataclasses

from ..calls import BackwardCall, Call, Tensor
from ..graph import Graph
from ..ops import Affine, QuantizeOfBytes, WindowsOfBytes
from ..ops.quantize import Quantize
from ..ops.windows_of_bytes import WindowLayer


def reading_bytes(net: Graph) -> Graph | None:
    """The graph of firmware whose inputs stay bytes in RAM, and that computes the same bits.

    Convolutions, depthwise ones too, and pools convert bytes to float32 a few rows at a time, and apply the normalisation
    before them, if there is one; quantize converts them one by one.

    Returns:
        The graph; None where the first layer is another one. A dense layer has many more weights than inputs, so that bytes
        would save little of its memory; running statistics, and any layer that reads the input besides the first one, read
        it more than once.
    """
    first, normalise = net.forward[0], None
    if _is_normalisation(first, net):
        normalise, first = first.op, net.forward[1]
    assert normalise is None or isinstance(normalise, Affine)
    calls = net.forward[2:] if normalise is not None else net.forward[1:]
    source = first.x.name
    if any(source in _read_by(call) for call in calls) or first.other is not None:
        return None
    given = dataclasses.replace(net.input, is_bytes=True)
    layer = first.op
    if isinstance(layer, WindowLayer) and layer.rows.outputs > 1:
        op = WindowsOfBytes.of(layer, normalise, rounds=net.rounds)
        made = dataclasses.replace(first, op=op, x=given, saved_mask=None, work=(_work(op, "forward"),))
    elif type(layer) is Quantize and normalise is None:
        made = dataclasses.replace(first, op=QuantizeOfBytes.of(layer), x=given)
    else:
        return None
    backward = {variant: tuple(_of_bytes(call, first, made) for call in calls) for variant, calls in net.backward.items()}
    return dataclasses.replace(net, input=given, forward=(made, *calls), backward=backward)


def _is_normalisation(call: Call, net: Graph) -> bool:
    """Whether the call is a frozen affine layer of the input that only the next call reads, forward."""
    later = net.forward[1:]
    readers = [other for other in later if call.y.name in _read_by(other)]
    return type(call.op) is Affine and call.op.frozen and not call.op.relu and readers == list(later[:1])


def _read_by(call: Call) -> set[str]:
    return {tensor.name for tensor in call.reads}


def _of_bytes(call: Call | BackwardCall, before: Call, after: Call) -> Call | BackwardCall:
    """A call of the backward pass where the first layer reads bytes."""
    op = after.op
    if not isinstance(call, BackwardCall) or call.op.name != before.op.name or not isinstance(op, WindowsOfBytes):
        return call
    assert call.dx is None, "the input has no gradient"
    sums = Tensor("first_sums", (op.kernel_floats,), f"gradient of {op.name}, summed band by band")
    return dataclasses.replace(call, op=op, x=after.x, work=(_work(op, "backward"), sums))


def _work(op: WindowsOfBytes, direction: str) -> Tensor:
    """The place of the values of all bytes and of the rows that are float32: another one in each direction."""
    return Tensor(f"rows_{direction}", (op.work_floats,), f"rows of the input as float32, {direction} {op.name}")
