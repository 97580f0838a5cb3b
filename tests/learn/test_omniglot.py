"""Omniglot clients: exact images, a split without leaks, disjoint drawers, errors that name archive and remedy."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinymetafed.federation.meta_test import Group
from tinymetafed.learn.tasks import HELD_OUT, DataError, Task
from tinymetafed.learn.tasks import omniglot as omniglot_task
from tinymetafed.learn.tasks.omniglot import Omniglot, find_archives, read_characters, shrink
from tinymetafed.learn.tasks.omniglot_split import ROTATIONS, alphabet_of
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import OmniglotTask, SpecError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TINYMETAFED_TEST_DATA", ROOT.parent / "shared" / "data"))
SMALL1 = "omniglot_background_small1.zip"
needs_data = pytest.mark.skipif(
    not (DATA / SMALL1).is_file(), reason=f"no {SMALL1} in {DATA} (TINYMETAFED_TEST_DATA names another folder)"
)


def task_of(data: Path, seed: int = 1, **keys: int) -> Omniglot:
    return Omniglot(OmniglotTask(kind="omniglot", **keys), data, seed)


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Path]:
    """The folder of the cache of characters for this module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "tinymetafed" / "characters"


@pytest.fixture(scope="module")
def omniglot(kept: Path) -> Omniglot:
    return task_of(DATA)


def png(pixels: np.ndarray) -> bytes:
    """A PNG that is black where ``pixels`` is 1."""
    out = io.BytesIO()
    Image.fromarray(np.where(pixels, 0, 255).astype(np.uint8)).convert("1").save(out, "PNG")
    return out.getvalue()


def write_archive(path: Path, characters: list[str], drawers: int = 20, shape: tuple[int, int] = (105, 105)) -> Path:
    """A small archive in Omniglot's layout; all drawings differ."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number, character in enumerate(characters, 1):
            for drawer in range(1, drawers + 1):
                image = png(generator.random(shape) < 0.1)
                archive.writestr(f"images_background_small1/{character}/{number:04}_{drawer:02}.png", image)
    return path


def characters(n: int) -> list[str]:
    return [f"Alphabet/character{i:02}" for i in range(1, n + 1)]


# Images


def test_shrink_is_the_exact_area_average() -> None:
    ink = np.random.default_rng(3).integers(0, 2, (1, 105, 105)).astype(np.uint8)
    levels = shrink(ink)[0]
    step = Fraction(105, 28)
    for row, column in [(0, 0), (0, 27), (13, 5), (27, 27), (14, 14)]:
        average = Fraction(0)
        for y in range(105):
            height = min(Fraction(y + 1), (row + 1) * step) - max(Fraction(y), row * step)
            for x in range(105) if height > 0 else ():
                width = min(Fraction(x + 1), (column + 1) * step) - max(Fraction(x), column * step)
                average += int(ink[0, y, x]) * height * max(width, Fraction(0)) / step**2
        assert levels[row, column] == round(average * 255)
    assert shrink(np.ones((1, 105, 105), np.uint8)).min() == 255
    assert shrink(np.zeros((1, 105, 105), np.uint8)).max() == 0


def test_shrinking_commutes_with_turning() -> None:
    ink = np.random.default_rng(4).integers(0, 2, (2, 105, 105)).astype(np.uint8)
    np.testing.assert_array_equal(shrink(np.rot90(ink, 1, (1, 2)).copy()), np.rot90(shrink(ink), 1, (1, 2)))


@needs_data
def test_the_small_archives_hold_242_distinct_characters() -> None:
    characters = read_characters(find_archives(DATA))
    assert len(characters.names) == len(set(characters.names)) == 242
    assert sum(name.startswith(("Greek/", "Latin/")) for name in characters.names) == 50
    assert characters.levels.shape == (242, 20, 28, 28)
    ink = characters.levels.mean(axis=(2, 3)) / 255
    assert ink.min() > 0 and ink.max() < 0.3  # few pixels are ink; inverted images would fail


@needs_data
def test_inputs_are_levels_times_scale_exactly(omniglot: Omniglot) -> None:
    samples = omniglot.samples(0, 0, SampleSet.SUPPORT, 25)
    assert samples.levels is not None and samples.levels.dtype == np.uint8
    assert samples.inputs.dtype == np.float32 and samples.inputs.shape == (25, 28, 28, 1)
    np.testing.assert_array_equal(samples.inputs, samples.levels.astype(np.float32) * np.float32(samples.scale))
    assert samples.inputs.max() == 1


def test_pictures_are_read_once_and_again_where_the_cache_is_damaged(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_archive(tmp_path / SMALL1, characters(40))
    read = list[object]()
    monkeypatch.setattr(omniglot_task, "read_characters", lambda paths: (read.append(paths), read_characters(paths))[1])

    def levels() -> bytes:
        omniglot_task._characters_of.cache_clear()  # as in another process
        return task_of(archive, ways=2, support=2, query=2, adapt=2)._characters.levels.tobytes()

    before = set(kept.glob("*"))
    first = levels()
    (file,) = set(kept.glob("*")) - before
    assert levels() == first and len(read) == 1
    file.write_bytes(file.read_bytes()[:-100])
    assert levels() == first and len(read) == 2


# Split and classes


@needs_data
def test_held_out_characters_are_62_and_never_meta_trained_on(omniglot: Omniglot) -> None:
    parts = (omniglot.split.training, omniglot.split.test, omniglot.split.validation)
    train, test, validation = (set(part.characters) for part in parts if part is not None)
    assert (len(train), len(test), len(validation)) == (180, 42, 20) and len(train | test | validation) == 242
    trained = [omniglot.classes(client) for client in range(500)]
    tested = [omniglot.classes(HELD_OUT + client) for client in range(100)]
    assert all(len(set(classes)) == 5 for classes in trained + tested)
    assert {character for classes in trained for character, _ in classes} == train
    assert {character for classes in tested for character, _ in classes} <= test
    assert {turns for classes in trained for _, turns in classes} == set(range(ROTATIONS))
    assert {turns for classes in tested for _, turns in classes} == {0}


@needs_data
def test_another_seed_is_another_split(omniglot: Omniglot) -> None:
    other = task_of(DATA, seed=2)
    assert set(other.split.test.characters) != set(omniglot.split.test.characters)
    np.testing.assert_array_equal(task_of(DATA).split.test.characters, omniglot.split.test.characters)


@needs_data
def test_one_archive_splits_in_proportion() -> None:
    task = task_of(DATA / SMALL1)
    assert task.split.validation is not None
    parts = (task.split.training, task.split.test, task.split.validation)
    assert [len(part.characters) for part in parts] == [101, 24, 11]


@needs_data
def test_alphabets_by_name_are_held_out_whole() -> None:
    task = task_of(DATA, split="alphabet", held_out_alphabets=("Sanskrit", "Tagalog"))
    names = read_characters(find_archives(DATA)).names
    assert len(task.split.test.characters) == 42 + 17 and task.split.validation is None
    assert {alphabet_of(names[c]) for c in task.split.test.characters} == {"Sanskrit", "Tagalog"}
    assert not {"Sanskrit", "Tagalog"} & {alphabet_of(names[c]) for c in task.split.training.characters}
    assert all(set(describe(task, HELD_OUT + client)) <= {"Sanskrit", "Tagalog"} for client in range(50))
    assert not any(set(describe(task, client)) & {"Sanskrit", "Tagalog"} for client in range(50))


@needs_data
@pytest.mark.parametrize(
    "keys",
    [
        {"split": "alphabet", "held_out_alphabets": ("Sanskrit", "Tagalog"), "validation": ("Greek",)},
        {"split": "alphabet", "held_out_alphabets": ("Sanskrit", "Tagalog", "Greek")},
        {"split": "alphabet", "validation": 2},
        {"split": "drawer", "adapt": 6},
    ],
)
def test_validation_has_other_alphabets_than_the_test(keys: dict[str, Any]) -> None:
    task = task_of(DATA, **keys)
    names = read_characters(find_archives(DATA)).names
    assert task.split.validation is not None
    tested, validating, trained = (
        {alphabet_of(names[c]) for c in part.characters}
        for part in (task.split.test, task.split.validation, task.split.training)
    )
    assert tested and validating and not tested & validating
    assert keys["split"] == "drawer" or not trained & (tested | validating)
    client = Group.validation(task).client(3)
    assert set(describe(task, client)) <= validating and set(task.units(client)) <= validating
    if keys["split"] == "drawer":
        assert (
            len(images(task.test_samples(client, 0).levels) & images(task.samples(client, 0, SampleSet.ADAPT, 30).levels)) == 0
        )
        assert set(task.split.validation.drawers) == set(task.split.test.drawers)


@needs_data
def test_without_names_the_seed_draws_a_quarter_of_the_alphabets() -> None:
    names = read_characters(find_archives(DATA)).names
    drawn = {
        seed: frozenset(alphabet_of(names[c]) for c in task_of(DATA, seed, split="alphabet", ways=2).split.test.characters)
        for seed in range(6)
    }
    assert {len(each) for each in drawn.values()} == {2} and len(set(drawn.values())) > 1


def describe(task: Omniglot, client: int) -> list[str]:
    return [alphabet_of(character) for character in task.describe(client).split(", ")]


@needs_data
def test_unseen_drawers_draw_seen_characters() -> None:
    task = task_of(DATA, split="drawer", adapt=6)
    training, test = task.split.training, task.split.test
    assert len(training.characters) == 242 and set(test.characters) <= set(training.characters)
    assert sorted([*training.drawers, *test.drawers]) == list(range(20)) and len(test.drawers) == 10
    trained = images(
        np.concatenate([task.samples(0, r, s, 25).levels for r in range(3) for s in (SampleSet.SUPPORT, SampleSet.QUERY)])
    )
    drawings = read_characters(find_archives(DATA)).levels
    turned = {
        np.rot90(drawings[c, drawer], turns)[..., None].tobytes() for c, turns in task.classes(0) for drawer in training.drawers
    }
    assert trained == turned  # all of these people, and nobody else
    tested = images(task.test_samples(HELD_OUT, 0).levels) | images(task.samples(HELD_OUT, 0, SampleSet.ADAPT, 30).levels)
    assert tested == {drawings[c, drawer][..., None].tobytes() for c, _ in task.classes(HELD_OUT) for drawer in test.drawers}


@needs_data
def test_an_unknown_alphabet_is_refused_with_the_list() -> None:
    with pytest.raises(DataError, match=r"task\.held_out_alphabets names 'Sanscrit'.*did you mean 'Sanskrit'\?") as caught:
        task_of(DATA, split="alphabet", held_out_alphabets=("Sanscrit",))
    for name in ("Balinese", "Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit", "Tagalog"):
        assert name in str(caught.value)
    everything = tuple(str(caught.value).rpartition("there are: ")[2].split(", "))
    with pytest.raises(DataError, match=r"all alphabets are held out.*name fewer in task\.held_out_alphabets"):
        task_of(DATA, split="alphabet", held_out_alphabets=everything)
    with pytest.raises(DataError, match=r"Latin is in task\.held_out_alphabets and in task\.validation"):
        task_of(DATA, split="alphabet", held_out_alphabets=("Latin",), validation=("Latin",))
    with pytest.raises(DataError, match="17 ways or fewer"):
        task_of(DATA, split="alphabet", held_out_alphabets=("Tagalog",), ways=18)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"held_out_alphabets": ("Latin",)}, "task.held_out_alphabets is for alphabets, but task.split = 'character'"),
        (
            {"split": "drawer"},
            "task.adapt = 8 and 4 to test need 12 drawings.*unseen clients have 10.*set task.adapt = 6 or fewer",
        ),
        ({"split": "drawer", "adapt": 6, "support": 6}, r"support \+ task.query = 11, but each character has 10 drawings, as"),
    ],
)
def test_keys_that_contradict_the_split_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        OmniglotTask(kind="omniglot", **keys).check("e.toml")


@needs_data
def test_a_rotated_class_is_its_character_turned(omniglot: Omniglot) -> None:
    drawings = read_characters(find_archives(DATA)).levels
    client = next(c for c in range(100) if any(turns == 3 for _, turns in omniglot.classes(c)))
    label, (character, _) = next((k, c) for k, c in enumerate(omniglot.classes(client)) if c[1] == 3)
    image = omniglot.samples(client, 4, SampleSet.SUPPORT, 5).levels
    assert image is not None
    assert any(np.array_equal(image[label, :, :, 0], np.rot90(drawing, 3)) for drawing in drawings[character])


# Samples


def images(samples_levels: np.ndarray | None) -> set[bytes]:
    assert samples_levels is not None
    return {image.tobytes() for image in samples_levels}


@needs_data
@pytest.mark.parametrize("client", [0, 17, HELD_OUT, HELD_OUT + 99])
def test_support_and_query_share_no_drawing_and_all_are_used(omniglot: Omniglot, client: int) -> None:
    support = images(omniglot.samples(client, 3, SampleSet.SUPPORT, 50).levels)
    query = images(omniglot.samples(client, 3, SampleSet.QUERY, 50).levels)
    assert len(support) == len(query) == 50 and not support & query


@needs_data
def test_fewer_adapt_samples_are_a_prefix_and_the_test_set_is_constant(omniglot: Omniglot) -> None:
    client = HELD_OUT + 5
    test = omniglot.test_samples(client, 0)
    largest = omniglot.samples(client, 0, SampleSet.ADAPT, 80)
    assert len(test) == 20 and len(images(test.levels) | images(largest.levels)) == 100
    for shots in (1, 2, 4, 8):
        fewer = omniglot.samples(client, 0, SampleSet.ADAPT, 5 * shots)
        np.testing.assert_array_equal(fewer.inputs, largest.inputs[: 5 * shots])


@needs_data
def test_classes_take_turns_and_draws_repeat_only_for_the_same_round(omniglot: Omniglot) -> None:
    first = omniglot.samples(2, 8, SampleSet.SUPPORT, 12)
    assert first.targets[:, 0].tolist() == [0, 1, 2, 3, 4] * 2 + [0, 1]
    np.testing.assert_array_equal(first.inputs, omniglot.samples(2, 8, SampleSet.SUPPORT, 12).inputs)
    assert not np.array_equal(first.inputs, omniglot.samples(2, 9, SampleSet.SUPPORT, 12).inputs)
    with pytest.raises(ValueError, match="at most 16 of each"):
        omniglot.samples(2, 8, SampleSet.ADAPT, 81)


@needs_data
def test_score_counts_right_rows_and_never_a_diverged_one(omniglot: Omniglot) -> None:
    test = omniglot.test_samples(HELD_OUT, 0)
    outputs = np.eye(5, dtype=np.float32)[test.targets[:, 0].astype(int)]
    assert omniglot.score(outputs, test) == 1
    outputs[:5] = np.roll(outputs[:5], 1, axis=1)
    assert omniglot.score(outputs, test) == 0.75
    outputs[:] = np.nan
    assert omniglot.score(outputs, test) == 0
    with pytest.raises(ValueError, match=r"expected \(20, 5\)"):
        omniglot.score(outputs[:, :4], test)


@needs_data
def test_it_is_a_task_and_names_its_characters(omniglot: Omniglot) -> None:
    task: Task = omniglot
    assert task.describe(HELD_OUT).count("/character") == 5 and "turned" not in task.describe(HELD_OUT)
    assert any("turned 90°" in task.describe(client) for client in range(20))


# Errors


def test_the_error_for_a_missing_archive_names_its_address(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"githubusercontent\.com/brendenlake/omniglot.*small1\.zip.*--data") as caught:
        task_of(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(DataError, match="absent"):
        task_of(tmp_path / "absent")


def test_an_archive_of_another_version_is_refused_unless_its_own_path_is_given(tmp_path: Path) -> None:
    other = write_archive(tmp_path / "images_background_small1.zip", characters(20))
    with pytest.raises(DataError, match=r"small1\.zip: damaged, or another version than https://.*SHA-256.*f38eb80f.*--data"):
        task_of(tmp_path)
    assert len(task_of(other).split.training.characters) == 15
    whole = write_archive(tmp_path / "images_background.zip", characters(30))
    assert find_archives(tmp_path) == [whole]  # it contains the small ones


def truncated(path: Path) -> None:
    write_archive(path, characters(20))
    path.write_bytes(path.read_bytes()[:-5000])


def corrupted(path: Path) -> None:
    write_archive(path, characters(20))
    raw = bytearray(path.read_bytes())
    raw[1000:1100] = bytes(100)
    path.write_bytes(raw)


def of_another_set(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("recordings/0_jackson_0.wav", b"RIFF")


def of_another_size(path: Path) -> None:
    write_archive(path, characters(20), shape=(28, 28))


def of_no_images(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images_background_small1/Greek/character01/0394_01.png", b"not a PNG")


def with_lost_drawings(path: Path) -> None:
    write_archive(path, characters(20), drawers=19)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "damaged or not a zip or tar archive"),
        (corrupted, "damaged or not a zip or tar archive"),
        (of_another_set, "another data set"),
        (of_another_size, "28x28 pixels, expected 105x105"),
        (of_no_images, "0394_01.png is not a readable image"),
        (with_lost_drawings, "character01 has 19 drawings, expected 20"),
    ],
)
def test_a_bad_archive_is_named_with_its_fault(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "images_background_small1.zip"
    damage(path)
    with pytest.raises(DataError, match=message) as caught:
        task_of(path)
    assert str(path) in str(caught.value)


def test_too_few_characters_are_refused_before_training(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "images_background_small1.zip", characters(12))
    assert task_of(archive, ways=3).output_size == 3
    with pytest.raises(DataError, match=r"12 characters, 3 of them held out.* not enough for 5 ways"):
        task_of(archive, ways=5)
