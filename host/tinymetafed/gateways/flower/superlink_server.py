"""A run in the place of the ServerApp of a SuperLink: takes the server's task and sends messages to the gateways.

The server's part runs in the process of `tinymetafed train`, which owns the run folder. The SuperLink must leave its server
tasks to others, with --isolation process.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.common.serde import fab_to_proto, message_from_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    GetNodesRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushAppMessagesRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.runtime import RuntimeHttpClient

from ...devices.link.clock import SYSTEM_CLOCK, Clock
from ..backhaul import BackhaulTraffic, Reply
from ..gateway_fields import GatewayMessageError
from .flower_calls import NO_ANSWER, Calls, Pace, Refused
from .flower_messages import order, put_together, taken_apart, unpacked
from .flower_objects import Objects
from .superlink_address import SuperLinkAddress, SuperLinkError

_Result = TypeVar("_Result")

AWAY_SECONDS = 120.0  # for which the SuperLink may be away in a run
START_SECONDS = 20.0  # for the SuperLink to hand its task out
HEARTBEAT_SECONDS = 20.0
_MOST_SECONDS = 0.25  # between two looks for replies
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"
_APP = b"""[project]
name = "tinymetafed"
version = "1.0.0"
description = "Its server runs in tinymetafed train, its clients in tinymetafed gateway."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "tinymetafed"

[tool.flwr.app.components]
serverapp = "nothing:app"
clientapp = "nothing:app"
"""


class SuperLinkBackhaul:
    """Messages to gateways over a SuperLink (backhaul.Backhaul)."""

    def __init__(self, calls: Calls, client: RuntimeHttpClient, run_id: int, clock: Clock) -> None:
        self.traffic = BackhaulTraffic()
        self._calls, self._client, self._run_id, self._clock = calls, client, run_id, clock
        self._node = Node(node_id=SUPERLINK_NODE_ID)
        self._pace, self._waited = Pace(_MOST_SECONDS), 0.0
        self._objects = Objects(calls, client, self._node, run_id)

    def present(self) -> frozenset[int]:
        """See Backhaul."""
        return frozenset(node.node_id for node in self._call(lambda: self._client.GetNodes(GetNodesRequest())).nodes)

    def send(self, gateway: int, content: bytes) -> str:
        """See Backhaul."""

        def push() -> str:
            message = order(content, self._run_id, gateway)
            proto, tree, objects = taken_apart(message)
            taken = self._client.PushMessages(PushAppMessagesRequest(messages_list=[proto], message_object_trees=[tree]))
            self._objects.push(taken.objects_to_push, objects, taken.session_id)
            return message.metadata.message_id

        message = self._call(push)
        before = self.traffic
        self.traffic = BackhaulTraffic(before.down + len(content), before.up, before.messages + 1)
        return message

    def replies(self, waiting: Collection[str]) -> list[Reply]:
        """See Backhaul."""
        if not waiting:
            return []
        found = self._call(lambda: self._client.PullMessages(PullAppMessagesRequest(message_ids=list(waiting))))
        replies = []
        for proto, tree in zip(found.messages_list, found.message_object_trees, strict=True):
            head = message_from_proto(proto)
            to = head.metadata.reply_to_message_id
            if head.has_error():
                replies.append(Reply(to, None, f"Flower says: {head.error.reason}"))
                continue
            try:
                content = unpacked(put_together(head.metadata.message_id, tree, self._objects.pull))
            except (GatewayMessageError, ValueError) as error:
                replies.append(Reply(to, None, str(error)))
                continue
            confirm = ConfirmMessageReceivedRequest(
                node=self._node, run_id=self._run_id, message_object_id=head.metadata.message_id
            )
            self._call(lambda confirm=confirm: self._client.ConfirmMessageReceived(confirm))  # type: ignore[misc]
            self.traffic = BackhaulTraffic(self.traffic.down, self.traffic.up + len(content), self.traffic.messages)
            replies.append(Reply(to, content))
        if replies and self._waited:
            self._pace.came(self._waited)
            self._waited = 0.0
        return replies

    def wait(self, waited: float) -> None:
        """See Backhaul."""
        self._waited = waited
        self._calls.stop.wait(self._pace.pause(waited))

    def now(self) -> float:
        """See Backhaul."""
        return self._clock.monotonic()

    def _call(self, action: Callable[[], _Result]) -> _Result:
        try:
            return self._calls.call(action)
        except Refused as error:
            raise SuperLinkError(
                f"{error}; if it was started again, it has forgotten this session: continue the run, which begins another one"
            ) from None


@contextmanager
def superlink_server(
    address: SuperLinkAddress, on_event: Callable[[str], None], clock: Clock = SYSTEM_CLOCK
) -> Iterator[SuperLinkBackhaul]:
    """Starts a run at a SuperLink and takes its server's task; ends it when the block ends.

    Args:
        address: The SuperLink.
        on_event: Called with one line of text for each problem and how it was handled.
        clock: Clock to measure time with.

    Yields:
        The way to the gateways.

    Raises:
        SuperLinkError: It cannot be used.
    """
    calls = Calls(address, on_event, AWAY_SECONDS, clock)
    secret = None if address.server_secret is None else address.read(address.server_secret, "the SuperLink's secret")
    authorities = None
    if address.root_certificates is not None:
        authorities = address.read(address.root_certificates, "certificates as PEM")
    _start_run(calls, authorities)
    with _runtime(address, authorities, _acquire(secret)) as anyone:
        token = _task(calls, anyone)
    with _runtime(address, authorities, [RuntimeTokenHttpInterceptor(token=token)]) as client:
        run_id = calls.call(lambda: client.PullTaskInput(PullTaskInputRequest())).run.run_id
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(client, ended), daemon=True)
        beating.start()
        status, details = SubStatus.FAILED, "its rounds were interrupted"
        try:
            yield SuperLinkBackhaul(calls, client, run_id, clock)
            status, details = SubStatus.COMPLETED, ""
        finally:
            ended.set()
            with suppress(*NO_ANSWER):
                client.PushTaskOutput(PushTaskOutputRequest(sub_status=status, details=details))
            beating.join()


def _start_run(calls: Calls, authorities: bytes | None) -> None:
    """Starts a run whose app has no code."""
    content, _ = build_fab_from_files({"pyproject.toml": _APP, "nothing.py": b"app = None\n"})
    fab = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
    address = calls.address
    with ControlHttpClient.from_server_address(
        str(address),
        address.insecure,
        authorities,
        interceptors=[CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    ) as client:
        started = calls.call(lambda: client.StartRun(StartRunRequest(fab=fab)))
    if not started.HasField("run_id"):
        raise SuperLinkError(f"SuperLink {address}: does not start a run")


def _task(calls: Calls, client: RuntimeHttpClient) -> str:
    """Takes a server's task of the SuperLink; that of another run is as good, because all are alike."""
    until = calls.clock.monotonic() + START_SECONDS
    asked = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
    while True:
        try:
            got = calls.call(lambda: client.AcquireTask(asked))
        except Refused as error:
            if error.status not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise
            raise SuperLinkError(f"{error}; give --server-secret with the file of its --superexec-auth-secret-file") from None
        if got.token:
            return str(got.token)
        if calls.clock.monotonic() > until:
            raise SuperLinkError(
                f"SuperLink {calls.address}: gives its server's task to a program of its own; start it with "
                "`flower-superlink --isolation process`"
            )
        calls.stop.wait(0.2)


def _acquire(secret: bytes | None) -> list[SuperExecAuthHttpInterceptor]:
    return [] if secret is None else [SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=[_ACQUIRE])]


def _runtime(
    address: SuperLinkAddress,
    authorities: bytes | None,
    interceptors: Sequence[SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor],
) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        str(address),
        address.insecure,
        authorities,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"), *interceptors],
    )


def _beat(client: RuntimeHttpClient, stop: threading.Event) -> None:
    """Tells the SuperLink that the server's task is being done."""
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(*NO_ANSWER):
            client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
