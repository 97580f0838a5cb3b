"""The ``[model]`` section: layers from input to output, their loss and how they learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import pydantic
from pydantic import Discriminator, Field, PlainValidator, SerializeAsAny, Tag
from pydantic_core import PydanticCustomError

from .. import ops, own_class
from ..loss import LossName
from ..ops import LayerSpec, Op
from ..section import Section
from .mistakes import TOLD, explain

OWN = "FILE.py:CLASS"


def op(layer: Any) -> str | None:
    """Which op a layer is of, as validation asks: one of ours, or OWN."""
    named = layer.get("op") if isinstance(layer, dict) else layer.op
    return OWN if own_class.is_reference(named) else named if isinstance(named, str) else None


def _own_layer(given: Any) -> LayerSpec:
    """A layer of a user's op, validated by the op's own keys."""
    if isinstance(given, LayerSpec):
        return given
    try:
        return ops.find(given["op"]).spec.model_validate(given)
    except own_class.OwnClassError as error:
        raise PydanticCustomError(TOLD, "{text}", {"text": f"op = '{given['op']}': {error}"}) from None
    except pydantic.ValidationError as error:
        raise PydanticCustomError(TOLD, "{text}", {"text": explain(error, ops.find(given["op"]).spec)}) from None
    except Exception as error:  # whatever a user's validator raises
        file = str(own_class.file_of(ops.find(given["op"])))
        raise PydanticCustomError(TOLD, "{text}", {"text": own_class.explain(error, file)}) from None


if TYPE_CHECKING:
    AnyLayer = LayerSpec  # a type checker does not evaluate the list
else:
    _OURS = [Annotated[each.spec, Tag(kind)] for kind, each in ops.LAYERS.items()]
    _THEIRS = Annotated[SerializeAsAny[LayerSpec], PlainValidator(_own_layer), Tag(OWN)]
    AnyLayer = Annotated[Union[*_OURS, _THEIRS], Discriminator(op)]


class ModelSpec(Section):
    """Layers from input to output, their loss and how they learn.

    ``weights``: an npz file of arrays LAYER.kernel and LAYER.bias, for the frozen layers and for where meta-training starts;
    ``init`` draws what it lacks. At every reconstruction local layers start from ``local_start``: a fixed pattern, fixed random
    numbers or zeros; random numbers ``redrawn`` for every client and round; or as the client's last round left them (``kept``,
    the first time as ``random``).
    ``momentum``, ``weight_decay`` and ``clip_norm`` (the norm of each layer's output gradient) are off at 0: plain SGD.
    """

    input: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=3, strict=False)]
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, max_length=64, strict=False)]
    loss: LossName
    huber_delta: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    weights: str | None = None
    init: Literal["glorot", "he"]
    local_start: Literal["alternating", "random", "zeros", "redrawn", "kept"]
    local_start_scale: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

    @property
    def own_ops(self) -> list[type[Op]]:
        """The user's ops among the layers."""
        return [ops.find(layer.op) for layer in self.layers if own_class.is_reference(layer.op)]
