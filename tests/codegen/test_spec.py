"""Experiment files: valid ones load completely; errors name the key and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from tinymetafed_codegen import spec
from tinymetafed_codegen.locate import find
from tinymetafed_codegen.protocol import SampleSet

SINE = find("examples") / "sine.toml"


def refusal(*overrides: str, path: Path = SINE) -> str:
    with pytest.raises(spec.SpecError) as caught:
        spec.load(path, overrides)
    text = str(caught.value)
    assert "\n" not in text, "one clear error, not a list"
    return text


@pytest.mark.parametrize("path", sorted(find("examples").glob("*.toml")), ids=lambda path: path.stem)
def test_examples_are_complete_and_survive_being_written(path: Path, tmp_path: Path) -> None:
    experiment = spec.load(path)
    copy = tmp_path / "copy.toml"
    copy.write_text(tomli_w.dumps(spec.dump(experiment)), encoding="utf-8")
    assert spec.load(copy) == experiment


def test_every_kind_of_layer_survives_being_written(tmp_path: Path) -> None:
    layers = (
        '[{op="conv2d",filters=2,kernel=[3,1],name="a",frozen=true},{op="depthwise_conv2d",kernel=3,stride=[1,2]},'
        '{op="separable_conv2d",filters=2,kernel=3,activation="leaky_relu"},{op="add",with="a"},{op="max_pool"},'
        '{op="avg_pool",size=3,stride=1},{op="leaky_relu",slope=0.5},{op="global_avg_pool"},{op="dense",units=1}]'
    )
    experiment = spec.load(SINE, [f"model.layers={layers}", "model.momentum=0.5", "model.weights=w.npz"])
    assert experiment.model.weights == str((SINE.parent / "w.npz").resolve())
    copy = tmp_path / "copy.toml"
    copy.write_text(tomli_w.dumps(spec.dump(experiment)), encoding="utf-8")
    assert spec.load(copy) == experiment


def test_overrides_reach_any_key() -> None:
    experiment = spec.load(SINE, ["run.rounds=7", "strategy.uplink=f32", "task.adapt=3", "strategy.top_p=12.5"])
    assert (experiment.run.rounds, experiment.strategy.uplink, experiment.task.adapt) == (7, "f32", 3)
    assert experiment.strategy.top_p == 12.5


@pytest.mark.parametrize(
    ("override", "named", "remedy"),
    [
        ("run.round=3", "'run.round'", "did you mean 'rounds'?"),
        ("strategy.topp=3", "'strategy.topp'", "did you mean 'top_p'?"),
        ('model.layers=[{op="dense",unit=3}]', "'model.layers[0].unit'", "did you mean 'units'?"),
        ('model.layers=[{op="dens",units=3}]', "'model.layers[0].op'", "did you mean 'dense'?"),
        ('model.layers=[{op="add",wiht="a"}]', "'model.layers[0].wiht'", "did you mean 'with'?"),
        ('model.layers=[{op="max_pool",sizes=2}]', "'model.layers[0].sizes'", "did you mean 'size'?"),
        ('model.layers=[{op="maxpool"}]', "'model.layers[0].op'", "did you mean 'max_pool'?"),
        ('model.layers=[{op="dense",units=3,forzen=true}]', "'model.layers[0].forzen'", "did you mean 'frozen'?"),
        ("model.momentun=0.9", "'model.momentun'", "did you mean 'momentum'?"),
        ('task.kind="sinus"', "'task.kind'", "did you mean 'sine'?"),
        ("zzz.key=1", "'zzz'", "known here: task, data, model"),
        ("strategy.rounds=3", "'strategy.rounds'", "did you mean 'run.rounds'?"),
        ("strategy.devices_per_round=3", "'strategy.devices_per_round'", "did you mean 'run.devices_per_round'?"),
        ("strategy.device_per_round=3", "'strategy.device_per_round'", "did you mean 'run.devices_per_round'?"),
        ("run.alpha_max=0.5", "'run.alpha_max'", "did you mean 'strategy.alpha_max'?"),
        ("run.tasks=3", "'run.tasks'", "did you mean 'evaluation.tasks'?"),
        ("run.kind='sine'", "'run.kind'", "did you mean 'task.kind' or 'strategy.kind'?"),
        ("model.units=3", "'model.units'", "did you mean 'model.layers.N.units', N being the layer's number from 0?"),
        ("runs.seed=3", "'runs'", "did you mean 'run'?"),
        ("task.ways=3", "'task.ways'", "it is a key of task.kind = 'omniglot' and of task.kind = 'keywords'"),
        ("model.layers.0.momentum=0.5", "'model.layers[0].momentum'", "did you mean 'model.momentum'?"),
        ("model.layers.0.slope=0.5", "'model.layers[0].slope'", "it is a key of op = 'leaky_relu'"),
        ("model.lokal=true", "'model.lokal'", "did you mean 'local_start'?"),
    ],
)
def test_unknown_keys_name_the_nearest(override: str, named: str, remedy: str) -> None:
    text = refusal(override)
    assert str(SINE) in text and named in text and remedy in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("task.label=0", "'task.label' = 0: input should be greater than or equal to 1"),
        ("task.label=[]", "'task.label' = []: expected 1 entry or more"),
        ("task.label=[1, 0]", "'task.label[1]' = 0: input should be greater than or equal to 1"),
        ("task.features=3", "'task.features' = 3: expected a list, as in features = [3]"),
        ("task.held_out=carol", "'task.held_out' = 'carol': expected a list, as in held_out = ['carol']"),
    ],
)
def test_values_that_name_no_columns_are_explained(own: Path, override: str, said: str) -> None:
    assert said in refusal(override, path=own)


@pytest.mark.parametrize(
    "override",
    [
        'run.rounds="many"',
        "run.rounds=-3",
        "run.rounds=1.5",
        "run.seed=-1",
        "strategy.top_p=0",
        "strategy.top_p=101",
        "strategy.top_p=nan",
        "strategy.alpha_max=inf",
        "strategy.global_learning_rate=-0.1",
        'strategy.uplink="f8"',
        "model.input=[0]",
        "model.input=[]",
        "model.input=[-1]",
        "model.input=3",
        "model.input=[100000000]",
        "model.layers=[]",
        'model.layers=[{op="dense",units=0}]',
        'model.layers=[{op="dense",units=99999999}]',
        'model.layers=[{op="dense",units="4"}]',
        'model.layers=[{op="conv2d",filters=4,kernel=0}]',
        'model.loss="mea"',
        'model.layers=[{op="dense",units=4,activation="rellu"}]',
        'model.layers=[{op="dense",units=4,name="Upper"}]',
        'model.layers=[{op="dense",units=4,name="a_1"}]',
        'model.layers=[{op="conv2d",filters=4,kernel=[3,3,3]}]',
        'model.layers=[{op="max_pool",size=0}]',
        'model.layers=[{op="leaky_relu",slope=-0.5}]',
        "model.momentum=1.0",
        "model.weight_decay=-0.1",
        "model.clip_norm=nan",
        "model.huber_delta=0",
        "task.support=0",
        "evaluation.tasks=0",
    ],
)
def test_values_outside_their_domain_are_named(override: str) -> None:
    key = override.partition("=")[0]
    text = refusal(override)
    assert str(SINE) in text and key in text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["strategy.schedule=sgdr"], "needs strategy.restart_rounds"),
        (["strategy.schedule=sgdr", "strategy.restart_rounds=999"], "not a multiple"),
        (["strategy.restart_rounds=10"], "only with"),
        (["strategy.alpha_min=0.9"], "above alpha_max"),
        (["run.quorum=0.6"], "run.quorum = 0.6 needs run.deadline, how long a round waits"),
        (["run.deadline=90s"], "run.deadline = '90s' needs run.quorum, the share of a round's clients"),
        (["run.quorum=3", "run.deadline=90s"], "run.quorum: 3: expected the share of a round's clients"),
        (["run.quorum=nan", "run.deadline=90s"], "run.quorum: nan: expected the share"),
        (["run.quorum=0.6", "run.deadline=90"], "run.deadline: '90': expected a number and its unit, ms, s, min or h"),
        (["run.quorum=0.6", "run.deadline=0s"], "run.deadline: '0s': expected more than 0 and a week"),
        (["run.clients=2", "run.devices_per_round=3"], "run.devices_per_round = 3 but there are only run.clients = 2"),
        (
            ["run.clients=2", "strategy.kind=fedavg"],
            "run.devices_per_round = 5 (the default of strategy.kind = 'fedavg') but there are only run.clients = 2; set "
            "run.devices_per_round = 2 or less",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(overrides: list[str], expected: str) -> None:
    assert expected in refusal(*overrides)


@pytest.mark.parametrize(
    ("written", "seconds"), [("500ms", 0.5), ("90s", 90.0), ("1.5 min", 90.0), ("10min", 600.0), ("2h", 7200.0)]
)
def test_a_round_has_the_deadline_and_the_quorum_that_are_asked_for(written: str, seconds: float) -> None:
    run = spec.load(SINE, ["run.quorum=0.6", f'run.deadline="{written}"']).run
    assert run.deadline_seconds == pytest.approx(seconds)
    assert [run.quorum_of(clients) for clients in (1, 2, 5, 8, 10)] == [1, 2, 3, 5, 6]


def test_an_experiment_without_a_deadline_is_written_as_before() -> None:
    assert spec.load(SINE).run.deadline_seconds is None
    assert not {"quorum", "deadline"} & spec.dump(spec.load(SINE))["run"].keys()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=3"), "the masks of a round"),
        (("privacy.clip=0.25", "privacy.noise=0.5", "strategy.selection=random"), "would not be accounted for"),
    ],
)
def test_a_quorum_is_refused_where_late_updates_matter(overrides: tuple[str, ...], expected: str) -> None:
    assert expected in refusal("run.quorum=0.6", "run.deadline=90s", *overrides)


def test_holding_out_words_and_speakers_together_is_refused() -> None:
    digits = find("examples") / "digits.toml"
    assert "leave one of them out" in refusal("task.split=word", 'task.held_out=["theo"]', path=digits)
    assert spec.load(digits, ["task.split=both", 'task.held_out=["theo"]']).task.count(SampleSet.ADAPT) == 32


@pytest.mark.parametrize("override", ["run.rounds", "rounds=5", "=5", ".rounds=5", "run..rounds=5"])
def test_malformed_overrides_are_explained(override: str) -> None:
    assert "--set" in refusal(override)


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    assert "no such experiment file; examples/sine.toml" in refusal(path=tmp_path / "none.toml")
    (tmp_path / "experiment.toml").touch()
    assert f"did you mean {tmp_path / 'experiment.toml'}?" in refusal(path=tmp_path / "experimnt.toml")
    assert f"did you mean {tmp_path / 'experiment.toml'}?" in refusal(path=tmp_path)
    assert "a folder" in refusal(path=tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text("[task\nkind = 1", encoding="utf-8")
    assert "not valid TOML" in refusal(path=broken) and "line 1" in refusal(path=broken)
    broken.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(path=broken)


def test_an_empty_file_says_what_is_missing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.toml"
    empty.write_text("", encoding="utf-8")
    assert "is missing" in refusal(path=empty)


# The user's own data


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An experiment with the data of a folder."""
    path = tmp_path / "experiment.toml"
    path.write_text(
        '[task]\nkind = "folder"\npath = "data"\n'
        '[model]\ninput = [4]\nloss = "softmax_cross_entropy"\nlayers = [{ op = "dense", units = 3, local = true }]\n',
        encoding="utf-8",
    )
    return path


def test_paths_are_relative_to_the_experiment_file_and_then_absolute(own: Path, tmp_path: Path) -> None:
    experiment = spec.load(own, ["task.source=../s.cpp"])
    assert isinstance(experiment.task, spec.FolderTask)
    assert (experiment.task.path, experiment.task.source) == (str(tmp_path / "data"), str(tmp_path.parent / "s.cpp"))
    copy = tmp_path / "elsewhere" / "copy.toml"
    copy.parent.mkdir()
    copy.write_text(tomli_w.dumps(spec.dump(experiment)), encoding="utf-8")
    assert spec.load(copy) == experiment


def test_a_folder_counts_its_clients(own: Path) -> None:
    assert spec.load(own).run.clients is None and "clients" not in spec.dump(spec.load(own))["run"]
    assert "run.clients = 7, but task 'folder' counts its clients" in refusal("run.clients=7", path=own)
    assert spec.load(own, ["task.source=s.cpp"]).run.clients == spec.CLIENTS
    assert spec.load(own, ["task.source=s.cpp", "run.clients=7"]).run.clients == 7
    boards = ["task.source=s.cpp", "task.client_per_board=true"]
    assert spec.load(own, boards).run.clients is None
    assert "counts its clients" in refusal(*boards, "run.clients=7", path=own)
    assert "needs task.source" in refusal("task.client_per_board=true", path=own)


def test_unseen_clients_use_the_same_experiment_with_streamed_samples(own: Path) -> None:
    streamed = spec.load(own).streamed
    assert streamed == spec.load(own)
    raw = spec.load(own, ["data.normalise=none"]).streamed
    assert streamed.data.normalise == "standard"
    assert spec.load(own, ["task.source=s.cpp"]).streamed == raw
    assert spec.load(own, ["task.source=s.cpp", "task.client_per_board=true"]).streamed == raw
    sine = spec.load(SINE)
    assert sine.streamed is sine


def test_folder_keys_are_named_when_they_are_wrong(own: Path) -> None:
    assert "'task.path' = ''" in refusal("task.path=''", path=own)
    assert "'task.held_out' = []" in refusal("task.held_out=[]", path=own)
    assert "unknown key 'task.suport'; did you mean 'support'?" in refusal("task.suport=3", path=own)
    for key in ("source", "client_per_board"):
        assert f"unknown key 'task.{key}'" in refusal(f"task.{key}=true")


def test_levels_of_few_bits_need_a_coding_that_knows_them_and_updates_of_their_own() -> None:
    coded, down = "strategy.uplink_coding=range", "strategy.downlink_coding=range"
    for bits in ("i8", "i4", "i3", "t2"):
        strategy = spec.load(SINE, [coded, down, f"strategy.uplink={bits}", f"strategy.downlink={bits}"]).strategy
        assert strategy.uplink_levels == strategy.downlink_levels is not None and strategy.uplink_levels.is_ranged
    plain = spec.load(SINE, ["strategy.uplink=t2", "strategy.downlink=i8"]).strategy
    assert plain.uplink_levels is not None and plain.uplink_levels.largest == 1 and not plain.uplink_levels.is_ranged
    assert plain.downlink_levels is None and spec.load(SINE).strategy.uplink_levels is None
    assert "strategy.uplink = 'f16'; set strategy.uplink = 'i8'" in refusal(coded, "strategy.uplink=f16")
    assert "strategy.downlink = 'f16'; set strategy.downlink = 'i8', 'i4', 'i3' or 't2'" in refusal(down)
    assert "set strategy.uplink_coding = 'range'" in refusal("strategy.uplink=i4", "strategy.uplink_coding=rice")
    random = ("strategy.selection=random", "run.devices_per_round=20")
    masked = ("privacy.secure_aggregation=true", *random)
    private = ("privacy.clip=0.25", "privacy.noise=0.5", *random)
    assert "integer of 16 bits; leave strategy.uplink out" in refusal("strategy.uplink=i4", *masked)
    assert "which no code makes shorter" in refusal(coded, *masked)
    assert "set strategy.uplink = 'i8'" in refusal("strategy.uplink=t2", *private)
    assert "'tinyol' send no updates" in refusal("strategy.uplink=i4", "strategy.kind=tinyol")
    # Weights of few bits, and int8 values of private updates in a range code, change nothing for what follows them.
    spec.load(SINE, ["strategy.downlink=i4", down, *masked])
    spec.load(SINE, ["strategy.downlink=i4", coded, down, *private])
    spec.load(
        SINE,
        [
            "strategy.uplink=i4",
            coded,
            "run.security=authenticated",
            "run.devices_per_round=3",
            "strategy.defence=trimmed",
            "strategy.audit=0.5",
        ],
    )


def test_a_schedule_that_would_go_negative_is_refused() -> None:
    sgdr = ('strategy.schedule="sgdr"', "strategy.restart_rounds=1000", "run.rounds=3000")
    assert "strategy.restart_decay = 0.3 takes the schedule below" in refusal(*sgdr, "strategy.restart_decay=0.3")
    spec.load(SINE, [*sgdr, "strategy.restart_decay=0.25"])


def test_only_integers_that_are_not_masked_can_be_coded() -> None:
    coded = "strategy.uplink_coding=rice"
    assert spec.load(SINE, [coded]).strategy.codes_values and not spec.load(SINE).strategy.codes_values
    assert "strategy.uplink = 'f16'; set strategy.uplink = 'i8'" in refusal(coded, "strategy.uplink=f16")
    assert "strategy.uplink = 'f32'" in refusal(coded, "strategy.kind=reptile", "strategy.top_p=50")
    masked = ("privacy.secure_aggregation=true", "strategy.selection=random", "run.devices_per_round=3")
    assert "which no code makes shorter" in refusal(coded, *masked)
    assert "'tinyol' send no updates" in refusal(coded, "strategy.kind=tinyol")
    assert "'strategy.uplink_coding' = 'huffman': input should be 'packed', 'rice' or 'range'" in refusal(
        "strategy.uplink_coding=huffman"
    )
