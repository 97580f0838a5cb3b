"""docs/network-boards.md: what it says to try without a board leads to the weights of a simulation, over TCP and MQTT."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from mqtt_broker import Mosquitto, needs_broker
from small_runs import SINE, needs_board

import tinymetafed as tmf
from tinymetafed_codegen.locate import root

PAGE = (root() / "docs" / "network-boards.md").read_text(encoding="utf-8")
TRY = PAGE.partition("## Try it without a board\n")[2].partition("\n## ")[0]
SHORT = ("run.rounds=4", "evaluation.tasks=2", "evaluation.every=0")


def block(language: str, with_: str) -> str:
    """The only block of the section that contains a text."""
    (found,) = [body for kind, body in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", TRY) if kind == language and with_ in body]
    return str(found)


def devices(words: list[str]) -> list[str]:
    """The device URLs of a command."""
    return [words[place + 1] for place, word in enumerate(words) if word == "--device"]


@needs_broker
@needs_board("native")
@pytest.mark.usefixtures("built_once")
def test_what_to_try_without_a_board_ends_on_the_simulations_weights(tmp_path: Path) -> None:
    experiment = tmf.load(SINE, SHORT)
    expected = tmf.simulate(experiment, out=tmp_path / "simulated", progress=False).weights_sha256
    (start,) = devices(shlex.split(block("console", "tinymetafed start")))
    shown = re.findall(r"127\.0\.0\.1:(\d+)", block("text", "native#1"))
    with Mosquitto(tmp_path) as broker, tmf.started(experiment, [start], progress=False) as lines:
        assert re.findall(r"native#\d", block("text", "native#1")) == [*lines]
        ports = [line.rpartition(":")[2] for line in lines.values()]
        over_tcp = shlex.split(block("console", "--out runs/tcp"))
        here = [url.replace(old, new) for url, old, new in zip(devices(over_tcp), shown, ports, strict=True)]
        assert here == [*lines.values()] and "--insecure" not in over_tcp
        assert tmf.train(experiment, here, out=tmp_path / "tcp", progress=False).weights_sha256 == expected

        (tmp_path / "bridge.py").write_text(block("python", "paho").replace("1883", str(broker.port)), encoding="utf-8")
        commands = [shlex.split(line) for line in block("console", "bridge.py").splitlines()]
        bridges = [words[1:] for words in commands if words[0] == "python"]
        assert [words[1] for words in bridges] == shown
        running = []
        for (file, _, topic), port in zip(bridges, ports, strict=True):
            words = [sys.executable, file, port, topic]
            running.append(subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}))
        try:
            broker.wait_for(*(f"{topic}/state" for _, _, topic in bridges))
            (at_broker,) = devices(commands[-1])
            url = at_broker.replace("127.0.0.1", f"127.0.0.1:{broker.port}")
            assert "--insecure" in commands[-1]
            run = tmf.train(experiment, [url], out=tmp_path / "mqtt", insecure=True, progress=False)
            assert run.weights_sha256 == expected and len(run.result.devices if run.result else ()) == len(bridges)
        finally:
            for each in running:
                each.kill()
                each.wait()
