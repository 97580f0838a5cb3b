"""Lists the calls of a model's backward pass."""

from __future__ import annotations

from collections import Counter

from .calls import BackwardCall, Call, Tensor, mask, trains
from .ops import Add, ClipNorm, Merge, Relu
from .protocol import Variant


def backward(
    forward: list[Call], output: Tensor, gradient: Tensor, variant: Variant, clip_norm: float
) -> tuple[Call | BackwardCall, ...]:
    """The calls from the loss down to the lowest op that trains in this variant.

    A tensor that several layers read receives one gradient from each; they are added from the last layer to the first.
    """
    needed: set[str] = set()  # tensors whose gradient a layer that trains needs
    readers = Counter(tensor.name for call in forward for tensor in call.reads)
    relu = {call.y.name for call in forward if call.op.relu}
    for call in forward:
        if trains(call.op, variant) or any(tensor.name in needed for tensor in call.reads):
            needed.add(call.y.name)
    calls: list[Call | BackwardCall] = []
    # The gradients of each tensor, and the op that each one comes from.
    received: dict[str, list[tuple[str, Tensor]]] = {output.name: [("loss", gradient)]}
    masked: set[str] = set()  # outputs of a fused ReLU whose only reader applies the ReLU's derivative

    for call in reversed(forward):
        op, y = call.op, call.y
        if y.name not in needed:
            continue
        (_, dy), *more = received[y.name]
        for k, (sender, part) in enumerate(more, start=2):
            total = Tensor(f"d{y.name}_sum{k}", y.shape, f"gradient of {y.name} with the part from {sender}")
            calls.append(Call(Add("", y.shape, y.shape), dy, total, part))
            dy = total
        if op.relu and y.name not in masked:
            rectified = Tensor(f"d{y.name}_rectified", y.shape, f"gradient of {y.name} before its ReLU")
            calls.append(BackwardCall(Relu("", y.shape, y.shape), y, y, dy, rectified, update=False, masks_input=False))
            dy = rectified
        update = trains(op, variant)
        if update and clip_norm > 0:
            clipped = Tensor(f"d{y.name}_clipped", y.shape, f"gradient of {y.name}, clipped")
            calls.append(Call(ClipNorm("", y.shape, y.shape, limit=clip_norm), dy, clipped))
            dy = clipped
        if isinstance(op, Merge):
            others = {"x": call.x, "other": call.other, "mask": mask(op, y), "": None}
            for of, (tensor, derivative) in enumerate(zip(call.reads, op.derivatives(), strict=True)):
                if tensor.name not in needed:
                    continue
                part = dy
                if derivative.op is not None:
                    name = f"d{tensor.name}_from_{op.name}{'_other' if of else ''}"
                    part = Tensor(name, tensor.shape, f"gradient of {tensor.name}")
                    calls.append(Call(derivative.op, dy, part, others[derivative.reads]))
                received.setdefault(tensor.name, []).append((op.name, part))
            continue
        x = call.x
        dx: Tensor | None = None
        if x.name in needed:
            alone = readers[x.name] == 1
            dx = Tensor(f"d{x.name}" if alone else f"d{x.name}_from_{op.name}", x.shape, f"gradient of {x.name}")
            received.setdefault(x.name, []).append((op.name, dx))
            if alone and op.can_mask_input and x.name in relu:
                masked.add(x.name)
        if update or dx is not None:
            masks_input = x.name in masked
            calls.append(BackwardCall(op, x, y, dy, dx, update, masks_input, mask(op, y, masks_input)))
    return tuple(calls)
