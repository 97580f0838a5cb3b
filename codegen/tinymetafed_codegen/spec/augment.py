"""The ``[augment]`` and ``[predict]`` sections: samples that change in every pass, and predictions of shifted inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ..section import Section, SpecError

_Places = Annotated[int, Field(ge=0, le=64)]
TRIPLE = 3  # channels that a rotation turns together: x, y and z of one sensor


class AugmentSpec(Section):
    """The ``[augment]`` section: random changes of a sample's input, drawn anew in every pass; 0 leaves a change out.

    Images [rows, columns, channels]: ``shift`` moves them by up to so many pixels along both axes; zeros take the place of
    what moves in. Spectrograms [bands, frames, channels]: ``time_shift`` moves them by up to so many frames;
    ``frequency_mask`` and ``time_mask`` set up to so many bands and frames to 0, at a random place (Park et al. 2019). Windows
    [rows, channels] and other inputs: ``rotation`` turns the x, y, z of every three channels by up to so many degrees
    about each axis, ``scale`` multiplies all by 1 ± up to this, ``jitter`` adds noise of this standard deviation, in units of
    the normalised input (Um et al. 2017). ``training`` and ``adaptation``: whether the samples of a round change, and those
    that a new client adapts with. Samples that are predicted never change.
    """

    shift: _Places = 0
    time_shift: _Places = 0
    frequency_mask: _Places = 0
    time_mask: _Places = 0
    rotation: Annotated[float, Field(ge=0, le=90)] = 0.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    jitter: Annotated[float, Field(ge=0, le=10)] = 0.0
    training: bool = True
    adaptation: bool = True

    @property
    def moves(self) -> bool:
        """Whether there is a change of where values are: of images and spectrograms."""
        return any((self.shift, self.time_shift, self.frequency_mask, self.time_mask))

    @property
    def computes(self) -> bool:
        """Whether there is a change of the values themselves."""
        return any((self.rotation, self.scale, self.jitter))

    @property
    def is_on(self) -> bool:
        """Whether any sample changes."""
        return (self.moves or self.computes) and (self.training or self.adaptation)

    @property
    def note(self) -> str:
        """One sentence that says which samples change how; "" if none do."""
        if not self.is_on:
            return ""
        kinds = {key: value for key, value in self if key not in ("training", "adaptation") and value}
        when = " and ".join(name for name, on in (("training", self.training), ("adaptation", self.adaptation)) if on)
        what = ", ".join(f"{key} {value:g}" for key, value in kinds.items())
        return f"samples of {when} change at random in every pass ([augment]): {what}"

    @property
    def of_time(self) -> bool:
        """Whether a change names frames or bands, so that the second axis is time."""
        return any((self.time_shift, self.frequency_mask, self.time_mask))


class PredictSpec(Section):
    """The ``[predict]`` section: a prediction is the mean of the outputs for ``average`` inputs.

    They are the input itself and, of images, the input moved by ``shift`` pixels down, up, to the right and to the left; of
    spectrograms by ``shift`` frames, and by twice as many. 3 are the input and its two moves along the last axis. 1: the
    input alone.
    """

    average: Literal[1, 3, 5] = 1
    shift: Annotated[int, Field(ge=1, le=16)] = 1

    @property
    def averages(self) -> bool:
        """Whether a prediction is a mean."""
        return self.average > 1

    @property
    def note(self) -> str:
        """One sentence that says what a prediction is; "" if it is that of one input."""
        return f"a prediction is the mean of the outputs for {self.average} inputs ([predict])" if self.averages else ""


def check(augment: AugmentSpec, predict: PredictSpec, shape: Sequence[int], source: str, *, of_time: bool) -> None:
    """Checks that the changes fit the model's input.

    Args:
        augment: The section [augment].
        predict: The section [predict].
        shape: ``model.input``.
        source: The experiment's name in errors.
        of_time: Whether the second axis is time.

    Raises:
        SpecError: A change does not; the text names its key.
    """
    axes = {"shift": (0, 1), "time_shift": (1,), "frequency_mask": (0,), "time_mask": (1,)}
    for key, along in axes.items():
        value = getattr(augment, key)
        if not value:
            continue
        _require_image(shape, f"{source}: augment.{key} = {value}", "use augment.jitter, scale or rotation")
        size = min(shape[axis] for axis in along)
        if value >= size:
            raise SpecError(
                f"{source}: augment.{key} = {value} leaves nothing of an axis of {size}; set it to {size - 1} or less"
            )
    if augment.shift and augment.of_time:
        raise SpecError(
            f"{source}: augment.shift = {augment.shift} moves along both axes, and the other keys say that the second one is "
            "time; set augment.time_shift in its place"
        )
    if augment.rotation and shape[-1] % TRIPLE:
        raise SpecError(
            f"{source}: augment.rotation = {augment.rotation:g} turns x, y and z of every {TRIPLE} channels, and model.input = "
            f"{list(shape)} has {shape[-1]}; leave it out"
        )
    if not predict.averages:
        return
    _require_image(shape, f"{source}: predict.average = {predict.average}", "leave it out")
    farthest = predict.shift * (2 if of_time and predict.average > 3 else 1)
    smallest = shape[1] if of_time else min(shape[:2])
    if farthest >= smallest:
        raise SpecError(f"{source}: predict.shift = {predict.shift} leaves nothing of an axis of {smallest}; make it smaller")


def _require_image(shape: Sequence[int], what: str, others: str) -> None:
    if len(shape) != 3:
        raise SpecError(
            f"{what} moves images and spectrograms, whose model.input has three numbers: rows, columns and channels, not "
            f"model.input = {list(shape)}; {others}"
        )
