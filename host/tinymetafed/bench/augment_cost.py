"""What samples that change and averaged predictions cost a board: instructions of a step, RAM and flash."""

from __future__ import annotations

from dataclasses import dataclass

from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import Experiment

from ..devices.running import build_firmware
from ..federation.observer import Observer
from ..learn.strategies import open_strategy
from ..runs.setup import measured_design
from . import BenchError, in_qemu, keeping_nothing
from .adaptation_cost import instructions_of

PASSES = 2  # over the whole network: of few samples, as every one changes by itself


@dataclass(frozen=True)
class AugmentCost:
    """A step of a sample that changes, beside one of a sample that stays as it is; sizes are those of whole firmware in bytes.

    ``keys``: what the experiment says of [augment] and [predict]. ``steps``: how many were counted. ``changed``, ``plain``:
    their mean instructions, with training of every weight.
    """

    board: str
    keys: str
    steps: int
    changed: float
    plain: float
    changed_ram: int
    plain_ram: int
    changed_flash: int
    plain_flash: int

    @property
    def share(self) -> float:
        """The instructions that a change takes, as a part of the step of a sample that stays as it is."""
        return (self.changed - self.plain) / self.plain


def measure(experiment: Experiment, source: str, board: str, observer: Observer) -> AugmentCost:
    """Counts training steps with and without the experiment's [augment] and [predict], on firmware that keeps no activations.

    Args:
        experiment: The experiment.
        source: Its name in errors.
        board: An emulated board.
        observer: Is told of progress.

    Raises:
        Error: BoardError, BenchError, BuildError, DataError, SpecError or LinkError.
    """
    plain = _few(experiment).with_plain_samples
    if plain == (changed := _few(experiment)):
        raise BenchError(
            f"{source}: [augment] and [predict] are not set, so they cost nothing; for images try --set augment.shift=2"
        )
    (changed_steps, steps, *changed_size), (plain_steps, _, *plain_size) = (
        _counted(each, source, board, observer) for each in (changed, plain)
    )
    return AugmentCost(
        board,
        _keys(changed),
        steps,
        changed_steps / steps,
        plain_steps / steps,
        changed_size[0],
        plain_size[0],
        changed_size[1],
        plain_size[1],
    )


def _few(experiment: Experiment) -> Experiment:
    """The experiment with an adaptation of the whole network alone, over one sample, or one of each class."""
    adaptation = experiment.adaptation.model_copy(update={"local_passes": 0, "full_passes": PASSES})
    task = experiment.task.model_copy(update={"adapt": 1})
    return keeping_nothing(experiment.model_copy(update={"adaptation": adaptation, "task": task}))


def _keys(experiment: Experiment) -> str:
    """The keys that are not the defaults, as in an experiment file."""
    sections = {"augment": experiment.augment, "predict": experiment.predict}
    return ", ".join(
        f"{name}.{key} = {value:g}"
        for name, section in sections.items()
        for key, value in section.model_dump(exclude_defaults=True).items()
        if not isinstance(value, bool)
    )


def _counted(experiment: Experiment, source: str, board: str, observer: Observer) -> tuple[int, int, int, int]:
    """Instructions of all steps, their number, and RAM and flash of the firmware."""
    designed = measured_design(experiment, source)
    facts = in_qemu(board, designed.boards)
    built = build_firmware(designed, board)
    recipe = open_strategy(designed.experiment, built.manifest).adaptation_recipe(experiment.task.count(SampleSet.ADAPT))
    done = instructions_of(designed.experiment, facts, built, recipe, observer)
    return done, recipe.steps, built.ram_bytes, built.flash_bytes
