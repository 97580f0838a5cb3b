"""Synthetic entries of a run's store: every field has a default, and a test sets those that it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tomli_w
from small_runs import manifest

from tinymetafed.federation.clients import DeviceFacts
from tinymetafed.federation.result import ClientScore, ClientSpread, DCurve, Evaluation, FinalScores, Scores
from tinymetafed.federation.rounds import Contribution
from tinymetafed.learn.metric import Metric
from tinymetafed.runs.estimate import BoardEstimate, RoundEstimate
from tinymetafed.runs.journal import Asked, RoundEntry, RunHeader, RunResult, ServedDevice, SessionEntry
from tinymetafed.runs.store_format import FORMAT
from tinymetafed_codegen.hash import ARITHMETIC_VERSION
from tinymetafed_codegen.spec import Experiment, dump

ASKED = Asked(devices=("native:2",), test_devices=("native:1",), data=None, data_sha256="", strategy_sha256="")
DEVICE = DeviceFacts(url="native#1", board="native", unique_id="00c0ffee", receive_window=4096)


def header(chosen: Experiment, weights_sha256: str, **changes: Any) -> RunHeader:
    """The first entry of a run of an experiment."""
    made = RunHeader(
        format=FORMAT,
        arithmetic=ARITHMETIC_VERSION,
        tinymetafed="9.8.7",
        seed=chosen.run.seed,
        experiment=tomli_w.dumps(dump(chosen)),
        manifest=manifest(chosen),
        asked=ASKED,
        weights_sha256=weights_sha256,
    )
    return replace(made, **changes)


def session(after: int = 0, device: DeviceFacts = DEVICE) -> SessionEntry:
    """A session with one device that starts when ``after`` rounds are done."""
    return SessionEntry(round=after, devices=(device,), versions={}, start_seconds=1.0)


def contribution(client: int, status: str = "accepted", note: str = "") -> Contribution:
    """A client's part in a round."""
    device = "" if status == "skipped" else DEVICE.url
    return Contribution(client=client, device=device, status=status, digest="ab" * 32, entries=3, note=note)


def round_entry(round_: int, weights_sha256: str, **changes: Any) -> RoundEntry:
    """A round in which nobody took part."""
    made = RoundEntry(
        round=round_,
        alpha=0.5,
        contributions=(),
        devices=(),
        bytes_down=0,
        bytes_up=0,
        bytes_samples=0,
        retries=0,
        seconds=0.0,
        update_norm=1.0,
        weights_sha256=weights_sha256,
    )
    return replace(made, **changes)


def evaluation(round_: int, after: float | None, **changes: Any) -> Evaluation:
    """An evaluation during the run."""
    made = Evaluation(
        metric=Metric.MSE,
        before=4.5,
        after=after,
        after_ci95=None,
        n_tasks=9,
        n_clients=9,
        per_task=(),
        round=round_,
        bytes_down=4000 * round_,
        bytes_up=1000 * round_,
        constant=0,
        collapsed=False,
        seconds=0.0,
    )
    return replace(made, **changes)


_UNTRAINED: dict[str, Any] = {"after_ci95": None, "n_tasks": 4, "n_clients": 4, "per_task": ()}


def run_result(metric: str, before: float, after: float, **changes: Any) -> RunResult:
    """The result of 40 rounds."""
    final = FinalScores(
        metric=Metric(metric),
        before=before,
        after=after,
        after_ci95=0.02,
        n_tasks=4,
        n_clients=4,
        per_task=((before, after / 2), (before, after), (before, after), (before, min(after * 1.5, 1))),
        spread=ClientSpread(
            percentiles={"10": after / 2, "50": after, "90": after * 1.5},
            best=ClientScore(17, "an easy one", before, after / 2),
            worst=ClientScore(4, "a hard one", before, None),
        ),
    )
    curve = DCurve(
        metric=Metric(metric),
        samples="labelled samples per class" if metric == "accuracy" else "labelled samples",
        d=(0, 1, 8),
        mean=(before, (before + after) / 2, after),
        ci95=(0.01, 0.02, 0.01),
        n_tasks=100,
        n_clients=100,
    )
    nano = BoardEstimate("Nano", 0.25, (0.01, 0.02), (0.26, 0.27), (0.0012, 0.0034))
    made = RunResult(
        task="sine",
        rounds=40,
        seed=3,
        weights_sha256="ab" * 32,
        bytes_down=160_000,
        bytes_up=40_000,
        bytes_up_dense=0,
        bytes_samples=0,
        retries=40,
        redone=0,
        skipped=0,
        sessions=1,
        seconds=75.0,
        training_seconds=75.0,
        start_seconds=1.0,
        meta_test=final,
        d_curve=curve,
        example=None,
        estimate=RoundEstimate("counted, never from a board", 2500.0, 1000, {"nano": nano}),
        collapsed=False,
        devices=(ServedDevice(DEVICE.url, DEVICE.board, DEVICE.unique_id, DEVICE.receive_window, 80),),
        versions={"tinymetafed": "9.8.7"},
        instructions_per_step={"full": 12345},
        untrained=Scores(Metric(metric), before=before, after=5.2 if metric == "mse" else 0.4, **_UNTRAINED),
    )
    return replace(made, **changes)
