"""A device's weights are read and its network is used, as typed calls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinymetafed_codegen import protocol
from tinymetafed_codegen.optional_messages import part_messages
from tinymetafed_codegen.options.sample_parts import part_bytes
from tinymetafed_codegen.protocol import Dtype

from ...wire.messages import ArrayLike, FloatArray, encode_inputs, predict_batch, tail_capacity
from .link_errors import DeviceGarbled, DeviceRefused, without_parts
from .questions import Questions


class Outputs(Questions):
    """Reads weights and outputs of one device on an open line. Every call may raise a LinkError, as `request` does."""

    _inputs = 0  # number of the last input that was sent in parts

    def fetch(self, offset: int, count: int) -> FloatArray:
        """The device's current weights, float32[count] from index ``offset`` on, in manifest order."""
        most = min(tail_capacity(protocol.Weights, self.window, self.mac_bytes) // 4, 0xFFFF)
        parts: list[bytes] = []
        got = 0
        while got < count:
            wanted = min(count - got, most)
            answer = self._ask(protocol.Fetch(offset + got, wanted), protocol.Weights)
            size = len(answer.data)
            if answer.offset != offset + got or size % 4 or not 4 <= size <= 4 * wanted:
                raise DeviceGarbled(
                    f"{self.name}: asked for {wanted} weights from {offset + got}, got {size} bytes from {answer.offset}"
                )
            parts.append(answer.data)
            got += size // 4
        return np.frombuffer(b"".join(parts), "<f4").astype(np.float32)

    def scores_of_bytes(self, levels: NDArray[np.uint8], scale: float) -> FloatArray:
        """As ``scores`` for bytes in units of ``scale``, of a board whose first layer reads bytes."""
        return self._predict_in_parts(Dtype.U8, scale, levels.tobytes(), None)

    def scores(self, inputs: ArrayLike) -> FloatArray:
        """The network's outputs for one input of finite float32, where their number is not known. Float32 [outputs]."""
        data = np.ascontiguousarray(inputs, "<f4").tobytes()
        if len(data) > tail_capacity(protocol.Predict, self.window, self.mac_bytes):
            return self._predict_in_parts(Dtype.F32, 1.0, data, None)
        answer = self._ask(protocol.Predict(Dtype.F32, 1.0, data), protocol.Outputs).data
        if not answer or len(answer) % 4:
            raise DeviceGarbled(f"{self.name}: asked for a prediction, got {len(answer)} bytes")
        return np.frombuffer(answer, "<f4").astype(np.float32)

    def predict(self, inputs: ArrayLike, output_size: int, scale: float = 1.0) -> FloatArray:
        """The network's outputs with the device's current weights.

        Args:
            inputs: [n, *shape], float32, or uint8 in units of ``scale``.
            output_size: Outputs per input.
            scale: Factor on uint8 inputs.

        Returns:
            float32 [n, output_size].

        Raises:
            ValueError: An input is not finite; the text gives its number.
            SampleTooLarge: One input does not fit the receive window, and the board does not take it in parts.
        """
        dtype, data = encode_inputs(inputs)
        if len(inputs) == 0:
            return np.zeros((0, output_size), np.float32)
        finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
        if not finite.all():
            raise ValueError(f"sample {int(np.argmin(finite))}: its input is NaN or infinite; clean the data")
        if not np.isfinite(scale):
            raise ValueError(f"scale {scale} is not finite")
        each = len(data) // len(inputs)
        batch = predict_batch(each, output_size, self.window, self.mac_bytes)
        if batch == 0:
            given = [data[at : at + each] for at in range(0, len(data), each)]
            return np.stack([self._predict_in_parts(dtype, scale, one, output_size) for one in given])
        rows: list[bytes] = []
        for at in range(0, len(inputs), batch):
            count = min(batch, len(inputs) - at)
            message = protocol.Predict(dtype, scale, data[at * each : (at + count) * each])
            answer = self._ask(message, protocol.Outputs).data
            if len(answer) != 4 * count * output_size:
                raise DeviceGarbled(
                    f"{self.name}: asked for {count} predictions of {output_size} outputs, got {len(answer)} bytes"
                )
            rows.append(answer)
        return np.frombuffer(b"".join(rows), "<f4").astype(np.float32).reshape(len(inputs), output_size)

    def _predict_in_parts(self, dtype: Dtype, scale: float, data: bytes, output_size: int | None) -> FloatArray:
        """The outputs for one input, which is sent in parts; ``output_size``: their number, None if it is not known."""
        most = part_bytes(part_messages.InputPart, self.window, self.mac_bytes)
        self._inputs = number = self._inputs + 1 & 0xFFFF_FFFF

        def part(position: int) -> tuple[protocol.Request, int] | None:
            sent = data[position : position + most]
            return (part_messages.InputPart(number, position, dtype, scale, sent), position + len(sent)) if sent else None

        outputs = b""
        try:
            for taken in self._in_order(part, part_messages.InputTaken, lambda answer: answer.position):
                outputs = taken.data
        except DeviceRefused as refusal:
            raise without_parts(refusal, self.name, self.window, f"an input takes {len(data)} bytes") from None
        if not outputs or len(outputs) % 4 or (output_size is not None and len(outputs) != 4 * output_size):
            wanted = "" if output_size is None else f" of {output_size} outputs"
            raise DeviceGarbled(f"{self.name}: asked for a prediction{wanted}, got {len(outputs)} bytes")
        return np.frombuffer(outputs, "<f4").astype(np.float32)
