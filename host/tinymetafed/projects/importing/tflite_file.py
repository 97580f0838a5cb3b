"""Reads TensorFlow Lite files, float ones and quantised ones, and SavedModels, which are first converted to TensorFlow Lite."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinymetafed_codegen.temporary import temporary_folder

from ...runs.tensorflow import ModelFileError, require
from . import int8_operators
from .network import (
    AFFINE,
    INT8_WEIGHTED,
    MERGES,
    WEIGHTED,
    WITH_KERNEL,
    Keys,
    Layer,
    Network,
    Part,
    Shape,
    reshape,
    same_values,
    unsupported,
)
from .tflite_activations import join_activations
from .tflite_format import ACTIVATIONS, FLOAT16, FLOAT32, INT8, INT32, INT64, VIEW_OPERATORS
from .tflite_operators import OPERATORS
from .tflite_rewriting import drop_input_cast, join_dilation

_FILE_IDENTIFIER = b"TFL3"  # at byte 4
_WHOLE = "convert the model again, whole in int8 with a representative dataset, or without converter.optimizations"
_NEAREST = {
    "DEQUANTIZE": f"the file is partly quantised; {_WHOLE}",
    "QUANTIZE": f"the file is partly quantised; {_WHOLE}",
    **dict.fromkeys(
        ("EXP", "LOG", "GREATER", "SELECT", "SELECT_V2"),
        "it is only as part of a softplus, a SELU or an ELU in the form in which TensorFlow's converter writes these; import "
        "the .keras file instead, which names its activations",
    ),
    "SUM": "the nearest one is MEAN over all pixels",
    "TRANSPOSE": "reorder the axes of the data instead",
    "BATCH_MATMUL": "the nearest one is FULLY_CONNECTED",
    "TRANSPOSE_CONV": "the nearest one is CONV_2D",
    "RESIZE_NEAREST_NEIGHBOR": "leave it out, and let the layers before it keep the size",
    "RESIZE_BILINEAR": "leave it out, and let the layers before it keep the size",
    "SPACE_TO_BATCH_ND": "it is supported around a convolution with a stride of 1: build it without dilation_rate",
    "CAST": "give the model float32 inputs",
    "STRIDED_SLICE": "crop the data instead",
    "PACK": "the nearest one is CONCATENATION",
    "GATHER": "give the model numbers instead of words; of an UpSampling, let the layers before it keep the size",
    "TILE": "leave an UpSampling out, and let the layers before it keep the size",
    "BROADCAST_TO": "leave an UpSampling out, and let the layers before it keep the size",
    "WHILE": "recurrent layers are not supported; the nearest one is a convolution over the window",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "recurrent layers are not supported; the nearest one is a convolution over the window",
}


def read_saved_model(folder: Path) -> Network:
    """Reads a SavedModel, after conversion to float TensorFlow Lite. Raises ModelFileError."""
    tensorflow = require("tensorflow", str(folder))
    try:
        converter = tensorflow.lite.TFLiteConverter.from_saved_model(str(folder))
        content = converter.convert()
    except Exception as error:  # TensorFlow may raise any exception
        reason = str(error).strip().partition("\n")[0]
        raise ModelFileError(f"{folder}: TensorFlow cannot convert it: {reason}; save it again with model.export()") from None
    with temporary_folder("import") as temporary:
        (temporary / "model.tflite").write_bytes(content)
        return read(temporary / "model.tflite", str(folder))


def read(file: Path, name: str | None = None) -> Network:
    """Reads a file's network; ``name`` is its name in errors. Raises ModelFileError."""
    name = name or str(file)
    content = file.read_bytes()
    if content[4:8] != _FILE_IDENTIFIER:
        raise ModelFileError(f"{name}: no TensorFlow Lite model; make one with tf.lite.TFLiteConverter")
    schema = require("tensorflow.lite.python.schema_py_generated", name)
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        if len(model.subgraphs) != 1:
            raise ModelFileError(
                f"{name}: {len(model.subgraphs)} subgraphs, expected one: a network without conditions and loops"
            )
        names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}

        def kind_of(operator: Any) -> str:
            code = model.operatorCodes[operator.opcodeIndex]
            return str(names[max(code.builtinCode, code.deprecatedBuiltinCode)])

        input_type = drop_input_cast(model.subgraphs[0], kind_of)
        join_dilation(model, schema, kind_of)
        network = _Reader(kind_of, model, name, content).network
        network.input_type = input_type
        return network
    except ModelFileError:
        raise
    except Exception as error:  # a flatbuffer has no checksum, so damage may cause any exception
        raise ModelFileError(f"{name}: damaged, cannot be decoded ({type(error).__name__}); convert the model again") from None


class _Reader:
    """Reads the operators of a file in order; ``made`` has for each tensor the layer that computes it."""

    def __init__(self, kind_of: Callable[[Any], str], model: Any, file: str, content: bytes) -> None:
        graph = model.subgraphs[0]
        self.model, self.tensors, self.file = model, graph.tensors, file
        for what, found in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            if len(found) != 1:
                raise ModelFileError(f"{file}: the model has {len(found)} {what}, expected one; convert the part that has one")
        source, output = int(graph.inputs[0]), int(graph.outputs[0])
        self._refuse_unfit_input(source)
        self.batch = int(self.tensors[source].shape[0])
        shape = tuple(int(size) for size in self.tensors[source].shape)[1:]
        self.network = Network(file, shape, [], file_input=shape, evaluate=partial(reference_outputs, content, file))
        self.made: dict[int, Layer | None] = {source: None}
        if self.tensors[source].type == INT8:
            self._quantize_input(source)
        self.constants: dict[int, Any] = {}  # of tensors that an operator computes from constants
        for each in graph.operators:
            if kind_of(each) == "DEQUANTIZE" and self.tensors[each.inputs[0]].type == FLOAT16:
                value = self.constant(int(each.inputs[0]))
                if value is not None:
                    self.constants[int(each.outputs[0])] = value.astype(np.float32)
        self.of_unknown_shape: set[int] = set()
        self.kernels: dict[int, Layer] = {}  # the layer that uses a kernel, by its buffer
        self.activations = join_activations(graph, kind_of, self.number)
        if {"op": "softplus"} in self.activations.values():
            self.network.overflows = True
            self.network.notes.append(
                "softplus of numbers above 88 is 88.7 in the file, where exp(x) overflows; here it is the number, as in Keras"
            )
        for position, operator in enumerate(graph.operators):
            self.operator(position, operator, kind_of(operator))
        last = self.made.get(output)
        if last is None:
            raise ModelFileError(f"{file}: no operator computes the output of the model; convert it again")
        self.network.layers = [layer for layer in self.network.layers if layer is not last] + [last]
        over_int8 = [layer for layer in self.network.layers if layer.op in INT8_WEIGHTED]
        for layer in over_int8[:-1]:
            layer.trainable = False
        if over_int8:
            self.network.evaluate = None  # what trains is not in int8

    def _quantize_input(self, source: int) -> None:
        """Samples are float32: the first layer makes them int8."""
        where = f"{self.file}: input '{self.title(source)}'"
        scale = int8_operators.Operator(self, (source,), source, None, where).source_scale
        keys = int8_operators.quantize(scale).keys
        layer = Layer(where, "quantize", keys, [None], trained=[], scale=scale.scale)
        self.made[source] = self.network.add(layer)

    def _refuse_unfit_input(self, source: int) -> None:
        tensor = self.tensors[source]
        signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
        shape = [] if signature is None else [int(size) for size in signature][1:]
        if not shape or -1 in shape:
            raise ModelFileError(
                f"{self.file}: input '{self.title(source)}' of shape {shape}, but sizes must be known; convert it again "
                "with a fixed input shape"
            )

    def title(self, tensor: int) -> str:
        """The name of a tensor, or its number in a file without names."""
        name = self.tensors[tensor].name
        return f"tensor {tensor}" if not name else name.decode(errors="replace").split(";")[-1]

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor for one sample; of one that is computed, as its layer gives it."""
        if tensor in self.made:
            return self.network.shape_of(self.made[tensor])
        return self.file_shape(tensor)

    def file_shape(self, tensor: int) -> Shape:
        """The shape that the file gives a tensor, without the batch."""
        found = self.tensors[tensor].shape
        shape = () if found is None else tuple(int(size) for size in found)
        return shape[1:] if shape[:1] == (self.batch,) else shape

    def constant(self, tensor: int) -> Any:
        """A tensor's constant value in the file, None if it is computed."""
        if tensor in self.constants:
            return self.constants[tensor]
        found = self.tensors[tensor]
        data = self.model.buffers[found.buffer].data
        if data is None or not len(data):
            return None
        kind = {FLOAT32: "<f4", FLOAT16: "<f2", INT8: "<i1"}.get(found.type, "<i4")
        return np.frombuffer(bytes(data), kind).reshape([] if found.shape is None else [int(size) for size in found.shape])

    def number(self, tensor: int) -> float | None:
        """The value of a tensor that is one constant float32 number; None for others."""
        value = self.constant(tensor) if self.tensors[tensor].type == FLOAT32 else None
        return float(value.ravel()[0]) if value is not None and value.size == 1 else None

    def operator(self, position: int, operator: Any, kind: str) -> None:
        """Reads one operator into layers."""
        output = int(operator.outputs[0])
        where = f"{self.file}: operator {position}, '{self.title(output)}' ({kind})"
        if self.tensors[output].type in (INT32, INT64) and kind != "CAST":
            return  # it computes the new shape of a view, which the file has as well
        if output in self.constants:
            return
        first = int(operator.inputs[0]) if len(operator.inputs) else -1
        if kind not in VIEW_OPERATORS and INT8 in (self.tensors[first].type, self.tensors[output].type):
            self.int8_operator(operator, kind, where)
            return
        joined = self.activations.get(output)
        if joined is None and kind not in (*OPERATORS, *VIEW_OPERATORS):
            raise unsupported(where, kind, [*OPERATORS, *VIEW_OPERATORS], _NEAREST)
        for each in (*operator.inputs[:2], output):
            is_axes = kind in (*VIEW_OPERATORS, "MEAN", "REDUCE_MAX", "PAD", "PADV2") and each == operator.inputs[1]
            over_int8 = kind in VIEW_OPERATORS and self.tensors[each].type == INT8
            if each >= 0 and not is_axes and not over_int8 and self.tensors[each].type != FLOAT32:
                raise ModelFileError(f"{where}: neither float32 nor int8; {_WHOLE}")
        inputs = [int(each) for each in operator.inputs if int(each) in self.made]
        if not inputs:
            raise ModelFileError(f"{where}: reads nothing that comes from the model's input; convert the model again")
        if kind not in (*VIEW_OPERATORS, "FULLY_CONNECTED") and self.of_unknown_shape & {*inputs}:
            raise ModelFileError(
                f"{where}: reads a tensor whose shape the file does not say; convert it with a fixed batch size"
            )
        read = [self.made[each] for each in inputs]
        second = read[1:]
        if joined is not None:
            parts = [Part(joined)]
        else:
            parts = [] if kind in VIEW_OPERATORS else OPERATORS[kind](self, operator, where)
        for part in [*parts, *(Part(keys) for keys in self.fused(operator, where))]:
            name = f"{part.keys['op']}{1 + sum(layer.op in WEIGHTED for layer in self.network.layers)}"
            inputs_read = [*read[:1], *second] if part.keys["op"] in MERGES else read[:1]
            layer = Layer(
                where, name, part.keys, inputs_read, part.arrays, part.keys["op"] != AFFINE, with_zeros=part.with_zeros
            )
            if layer.op in WITH_KERNEL:
                layer.has_bias = any(each >= 0 for each in operator.inputs[2:])
            read = [self.network.add(layer)]
            self.note_second_use(operator, kind, layer)
        free = joined is not None or kind in VIEW_OPERATORS or kind == "FULLY_CONNECTED"
        self.made[output] = self.as_in_file(read[0], output, where, free=free)

    def int8_operator(self, operator: Any, kind: str, where: str) -> None:
        """Reads one operator over int8 into a layer, which knows what it becomes where it trains."""
        inputs, output = tuple(int(each) for each in operator.inputs), int(operator.outputs[0])
        read = [self.made[each] for each in inputs if each in self.made]
        if not read:
            raise ModelFileError(f"{where}: reads nothing that comes from the model's input; {_WHOLE}")
        scale = None
        if kind in int8_operators.ONLY_TRAINED:
            (part,), trained = OPERATORS[kind](self, operator, where), None
        elif kind not in int8_operators.OPERATORS:
            raise unsupported(where, f"{kind} over int8", [*int8_operators.OPERATORS, *int8_operators.ONLY_TRAINED], _NEAREST)
        else:
            found = int8_operators.Operator(self, inputs, output, operator.builtinOptions, where)
            part, trained = int8_operators.OPERATORS[kind](found)
            scale = found.output_scale.scale if self.tensors[output].type == INT8 else None
        op = str(part.keys["op"]).removesuffix("_int8")
        number = 1 + sum(layer.op in (*WEIGHTED, *INT8_WEIGHTED) for layer in self.network.layers)
        name = f"{op}{number}" if part.arrays else op
        if kind == "FULLY_CONNECTED" and len(self.shape(inputs[0])) > 1:
            flat = (int(np.prod(self.shape(inputs[0]))),)
            read[0] = self.network.add(Layer(where, "flatten", reshape(flat), [read[0]]))
        layer = Layer(where, name, part.keys, [*read], part.arrays, trained=trained, scale=scale)
        free = kind in ("FULLY_CONNECTED", "MEAN")
        self.made[output] = self.as_in_file(self.network.add(layer), output, where, free=free)

    def note_second_use(self, operator: Any, kind: str, layer: Layer) -> None:
        """Notes that two operators share their weights: here they are two layers."""
        if layer.op not in WEIGHTED or layer.op == "flatten":
            return
        buffer = int(self.tensors[operator.inputs[1]].buffer)
        first = self.kernels.setdefault(buffer, layer)
        if first is not layer:
            self.network.notes.append(
                f"{layer.where.removeprefix(self.file + ': ')}: has the weights of '{first.name}' in the file; here "
                f"'{layer.name}' is a layer of its own, and the two train apart"
            )

    def as_in_file(self, layer: Layer | None, tensor: int, where: str, *, free: bool) -> Layer | None:
        """The output of a layer in the shape that the file gives the tensor.

        ``free``: the operator may change the shape in any way; otherwise only axes of size 1 come or go.
        """
        given, wanted = self.network.shape_of(layer), self.file_shape(tensor)
        if given == wanted:
            return layer
        signature = self.tensors[tensor].shapeSignature
        if free and signature is not None and -1 in signature and int(np.prod(given)) != int(np.prod(wanted)):
            self.of_unknown_shape.add(tensor)  # rows of all samples, which the converter makes for a Dense along the last axis
            return layer
        if int(np.prod(given)) != int(np.prod(wanted)) or not (free or same_values(given, wanted)):
            raise ModelFileError(f"{where}: gives {list(wanted)} in the file and {list(given)} here; convert it in another way")
        return self.network.add(Layer(where, "reshape", reshape(wanted), [layer]))

    def fused(self, operator: Any, where: str) -> list[Keys]:
        """The keys of an operator's fused activation; empty for none."""
        code = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        if code not in ACTIVATIONS:
            raise ModelFileError(f"{where}: its activation {code} is not supported; the nearest one is a ReLU")
        return [{"op": ACTIVATIONS[code]}] if ACTIVATIONS[code] else []


def reference_outputs(content: bytes, file: str, samples: Any) -> Any:
    """Computes a model with TensorFlow Lite's reference kernels; the default ones give wrong outputs for some paddings.

    Args:
        content: The bytes of the file.
        file: Its name in errors.
        samples: One input each.

    Returns:
        The outputs, [samples, outputs].
    """
    lite = require("tensorflow", file).lite
    kinds = lite.experimental.OpResolverType
    with warnings.catch_warnings():  # that the class will be moved to another package
        warnings.simplefilter("ignore")
        try:
            interpreter = lite.Interpreter(model_content=content, experimental_op_resolver_type=kinds.BUILTIN_REF)
        except ValueError:  # there is no reference kernel of ELU
            plain = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            interpreter = lite.Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    source, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found = []
    for sample in samples:
        interpreter.set_tensor(source["index"], np.broadcast_to(sample, source["shape"]).astype(source["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(output["index"])[:1].ravel())
    return np.stack(found)
