"""Picks the layers of a model that train within a budget of RAM: ``[model] trainable = "budget:96KB"``.

As in TinyEngine (Lin et al. 2022, arXiv 2206.15472, section 2.2, sparse update) and TinyTrain (Kwon et al. 2023,
arXiv 2307.09988, section 2.2), some layers train and the others stay as they are: a layer that does not train takes no RAM for
its weights and for those that were received, and below the lowest layer that trains the backward pass needs no activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import graph, layer_chain
from ..messages.level_format import wire_dtype
from ..ops import own_op
from ..protocol import Variant
from ..spec import Experiment, ModelSpec, SpecError
from . import work

# The choice must not depend on the board, so it assumes the receive window that all boards in boards/ have.
USUAL_RECEIVE_WINDOW = 1_024

MEASURED = "the gain per byte and multiply-accumulate"
LAST_FIRST = "the last layers first"


@dataclass(frozen=True)
class LayerCost:
    """A layer with weights, and what its training costs.

    ``ram_bytes`` and ``multiply_accumulates`` of a step are added where it trains beside the layers that were picked before
    it; for one that was not picked, beside all that were. ``gain`` is that of model.gains, None without them.
    """

    name: str
    weights: int
    trains: bool
    ram_bytes: int
    multiply_accumulates: int
    gain: float | None


@dataclass(frozen=True)
class LayerChoice:
    """The layers that train within a budget of RAM, and what that costs; RAM includes the stack.

    ``asked``: model.trainable as it was. ``budget``: its bytes. ``criterion``: which layers came first, in words.
    ``ram_whole`` and ``ram``: bytes with all layers training, and with those that were picked. ``multiply_accumulates_whole``
    and ``multiply_accumulates``: of a step that trains all of them. ``layers`` go from input to output.
    """

    asked: str
    budget: int
    criterion: str
    ram_whole: int
    ram: int
    multiply_accumulates_whole: int
    multiply_accumulates: int
    layers: tuple[LayerCost, ...]

    @property
    def trainable(self) -> tuple[str, ...]:
        """The names of the layers that train: the value of model.trainable from now on."""
        return tuple(layer.name for layer in self.layers if layer.trains)

    @property
    def summary(self) -> str:
        """What was picked, for people."""
        return (
            f"model.trainable = '{self.asked}' trains {len(self.trainable)} of {len(self.layers)} layers, "
            f"{self.criterion}: {', '.join(self.trainable)}. RAM {self.ram_whole:,} → {self.ram:,} bytes, "
            f"multiply-accumulates of a full step {self.multiply_accumulates_whole:,} → {self.multiply_accumulates:,}"
        )


@dataclass(frozen=True)
class _Cost:
    """Bytes of RAM, and multiply-accumulates of a full step."""

    ram: int
    products: int

    def __sub__(self, other: _Cost) -> _Cost:
        return _Cost(self.ram - other.ram, self.products - other.products)


def choose(experiment: Experiment, source: str, ram: Callable[[graph.Graph], int]) -> LayerChoice:
    """Picks the layers that train within the budget of model.trainable; the same experiment always gives the same layers.

    Local layers always train, and layers of a user's own op, whose kernels update their weights. Others are added one by one
    as long as one fits: with model.gains the one with the largest gain / (bytes x multiply-accumulates) that it adds (the score
    of TinyTrain, section 2.2, with the bytes of this planner), without them the last one, as layers near the output gain most
    in both papers.

    Args:
        experiment: The complete experiment; its model.trainable is a budget.
        source: The experiment's name in errors.
        ram: The bytes of RAM that a model with this graph takes.

    Raises:
        SpecError: model.gains does not fit the layers, or the budget is too small for any layer that boards share; the text
            names the smallest that works.
    """
    priced = _Priced(experiment, source, ram)
    whole = priced.cost(priced.able)
    gains = _gains(experiment.model, priced, source)
    available = experiment.model.ram_budget
    assert available is not None
    if priced.shares:
        least, smallest = [], priced.cost(priced.always)
        total = smallest
    else:
        alone = {name: priced.cost([*priced.always, name]) for name in reversed(priced.open)}
        cheapest = min(alone, key=lambda name: alone[name].ram)
        least, smallest = [cheapest], alone[cheapest]
        # What a model takes before the first of them trains: about the cheapest one without its own and received weights.
        received = wire_dtype(experiment.strategy.downlink).width
        total = _Cost(smallest.ram - (4 + received) * priced.weights[cheapest], priced.forward_products)
    if smallest.ram > available:
        raise SpecError(
            f"{source}: model.trainable = '{experiment.model.trainable}': no layer that boards share can train in "
            f"{available:,} bytes of RAM; the smallest budget that works is 'budget:{smallest.ram}B', which trains "
            f"{' and '.join([*least, *priced.always])}"
        )
    order = _in_order(priced, available) if gains is None else _by_gain(priced, gains, total, available)
    picked: dict[str, _Cost] = {}
    for name in order:
        price = priced.cost([*priced.always, *picked, name])
        picked[name], total = price - total, price
    rest = {name: priced.cost([*priced.always, *picked, name]) - total for name in priced.open if name not in picked}
    added = picked | rest | {name: priced.of_always(name) for name in priced.always}
    layers = tuple(
        LayerCost(
            name,
            priced.weights[name],
            name not in rest,
            added[name].ram,
            added[name].products,
            None if gains is None else gains.get(name),
        )
        for name in priced.able
    )
    criterion = LAST_FIRST if gains is None else MEASURED
    asked = str(experiment.model.trainable)
    return LayerChoice(asked, available, criterion, whole.ram, total.ram, whole.products, total.products, layers)


def _in_order(priced: _Priced, available: int) -> list[str]:
    """From the last layer to the first, each that still fits."""
    picked: list[str] = []
    for name in reversed(priced.open):
        if priced.cost([*priced.always, *picked, name]).ram <= available:
            picked.append(name)
    return picked


def _by_gain(priced: _Priced, gains: dict[str, float], total: _Cost, available: int) -> list[str]:
    """One after the other the layer with the best score of those that still fit; of equal ones the last."""
    picked: list[str] = []
    left = list(reversed(priced.open))
    while True:
        prices = {name: priced.cost([*priced.always, *picked, name]) for name in left}
        # What does not fit now does not fit beside more layers.
        left = [name for name in left if prices[name].ram <= available]
        if not left:
            return picked
        best = max(left, key=lambda name: _score(gains[name], prices[name] - total))
        picked.append(best)
        left.remove(best)
        total = prices[best]


def _score(gain: float, added: _Cost) -> float:
    return gain / (max(added.ram, 1) * max(added.products, 1))


class _Priced:
    """The layers of a model that can train, and what it takes to train some of them.

    Of those that are ``able``, some ``always`` train, and the others are ``open``; ``shared`` are those that boards share, and
    ``shares`` says whether one of them always trains.
    """

    def __init__(self, experiment: Experiment, source: str, ram: Callable[[graph.Graph], int]) -> None:
        self._experiment, self._source, self._ram = experiment, source, ram
        self._made = made = layer_chain.layers(experiment.model, source, experiment.data)
        self.able = [name for name, ops in made.items() if any(layer_chain.trains(op) for op in ops)]
        self.weights = {name: sum(p.size for op in made[name] for p in op.parameters) for name in self.able}
        partial = experiment.strategy.partial
        local = [name for name in self.able if any(op.local for op in made[name])]
        own = [name for name in self.able if any(own_op.is_own(type(op)) for op in made[name])]
        self.always = [name for name in self.able if name in (*local, *own)]
        self.open = [name for name in self.able if name not in self.always]
        self.shared = [name for name in self.able if name not in local or not partial]
        self.shares = any(name in self.shared for name in self.always)
        self._costs: dict[frozenset[str], _Cost] = {}

    def cost(self, trainable: Iterable[str]) -> _Cost:
        """What the model takes if only these layers train. Raises SpecError."""
        chosen = frozenset(trainable)
        if chosen not in self._costs:
            names = tuple(name for name in self.able if name in chosen)
            net = self._graph(names)
            self._costs[chosen] = _Cost(self._ram(net), work.multiply_accumulates(net, Variant.FULL))
        return self._costs[chosen]

    @property
    def forward_products(self) -> int:
        """Multiply-accumulates of a prediction."""
        return work.forward_multiply_accumulates(self._graph(tuple(self.able)))

    def of_always(self, name: str) -> _Cost:
        """What a layer takes that always trains: its weights, and as much work to update as to run it."""
        made = {op.name for op in self._made[name]}
        calls = [call for call in self._graph(tuple(self.able)).forward if call.op.name in made]
        return _Cost(4 * self.weights[name], work.multiply_accumulates_of(calls))

    def _graph(self, trainable: tuple[str, ...]) -> graph.Graph:
        model, strategy = self._experiment.model, self._experiment.strategy
        return graph.build(
            model.model_copy(update={"trainable": trainable}),
            self._source,
            partial=strategy.partial,
            gradient=strategy.gradient,
            data=self._experiment.data,
        )


def _gains(model: ModelSpec, priced: _Priced, source: str) -> dict[str, float] | None:
    """The gains of the layers that boards share. Raises SpecError if one is missing, or one names no such layer."""
    if model.gains is None:
        return None
    if unknown := [name for name in model.gains if name not in priced.shared]:
        raise SpecError(f"{source}: model.gains.{unknown[0]}: no shared layer that trains has that name; leave it out")
    if missing := [name for name in priced.open if name not in model.gains]:
        raise SpecError(
            f"{source}: model.gains lacks {', '.join(missing)}; `tinymetafed bench gains` measures the gains of all layers"
        )
    return model.gains
