"""Rewrites a network as read from a file into layers that an experiment has, with the same outputs."""

from __future__ import annotations

import numpy as np

from ...runs.tensorflow import ModelFileError
from .network import AFFINE, ELEMENTWISE, PAD, VIEWS, Layer, Network, margins_of, reshape

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "softmax", "hard_sigmoid", "softplus")
_GATED = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}  # x * sigmoid(x) is a SiLU, x * hard_sigmoid(x) a hard swish
_WINDOWS = ("conv1d", "conv2d", "depthwise_conv2d", "separable_conv2d")


def rewrite(network: Network) -> None:
    """Rewrites the network in place: zeros become padding, images of one row become sequences.

    Raises:
        ModelFileError: Zeros that no convolution reads, a layer that does not fit its input, or more than three axes.
    """
    _drop_unread(network)
    for layer in network.layers:
        network.infer(layer)
    _join_activations(network)
    for pad in [each for each in network.layers if each.op == PAD]:
        _pad_readers(network, pad)
    for layer in [each for each in network.layers if each.op == "conv2d"]:
        _as_sequence(network, layer)
    while _adopt_input_shape(network) or _simplify_a_view(network):
        pass
    simplify_views(network)


def simplify_views(network: Network) -> None:
    """Removes changes of shape that do nothing, joins those in a row, and moves them behind elementwise layers.

    Raises:
        ModelFileError: A tensor would have more than three axes.
    """
    while _simplify_a_view(network):
        pass
    for layer in network.layers:
        if layer.op == "reshape" and len(layer.shape) > 3:
            raise ModelFileError(f"{layer.where}: to {list(layer.shape)}; a tensor has at most three axes here")
        if layer.op in VIEWS:
            layer.keys = reshape(layer.shape)


def bypass(network: Network, layer: Layer) -> None:
    """Removes a layer; its readers read its input."""
    below = layer.inputs[0]
    for reader in network.readers(layer):
        reader.inputs = [below if each is layer else each for each in reader.inputs]
    network.layers.remove(layer)


def _join_activations(network: Network) -> None:
    """Reads ReLU6(x) / 6 as a hard sigmoid, x * sigmoid(x) as a SiLU, and x * hard_sigmoid(x) as a hard swish."""
    for scale in [layer for layer in network.layers if layer.op == AFFINE]:
        relu6 = scale.inputs[0]
        if relu6 is None or relu6.op != "relu6" or len(network.readers(relu6)) != 1 or not _is(scale, 1 / 6, 0):
            continue
        shift = relu6.inputs[0]
        if shift is None or shift.op != AFFINE or not _is(shift, 1, 3):  # a hard sigmoid adds 3 itself
            arrays = {"scale": np.ones(()), "offset": np.full((), -3.0)}
            shift = Layer(scale.where, scale.name, {"op": AFFINE}, relu6.inputs, arrays, trainable=False, shape=relu6.shape)
            network.layers.insert(network.layers.index(relu6), shift)
            relu6.inputs = [shift]
        else:
            relu6.inputs = shift.inputs
            if not network.readers(shift):
                network.layers.remove(shift)
        relu6.keys = {"op": "hard_sigmoid"}
        bypass(network, scale)
    for product in [layer for layer in network.layers if layer.op == "multiply" and len(layer.inputs) == 2]:
        for gate, x in (product.inputs, product.inputs[::-1]):
            if gate is not None and gate.op in _GATED and gate.inputs == [x] and network.readers(gate) == [product]:
                product.keys, product.inputs = {"op": _GATED[gate.op]}, [x]
                network.layers.remove(gate)
                break


def _is(affine: Layer, scale: float, offset: float) -> bool:
    """Whether all channels of an affine have this scale and this offset, but for rounding."""
    return np.allclose(affine.arrays["scale"], scale, rtol=1e-6) and np.allclose(affine.arrays["offset"], offset, atol=1e-6)


def _drop_unread(network: Network) -> None:
    """Removes layers that the output does not depend on."""
    needed: list[Layer | None] = network.layers[-1:]  # type: ignore[assignment]
    for layer in reversed(network.layers):
        if layer in needed:
            needed += layer.inputs
    network.layers = [layer for layer in network.layers if layer in needed]


def _pad_readers(network: Network, pad: Layer) -> None:
    """Makes a layer of zeros a part of each layer that reads it."""
    margins = margins_of(pad)
    for view in network.readers(pad):
        if view.op == "reshape" and (behind := _margins_behind(pad, view.shape)):
            _pad_behind(network, pad, view, behind)
    if any(map(any, margins)):
        below = pad.inputs[0]
        for reader in network.readers(pad):
            if reader.op == PAD:
                more = margins_of(reader)
                reader.keys["margins"] = [[a + c, b + d] for (a, b), (c, d) in zip(margins, more, strict=True)]
            elif reader.op in _WINDOWS:
                _widen(reader, pad.shape, network.shape_of(below), margins)
            elif reader.op == "max_pool" and below is not None and below.op in _NOT_NEGATIVE:
                _widen(reader, pad.shape, network.shape_of(below), margins)  # zeros are never larger than what is there
                if not isinstance(reader.keys["padding"], str):
                    raise ModelFileError(
                        f"{pad.where}: cannot become part of '{reader.name}': a pool has padding 'same' or 'valid'; give the "
                        "pool padding='same' instead"
                    )
            else:
                raise ModelFileError(
                    f"{pad.where}: read by '{reader.name}' ({reader.op}); zeros are supported directly before a convolution, "
                    "or between a ReLU and a max pool"
                )
    if pad in network.layers:
        bypass(network, pad)


def _margins_behind(pad: Layer, shape: tuple[int, ...]) -> list[list[int]] | None:
    """The zeros around the rows and columns of a view of a padded sequence, or of an image of one row, as an image.

    None where they are not whole rows, or whole columns of one row, so that the zeros cannot be added behind the view.
    """
    *above, (before, after) = margins_of(pad)
    length, channels = pad.shape[-2:]
    is_sequence = pad.shape[:-2] in ((), (1,)) and not any(map(any, above))
    if not is_sequence or len(shape) != 3 or shape[2] != channels or shape == pad.shape:
        return None
    rows, columns = shape[:2]
    if (rows, columns) == (1, length):
        return [[0, 0], [before, after]]
    if rows * columns == length and before % columns == 0 and after % columns == 0:
        return [[before // columns, after // columns], [0, 0]]
    return None


def _pad_behind(network: Network, pad: Layer, view: Layer, margins: list[list[int]]) -> None:
    """Moves zeros behind a view of a sequence as an image, where a file of TensorFlow Lite has its convolution."""
    rows, columns, channels = view.shape
    shape = (rows - sum(margins[0]), columns - sum(margins[1]), channels)
    image = Layer(view.where, view.name, reshape(shape), pad.inputs[:], shape=shape)
    view.inputs, view.where, view.keys = [image], pad.where, {"op": PAD, "margins": margins}  # type: ignore[dict-item]
    network.layers.insert(network.layers.index(view), image)
    _pad_readers(network, view)


def _widen(reader: Layer, padded: tuple[int, ...], length: tuple[int, ...], margins: list[tuple[int, int]]) -> None:
    """Adds zeros around the input to those that the layer's own padding adds."""
    axes = len(margins)
    sizes, strides = _pair(reader, "size" if reader.op == "max_pool" else "kernel", axes), _pair(reader, "stride", axes)
    own = [_margins(*each, str(reader.keys["padding"])) for each in zip(padded, sizes, strides, strict=False)]
    total = [(a + c, b + d) for (a, b), (c, d) in zip(margins, own, strict=True)]
    for word in ("same", "valid"):
        if total == [_margins(*each, word) for each in zip(length, sizes, strides, strict=False)]:
            reader.keys["padding"] = word
            return
    pairs = [list(pair) for pair in total]
    reader.keys["padding"] = pairs[0] if reader.op == "conv1d" else pairs  # type: ignore[assignment]
    if any(max(pair) >= size for pair, size in zip(total, sizes, strict=True)):
        raise ModelFileError(f"{reader.where}: reads {pairs} zeros around its input, as many as its kernel; use fewer")


def _margins(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """The zeros that 'same' or 'valid' adds before and behind one axis, as in Keras."""
    if padding == "valid":
        return 0, 0
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _pair(layer: Layer, key: str, axes: int) -> list[int]:
    given = layer.keys.get(key, 1)
    return [int(each) for each in given] if isinstance(given, list) else [int(given)] * axes  # type: ignore[arg-type]


def _as_sequence(network: Network, layer: Layer) -> None:
    """Makes a convolution of one row, whose input was a sequence before, a conv1d: files of TensorFlow Lite have no others."""
    view = layer.inputs[0]
    if view is None or view.op != "reshape" or len(network.shape_of(view.inputs[0])) != 2:
        return
    sequence = network.shape_of(view.inputs[0])
    rows, size = _pair(layer, "kernel", 2)
    if view.shape != (1, *sequence) or rows != 1:
        return
    keys = {key: value for key, value in layer.keys.items() if key not in ("kernel", "stride")}
    stride = _pair(layer, "stride", 2)[1]
    padding = keys.get("padding", "same")
    image = layer.shape
    layer.keys = keys | {"op": "conv1d", "kernel": size, "padding": padding if isinstance(padding, str) else padding[1]}  # type: ignore[index]
    if stride != 1:
        layer.keys["stride"] = stride
    layer.arrays[".kernel"] = layer.arrays[".kernel"][0]
    readers, at = network.readers(layer), network.layers.index(layer)
    before = Layer(layer.where, view.name, reshape(sequence), [view], shape=sequence)
    behind = Layer(layer.where, view.name, reshape(image), [layer], shape=image)
    layer.inputs = [before]
    network.infer(layer)
    network.layers[at : at + 1] = [before, layer, behind]
    for reader in readers:
        reader.inputs = [behind if each is layer else each for each in reader.inputs]


def _simplify_a_view(network: Network) -> bool:
    """Removes or moves one change of shape; False if there is none to remove or move."""
    for view in network.layers:
        below = view.inputs[0]
        if view.op not in VIEWS:
            continue
        if view.shape == network.shape_of(below) and len(network.layers) > 1:
            bypass(network, view)
            return True
        if below is not None and below.op in VIEWS:
            view.inputs = below.inputs[:]
            if not network.readers(below):
                network.layers.remove(below)
            return True
        readers = network.readers(view)
        if below is not None and len(readers) == 1 and _commutes(readers[0], view, network.shape_of(below)):
            _move_behind(network, view, readers[0])
            return True
    return False


def _adopt_input_shape(network: Network) -> bool:
    """Gives the model's input the shape that the only layer on it changes it to; False if there is no such layer."""
    readers = network.readers(None)
    if len(readers) != 1:
        return False
    view, affine = readers[0], readers[0]
    if affine.op == AFFINE and len(network.readers(affine)) == 1:
        view = network.readers(affine)[0]
        if _is_of_a_sequence(network, view):
            return False
        if view.op in VIEWS and keeps_channels(view, affine.shape, affine):
            _move_behind(network, affine, view)
    if _is_of_a_sequence(network, view):
        return False
    if network.readers(None) != [view] or view.op not in VIEWS or len(view.shape) > 3 or not network.readers(view):
        return False
    network.input = view.shape
    bypass(network, view)
    return True


def _is_of_a_sequence(network: Network, view: Layer) -> bool:
    """Whether a change of shape makes the model's input, a sequence, an image of one row or of the phases of a dilation."""
    if view.op != "reshape" or len(network.input) != 2 or len(view.shape) != 3:
        return False
    steps, channels = network.input
    if view.shape == (1, steps, channels):
        return True
    readers = network.readers(view)
    in_columns = all(
        each.op in _WINDOWS and _pair(each, "kernel", 2)[1] == 1 and _pair(each, "kernel", 2)[0] > 1 for each in readers
    )
    return view.shape[-1] == channels and bool(readers) and in_columns


def _commutes(reader: Layer, view: Layer, shape: tuple[int, ...]) -> bool:
    """Whether a layer gives the same numbers before and behind a change of shape."""
    if reader.op == AFFINE:
        return keeps_channels(view, shape, reader)
    return reader.op in ELEMENTWISE or (reader.op == "softmax" and shape[-1] == view.shape[-1])


def keeps_channels(view: Layer, shape: tuple[int, ...], affine: Layer) -> bool:
    """Whether a scale and an offset apply to the same numbers before a change of shape (from ``shape``) and behind it."""
    return shape[-1] == view.shape[-1] or all(values.ndim == 0 for values in affine.arrays.values())


def _move_behind(network: Network, layer: Layer, reader: Layer) -> None:
    """Exchanges a layer and its only reader."""
    above = network.readers(reader)
    reader.inputs, layer.inputs = layer.inputs, [reader]
    network.infer(reader)
    network.infer(layer)
    network.layers.remove(layer)
    network.layers.insert(network.layers.index(reader) + 1, layer)
    for each in above:
        each.inputs = [layer if below is reader else below for below in each.inputs]
