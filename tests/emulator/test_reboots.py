"""A board that reboots between any two messages of a round rejoins the round without effect on the other boards."""

from __future__ import annotations

import subprocess

import pytest
from rig import present
from small_runs import Quiet, sine

from tinymetafed.devices.client_program import ClientResult, Job, federate
from tinymetafed.devices.fleet import Fleet
from tinymetafed.devices.link.session import Session
from tinymetafed.devices.link.transport import Transport
from tinymetafed.devices.running import running
from tinymetafed.learn.weights import initial
from tinymetafed.runs.setup import design_of, set_up
from tinymetafed_codegen.protocol import Program

MOST_MESSAGES = 50  # upper limit for the messages of one client's round


class RebootAt:
    """A line whose board is switched off at message ``place``, counted from 0, and stays off."""

    def __init__(self, inner: Transport, process: subprocess.Popen[bytes], place: int, *, before: bool) -> None:
        self.name, self.baud = inner.name, inner.baud
        self.messages = 0
        self.off = False
        self._inner, self._process, self._place, self._before = inner, process, place, before

    def read(self, timeout: float) -> bytes:
        return self._inner.read(timeout)

    def write(self, data: bytes) -> None:
        for frame in filter(None, data.split(b"\0")):
            hit = self.messages == self._place
            if hit and self._before:
                self._switch_off()
            self._inner.write(b"\0" + frame + b"\0")
            if hit and not self._before:
                self._switch_off()
            self.messages += 1

    def close(self) -> None:
        self._inner.close()

    def _switch_off(self) -> None:
        self._process.kill()
        self._process.wait()
        self.off = True


@pytest.mark.parametrize("before", [True, False], ids=["before a message", "after a message"])
@pytest.mark.parametrize("url", present(["native:2", "qemu:2"]))
@pytest.mark.usefixtures("built_once", "patient")
def test_a_board_that_reboots_at_any_message_joins_again(url: str, before: bool) -> None:
    experiment = sine("strategy.uplink=f32")  # deltas in several messages
    setup = set_up(experiment, "test", None)
    strategy, task = setup.strategy, setup.task
    download = strategy.download(initial(setup.design.manifest, 1, experiment.model.init))
    recipe = strategy.training_recipe()
    with running(design_of(experiment, "test"), [url], Quiet()) as fleet:
        rebooting, other = fleet.devices
        homes = {10: rebooting.hello.unique_id, 11: other.hello.unique_id}

        def one_client(session: Session, client: int) -> ClientResult:
            job = Job(Program.TRAIN, recipe, 1, client, 0)
            return federate(session, task, job, download, strategy.n_global)

        def one_round(fleet: Fleet) -> dict[int, tuple[str, list[int], bytes]]:
            served = fleet.map(list(homes), one_client, pinned=homes.__getitem__)
            found = {}
            for client, each in zip(homes, served, strict=True):
                assert each.outcome is not None
                found[client] = (each.status, each.outcome.delta.indices.tolist(), each.outcome.delta.values.tobytes())
            return found

        fleet.configure(Program.TRAIN, recipe)
        undisturbed = one_round(fleet)
        at_ease = other.session, other.process
        for place in range(MOST_MESSAGES):
            process = rebooting.process
            assert process is not None
            line = RebootAt(rebooting.session._transport, process, place, before=before)
            rebooting.session._transport = line  # below the session, which does not know of it
            found = one_round(fleet)
            if not line.off:
                break
            assert rebooting.process is not process and rebooting.hello.unique_id == homes[10]
            assert found == {10: ("redone", *undisturbed[10][1:]), 11: undisturbed[11]}
        assert line.messages == place > 8  # all messages were covered: Loads, Train, Await, Pulls
        assert (other.session, other.process) == at_ease  # a busy host may have repeated requests
