"""Finds the activations that TensorFlow Lite has no operator for, which its converter writes as several operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .network import Keys, elu
from .tflite_format import VIEW_OPERATORS, shortest

_SELU_SCALE, _SELU_ALPHA = 1.05070098735, 1.67326324235
_CLOSE = 1e-3  # relative error of a constant; files with float16 weights have it in float16


@dataclass(frozen=True)
class _Elu:
    """What operators compute of ``x``: scale * elu(x) with alpha."""

    x: int
    scale: float
    alpha: float


class _Finder:
    """Reads the operators of a graph backwards from an output; ``used`` are those of the form that was found."""

    def __init__(self, graph: Any, kind_of: Callable[[Any], str], number_of: Callable[[int], float | None]) -> None:
        self.made_by = {int(each.outputs[0]): each for each in graph.operators}
        self.kind_of, self.number_of, self.used = kind_of, number_of, list[Any]()

    def inputs(self, tensor: int, kind: str, count: int) -> list[int] | None:
        """The inputs of the operator of a kind that makes a tensor, up to changes of shape; None if another one does.

        An operator with an activation of its own is another one.
        """
        views, operator = self.views(tensor)
        if operator is None or self.kind_of(operator) != kind or len(operator.inputs) != count:
            return None
        if getattr(operator.builtinOptions, "fusedActivationFunction", 0):
            return None
        self.used += [*views, operator]
        return [int(each) for each in operator.inputs]

    def views(self, tensor: int) -> tuple[list[Any], Any | None]:
        """The changes of shape that end in a tensor, which the converter of a Conv1D writes, and the operator before them."""
        views, operator = list[Any](), self.made_by.get(tensor)
        while operator is not None and self.kind_of(operator) in VIEW_OPERATORS:
            views.append(operator)
            operator = self.made_by.get(int(operator.inputs[0]))
        return views, operator

    def are_same(self, tensor: int, other: int) -> bool:
        """Whether two tensors have the same numbers, in their shapes."""
        first, second = (int(views[-1].inputs[0]) if (views := self.views(each)[0]) else each for each in (tensor, other))
        return first == second

    def with_number(self, tensor: int, kind: str) -> tuple[int, float] | None:
        """The tensor and the constant number of a sum or product, in any order, or of a difference."""
        found = self.inputs(tensor, kind, 2)
        if found is None:
            return None
        for x, constant in (found, found[::-1]) if kind != "SUB" else (found,):
            number = self.number_of(constant)
            if number is not None:
                return x, number
        return None

    def softplus(self, tensor: int) -> int | None:
        """x of log(1 + exp(x))."""
        logarithm = self.inputs(tensor, "LOG", 1)
        total = logarithm and self.with_number(logarithm[0], "ADD")
        power = self.inputs(total[0], "EXP", 1) if total and total[1] == 1 else None
        return power[0] if power else None

    def elu(self, tensor: int) -> _Elu | None:
        """An ELU with its own scale and alpha: one value where x > 0, another one elsewhere."""
        chosen = self.inputs(tensor, "SELECT_V2", 3) or self.inputs(tensor, "SELECT", 3)
        compared = chosen and self.with_number(chosen[0], "GREATER")
        if not chosen or not compared or compared[1] != 0:
            return None
        x, (_, above, below) = compared[0], chosen
        product = self.with_number(below, "MUL")
        if product is None:
            return None
        if plain := self.inputs(product[0], "ELU", 1):  # elu(x) above 0, alpha * elu(x) elsewhere
            same = self.are_same(plain[0], x) and self.are_same(above, product[0])
            return _Elu(x, 1.0, product[1]) if same else None
        less = self.with_number(product[0], "SUB")
        power = self.inputs(less[0], "EXP", 1) if less and less[1] == 1 else None
        if not power or not self.are_same(power[0], x):
            return None
        scaled = (x, 1.0) if self.are_same(above, x) else self.with_number(above, "MUL")
        is_scaled = scaled is not None and self.are_same(scaled[0], x) and scaled[1] > 0
        return _Elu(x, scaled[1], product[1] / scaled[1]) if scaled and is_scaled else None


def join_activations(graph: Any, kind_of: Callable[[Any], str], number_of: Callable[[int], float | None]) -> dict[int, Keys]:
    """Writes each softplus, SELU and ELU with an alpha as one operator; what is not of these forms stays as it is.

    Args:
        graph: A subgraph, decoded; changed in place.
        kind_of: The name of an operator's kind.
        number_of: The value of a tensor that is one constant number; None for others.

    Returns:
        The keys of the activations, by the tensor that each gives.
    """
    found: dict[int, Keys] = {}
    for last in list(graph.operators):
        output, finder = int(last.outputs[0]), _Finder(graph, kind_of, number_of)
        keys: Keys = {"op": "softplus"}
        x = finder.softplus(output)
        if x is None:
            finder = _Finder(graph, kind_of, number_of)
            general = finder.elu(output)
            if general is None or (settled := _keys(general)) is None:
                continue
            x, keys = general.x, settled
        between = [each for each in finder.used if each is not last]
        inside = {int(each.outputs[0]) for each in between}
        others = [each for each in graph.operators if not any(each is own for own in finder.used)]
        if inside & {int(tensor) for each in others for tensor in each.inputs} or inside & {
            int(each) for each in graph.outputs
        }:
            continue  # something else reads a part of it
        graph.operators = [each for each in graph.operators if not any(each is own for own in between)]
        last.inputs = [x]
        found[output] = keys
    return found


def _keys(general: _Elu) -> Keys | None:
    """The keys of an ELU with a scale; None if there is no such activation here."""
    if math.isclose(general.scale, _SELU_SCALE, rel_tol=_CLOSE) and math.isclose(general.alpha, _SELU_ALPHA, rel_tol=_CLOSE):
        return {"op": "selu"}
    return elu(shortest(general.alpha)) if general.scale == 1 and general.alpha > 0 else None
