"""The ``[model]`` section: layers, loss, initial weights and options of SGD."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Literal, Union

import pydantic
from pydantic import BeforeValidator, Discriminator, Field, PlainValidator, SerializeAsAny, Tag, TypeAdapter
from pydantic_core import PydanticCustomError

from .. import ops, own_class
from ..loss import LossName
from ..ops import LayerSpec, Op
from ..section import Section
from .mistakes import READABLE, Choice, explain

OWN = "FILE.py:CLASS"
MAX_LAYERS = 256


def op(layer: Any) -> str | None:
    """The discriminator of a layer: its op if that is built in, OWN for a user's op."""
    named = layer.get("op") if isinstance(layer, dict) else getattr(layer, "op", None)
    return OWN if own_class.is_reference(named) else named if isinstance(named, str) else None


def _own_layer(given: Any) -> LayerSpec:
    """Validates a layer of a user's op against the keys of that op."""
    if isinstance(given, LayerSpec):
        return given
    try:
        return ops.find(given["op"]).spec.model_validate(given)
    except own_class.OwnClassError as error:
        raise PydanticCustomError(READABLE, "{text}", {"text": f"op = '{given['op']}': {error}"}) from None
    except pydantic.ValidationError as error:
        raise PydanticCustomError(READABLE, "{text}", {"text": explain(error, ops.find(given["op"]).spec)}) from None
    except Exception as error:  # the user's validator may raise anything
        file = str(own_class.file_of(ops.find(given["op"])))
        raise PydanticCustomError(READABLE, "{text}", {"text": own_class.explain(error, file)}) from None


@cache
def _union(kinds: tuple[str, ...]) -> Any:
    """The union of the layers of some built-in ops and of users' ops."""
    built_in = [Annotated[ops.LAYERS[kind].spec, Tag(kind)] for kind in kinds]
    return Annotated[Union[*built_in, _USERS], Discriminator(op)]


@cache
def _validator(kinds: tuple[str, ...]) -> TypeAdapter[LayerSpec]:
    return TypeAdapter(_union(kinds))


def _layer(given: Any) -> LayerSpec:
    """Validates a layer; only the module of its own op is imported, but all of them for the list of what is known."""
    named = op(given) if isinstance(given, dict | LayerSpec) else None
    return _validator((named,) if named in ops.LAYERS else tuple(ops.LAYERS)).validate_python(given)


BUDGET = "budget:96KB"  # how a budget is written
_BUDGET = re.compile(r"budget:([0-9]{1,12}(?:\.[0-9]+)?)(B|KB|MB)")
_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20}


def _trainable(given: Any) -> tuple[str, ...] | str | None:
    """Validates model.trainable: a budget of RAM, or names of layers."""
    if given is None or (isinstance(given, str) and _BUDGET.fullmatch(given)):
        return given
    named = isinstance(given, list | tuple) and given and all(isinstance(name, str) for name in given)
    if named and len(set(given)) == len(given):
        return tuple(given)
    raise PydanticCustomError(
        READABLE,
        "{text}",
        {"text": f"{given!r}: expected a budget of RAM such as '{BUDGET}' (B, KB or MB), or the names of layers, each once"},
    )


_USERS = Annotated[SerializeAsAny[LayerSpec], PlainValidator(_own_layer), Tag(OWN)]
AnyLayer = Annotated[SerializeAsAny[LayerSpec], PlainValidator(_layer), Choice(lambda: _union(tuple(ops.LAYERS)))]


class ModelSpec(Section):
    """The ``[model]`` section.

    ``layers`` go from input to output. ``weights`` is an npz file of arrays such as dense1.kernel with the values of
    frozen layers and initial values of others; ``init`` draws all other initial values. ``local_start`` says how local layers
    start a reconstruction: ``alternating`` (a fixed pattern), ``random`` (fixed random numbers), ``zeros``, ``redrawn`` (new
    random numbers for every client and round) or ``kept`` (as the client's last round left them; the first time ``random``).
    ``trainable`` names the layers that train, the others being constants in flash, or says how much RAM the model may take
    ("budget:96KB"), for which memory/trainable.py picks layers; None: all that are not ``frozen``. ``gains`` are
    what training each layer gains, as `tinymetafed bench gains` measures it; without them the last layers come first.
    ``activations``: the format of the layers' outputs in memory; "f16" rounds them to float16, except those of the last layer,
    and stores in half the memory what the backward pass needs.
    ``momentum``, ``weight_decay`` and ``clip_norm`` (limit of the norm of each layer's output gradient) are off at 0.
    """

    input: Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], Field(min_length=1, max_length=3, strict=False)]
    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1, max_length=MAX_LAYERS, strict=False)]
    loss: LossName
    huber_delta: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_norm: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    activations: Literal["f32", "f16"] = "f32"
    weights: str | None = None
    trainable: Annotated[tuple[str, ...] | str | None, BeforeValidator(_trainable)] = None
    gains: dict[str, Annotated[float, Field(ge=0, le=1e30)]] | None = None
    init: Literal["glorot", "he"]
    local_start: Literal["alternating", "random", "zeros", "redrawn", "kept"]
    local_start_scale: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]

    @property
    def ram_budget(self) -> int | None:
        """The bytes of RAM for which layers have to be picked; None where they are known."""
        found = _BUDGET.fullmatch(self.trainable) if isinstance(self.trainable, str) else None
        return None if found is None else int(float(found[1]) * _UNITS[found[2]])

    @property
    def own_ops(self) -> list[type[Op]]:
        """The user's ops among the layers."""
        return [ops.find(layer.op) for layer in self.layers if own_class.is_reference(layer.op)]
