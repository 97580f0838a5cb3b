"""Chooses the loss of an imported network, and what becomes of a last activation that the loss applies itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from tinymetafed_codegen.loss import LossName
from tinymetafed_codegen.ops import LOSSES

from ...runs.tensorflow import ModelFileError
from . import normal_form
from .network import VIEWS, Layer, Network

_LOSS_OF: dict[str, LossName] = {"softmax": "softmax_cross_entropy", "sigmoid": "binary_crossentropy"}


@dataclass(frozen=True)
class ChosenLoss:
    """The experiment's loss, and the last activation that was removed because the loss applies it, or ""."""

    name: LossName
    huber_delta: float
    removed: str


def choose_loss(network: Network, loss: str | None, notes: list[str]) -> ChosenLoss:
    """Chooses the loss; removes a last activation that the loss applies itself.

    Args:
        network: The network, which may be changed.
        loss: The loss that the user asked for; None for that of the model file.
        notes: Takes what was decided.

    Returns:
        The loss.

    Raises:
        ModelFileError: There is none, or the network would train to something else with it.
    """
    last = _last_activation(network)
    delta = 1.0
    if loss is not None:
        names = {str(name): name for name in get_args(LossName)}
        if loss not in names:
            raise ModelFileError(f"--loss {loss}: expected one of {', '.join(LOSSES)}")
        chosen = names[loss]
    elif network.loss is not None:
        chosen, delta = _file_loss(network, last), network.loss.huber_delta
    elif last.op in _LOSS_OF:
        chosen = _LOSS_OF[last.op]
        notes.append(f"the file does not say its loss: {chosen}, because its last layer is a {last.op}")
    else:
        raise ModelFileError(f"{network.file}: does not say its loss; give one with --loss {'|'.join(LOSSES)}")
    activation = LOSSES[chosen].takes_logits_of
    if activation and last.op in _LOSS_OF and last.op != activation:
        raise ModelFileError(
            f"{last.where}: a last {last.op} does not go with {chosen}, which applies a {activation} itself; build it with a "
            f"{activation}, or give another loss with --loss"
        )
    if not activation or last.op != activation:
        return ChosenLoss(chosen, delta, "")
    normal_form.bypass(network, last)
    notes.append(f"the last {last.op} is left out, {chosen} applies it itself: the model's outputs are logits")
    return ChosenLoss(chosen, delta, activation)


def _last_activation(network: Network) -> Layer:
    """The last layer, or the softmax or sigmoid before a last change of shape that leaves each sample's outputs as they are."""
    last = network.layers[-1]
    below = last.inputs[0]
    if last.op not in VIEWS or below is None or len(network.readers(below)) != 1:
        return last
    is_whole = below.op == "sigmoid" or (below.op == "softmax" and below.shape[-1:] == (math.prod(below.shape),))
    return below if is_whole else last


def _file_loss(network: Network, last: Layer) -> LossName:
    """Our name of the file's loss. Raises ModelFileError if it would train to something else here."""
    given = network.loss
    assert given is not None
    if given.name is None:
        raise ModelFileError(f"{network.file}: its loss is {given.title}: {given.remedy}")
    if given.takes == "logits" and last.op in _LOSS_OF:
        raise ModelFileError(
            f"{last.where}: {given.title} takes logits, the last layer is a {last.op}: both would be applied; remove the "
            f"{last.op}, or choose what to train with --loss"
        )
    if given.takes not in ("", "logits", last.op):
        raise ModelFileError(
            f"{last.where}: {given.title} takes the outputs of a {given.takes}, the last layer is a {last.op}; no loss here "
            "trains it as Keras does: choose one with --loss"
        )
    return given.name
