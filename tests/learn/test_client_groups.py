"""Training, validation and test clients: disjoint for every task and seed, in the people, words and characters behind them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import DATA, needs_data

from tinymetafed.federation.meta_test import Group
from tinymetafed.learn.client_groups import ClientGroup, validation_share
from tinymetafed.learn.tasks import HELD_OUT, VALIDATION, DataError, Task
from tinymetafed.learn.tasks.folder import Client, Folder
from tinymetafed.learn.tasks.keyword_split import split_keywords
from tinymetafed.learn.tasks.omniglot import Omniglot
from tinymetafed.learn.tasks.own_data.client_choice import choose_groups
from tinymetafed.learn.tasks.own_data.problems import Problems
from tinymetafed.learn.tasks.presence import Presence
from tinymetafed.learn.tasks.sine import Sine
from tinymetafed.learn.tasks.speech import Recordings
from tinymetafed.learn.tasks.task_registry import open_task
from tinymetafed_codegen.protocol import SampleSet
from tinymetafed_codegen.spec import FolderTask, KeywordsTask, OmniglotTask, TaskShapes, parse

SEEDS = st.integers(0, (1 << 32) - 1)
NAMES = tuple("abcdefghijklmnopqrst")


def groups_of(task: Task, most: int = 40) -> dict[ClientGroup, list[int]]:
    """The first clients of each group."""
    drawn = {ClientGroup.TRAINING: list(range(min(task.clients, most)))}
    held_out = [Group.test(task), *([Group.validation(task)] if task.n_validation else [])]
    return drawn | {group.kind: [group.client(t) for t in range(most)] for group in held_out}


def require_apart(task: Task, behind: dict[ClientGroup, set[object]]) -> None:
    for kind, clients in groups_of(task).items():
        assert {task.group_of(client) for client in clients} == {kind}
    kinds = list(behind)
    assert all(behind[kind] for kind in kinds)
    assert all(not behind[one] & behind[other] for i, one in enumerate(kinds) for other in kinds[:i])


@settings(max_examples=8)
@given(seed=SEEDS)
def test_drawn_clients_of_one_group_are_in_no_other(seed: int) -> None:
    waves, rooms = Sine(seed), Presence(seed)
    require_apart(waves, {kind: set(map(waves.wave, clients)) for kind, clients in groups_of(waves).items()})
    require_apart(rooms, {kind: set(map(rooms.room, clients)) for kind, clients in groups_of(rooms).items()})
    for task in (waves, rooms):
        assert Group.validation(task).client(3) == VALIDATION + 3 and Group.test(task).client(3) == HELD_OUT + 3


@needs_data
@pytest.mark.parametrize("seed", [0, 1, 77, 4_000_000_000])
def test_a_character_is_in_one_group(seed: int) -> None:
    task = Omniglot(OmniglotTask(kind="omniglot"), DATA, seed)
    found = groups_of(task, 100)
    require_apart(task, {kind: {c for client in found[kind] for c, _ in task.classes(client)} for kind in found})
    assert len(found) == 3
    many = Omniglot(OmniglotTask(kind="omniglot", ways=40), DATA, seed)
    assert many.n_validation == 0 and len(many.split.test.characters) == 62
    assert many.group_of(VALIDATION) is ClientGroup.TEST
    with pytest.raises(DataError, match=r"no validation clients.*lower task\.ways"):
        Group.validation(many)


def recordings(speakers: int, words: int) -> Recordings:
    nothing = np.zeros(0, np.int64)
    return Recordings(np.zeros((0, 32, 20), np.uint8), nothing, nothing, NAMES[:words], NAMES[:speakers], "")


@settings(max_examples=60)
@given(
    seed=SEEDS,
    split=st.sampled_from(["speaker", "word", "both"]),
    speakers=st.integers(3, 20),
    words=st.integers(4, 20),
    asked=st.one_of(st.none(), st.integers(0, 4), st.sets(st.sampled_from(NAMES[:4]), min_size=1).map(tuple)),
    chooses=st.booleans(),
)
def test_a_speaker_or_word_is_in_one_group(seed: int, split: Any, speakers: int, words: int, asked: Any, chooses: bool) -> None:
    spec = KeywordsTask(kind="keywords", ways=2, split=split, validation=asked)
    plain = split_keywords(recordings(speakers, words), spec.model_copy(update={"validation": 0}), seed, "here", False)
    try:
        sides = split_keywords(recordings(speakers, words), spec, seed, "here", chooses)
    except DataError:
        assert asked  # what was asked for is not there
        return
    assert list(sides) == list(ClientGroup)[:1] + [ClientGroup.TEST, ClientGroup.VALIDATION][: len(sides) - 1]
    for axis, apart in (("speakers", split != "word"), ("words", split != "speaker")):
        parts = [list(getattr(side, axis)) for side in sides.values()]
        if apart:
            together = [i for part in parts for i in part]
            assert len(together) == len(set(together)) == (speakers if axis == "speakers" else words)
        else:
            assert all(part == parts[0] for part in parts)
        if asked is None or asked == 0:  # what is trained on does not depend on validation
            assert list(getattr(sides[ClientGroup.TRAINING], axis)) == list(getattr(plain[ClientGroup.TRAINING], axis))
    if asked:
        assert ClientGroup.VALIDATION in sides
        if split != "both":
            assert sides[ClientGroup.TEST] == plain[ClientGroup.TEST]  # they are taken from training
    if asked == 0:
        assert ClientGroup.VALIDATION not in sides


@settings(max_examples=60)
@given(
    seed=SEEDS,
    n=st.integers(2, 20),
    held_out=st.one_of(st.none(), st.sets(st.sampled_from(NAMES[:6]), min_size=1).map(tuple)),
    asked=st.one_of(st.none(), st.integers(0, 6), st.sets(st.sampled_from(NAMES[4:9]), min_size=1).map(tuple)),
    chooses=st.booleans(),
)
def test_a_file_is_in_one_group(seed: int, n: int, held_out: Any, asked: Any, chooses: bool) -> None:
    spec = FolderTask(kind="folder", path="data", held_out=held_out, validation=asked, adapt=2)
    names, problems = NAMES[:n], Problems()
    out, validation = choose_groups(Path("data"), names, names, spec, seed, problems)
    if problems.listed:
        return
    plain, _ = choose_groups(Path("data"), names, names, spec.model_copy(update={"validation": None}), seed, Problems())
    test = out - validation
    # The test stays as it is; others are drawn in place of those that validation names.
    assert plain - validation <= test and len(test) == len(plain)
    assert not validation & plain or held_out is None
    if asked is not None:
        assert len(validation) == (asked if isinstance(asked, int) else len(asked))
    rows = {name: Client(name, np.full((4, 1), i, np.float32), np.zeros((4, 1), np.float32)) for i, name in enumerate(names)}
    unseen = sorted(out, key=lambda name: (name in validation, name))
    task = Folder(
        spec,
        TaskShapes((1,), 2, "softmax_cross_entropy"),
        seed,
        [rows[m] for m in names if m not in out],
        [rows[name] for name in unseen],
    )
    task.chooses = chooses
    if asked is not None:
        task.validation_clients = len(validation)
    expected = len(validation) if asked is not None else validation_share(len(out), chooses)
    assert task.n_validation == expected
    found = groups_of(task)
    behind: dict[ClientGroup, set[object]] = {
        kind: {float(task.samples(c, 0, SampleSet.ADAPT, 1).inputs[0, 0]) for c in clients} for kind, clients in found.items()
    }
    require_apart(task, behind)
    assert len(behind[ClientGroup.TEST]) == len(out) - expected


def test_a_share_for_validation_leaves_enough_for_the_test() -> None:
    assert [validation_share(n) for n in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert [validation_share(n, chooses=True) for n in range(5)] == [0, 0, 1, 1, 1]
    assert [validation_share(n, needed=5) for n in (9, 10, 15, 18, 62)] == [0, 5, 5, 6, 20]


OWN_TASK = '''
import numpy as np
import tinymetafed as tmf


class Weighed(tmf.Task):
    """Every client weighs things; two clients in a row are scales of one person."""

    unit = {unit!r}

    @classmethod
    def facts(cls, options):
        return tmf.TaskFacts(title="Scales", input_shape=(1,), output_size=1, loss="mse", counts_clients=True)

    def read(self, data):
        self.clients, self.unseen_clients = 10, 6
        self.validation_clients = {validation}

    def units(self, client):
        return {units}

    def _drawn(self, client, round, stream, count):
        x = self.uniform(client, round, stream, count)[:, None]
        return tmf.Samples(x, np.float32(1 + client % 7) * x)

    def samples(self, client, round, sample_set, count):
        return self._drawn(client, round, sample_set, count)

    def test_samples(self, client, round):
        return self._drawn(client, round, tmf.SampleSet.TEST, 4)
'''


def own_task(folder: Path, unit: object = "person", validation: object = 2, units: str = "(f'{client % 6 // 2}',)") -> Task:
    file = folder / f"scales{len(list(folder.iterdir()))}.py"
    file.write_text(OWN_TASK.format(unit=unit, validation=validation, units=units))
    settings: dict[str, Any] = {"task": {"kind": f"{file}:Weighed"}}
    text = "[model]\ninput = [1]\nloss = 'mse'\nlayers = [ { op = 'dense', units = 1, local = true } ]\n"
    return open_task(parse(tomllib.loads(text) | settings, "own"), None)


def test_a_users_own_task_says_who_is_for_validation_and_what_is_independent(tmp_path: Path) -> None:
    task = own_task(tmp_path)
    require_apart(task, {kind: set(clients) for kind, clients in groups_of(task).items()})
    assert (Group.test(task).count, Group.validation(task).count) == (4, 2)
    assert task.unit == "person" and task.units(HELD_OUT) == ("2",)
    assert Group.test(own_task(tmp_path, validation=None)).count == 4  # a third of six is for validation
    with pytest.raises(DataError, match=r"no validation clients.*set validation_clients in read\(\)"):
        Group.validation(own_task(tmp_path, validation=0))
    with pytest.raises(DataError, match=r"validation_clients is 6, expected a whole number from 0 to 5"):
        own_task(tmp_path, validation=6)
    with pytest.raises(DataError, match=r"unit is 7, expected what is independent"):
        own_task(tmp_path, unit=7)
    with pytest.raises(DataError, match=r"units\(client=1048576\) gives \(1, 2\), expected names \(str\): one"):
        own_task(tmp_path, units="(1, 2)").units(HELD_OUT)
