"""Dense layer: y = x · kernel + bias, kernel [inputs, units]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Self

from pydantic import Field

from .layer import LayerSpec
from .op import Op, OpError, Parameter, Shape, tile
from .weighted import WeightedSpec


class DenseSpec(WeightedSpec):
    """Fully connected layer, with a kernel [inputs, units] and a bias."""

    units: Annotated[int, Field(ge=1, le=65_536)]


@dataclass(frozen=True)
class Dense(Op):
    """Fully connected layer."""

    kind: ClassVar[str] = "dense"
    spec: ClassVar[type[LayerSpec]] = DenseSpec
    header: ClassVar[str] = "dense.hpp"
    flash_bytes: ClassVar[tuple[int, ...]] = (500, 590, 830)
    flash_of_whole_runs: ClassVar[float] = 0.8
    tiled: ClassVar[bool] = True
    fuses_backward: ClassVar[bool] = True
    template: ClassVar[str] = "weighted.hpp.j2"
    can_fuse_relu: ClassVar[bool] = True
    can_mask_input: ClassVar[bool] = True

    @classmethod
    def build(cls, spec: DenseSpec, name: str, input_shape: Shape) -> Self:
        """Makes the op for an input of shape [inputs]. Raises OpError for any other shape."""
        if len(input_shape) != 1:
            raise OpError(f"dense expects a vector, not {list(input_shape)}; put {{ op = 'flatten' }} before it")
        inputs, units = input_shape[0], spec.units
        parameters = (
            Parameter("kernel", (inputs, units), fan_in=inputs, fan_out=units),
            Parameter("bias", (units,), fan_in=inputs, fan_out=units),
        )
        return cls(name, input_shape, (units,), parameters, spec.local, spec.frozen, spec.activation == "relu")

    def cpp_type(self) -> str:
        """The C++ type of the kernels."""
        inputs, units = self.input_shape[0], self.output_shape[0]
        return (
            f"kernels::Dense</*inputs=*/{inputs}, /*units=*/{units}, /*relu=*/{str(self.relu).lower()}, "
            f"/*unit_tile=*/{tile(units)}, /*input_tile=*/{tile(inputs)}>"
        )
