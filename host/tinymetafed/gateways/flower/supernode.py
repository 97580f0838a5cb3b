"""A gateway as a node of a SuperLink: takes its messages in this process, in which the boards stay open between rounds.

Flower's own SuperNode starts a program for every message and runs code that the server sends. A gateway does neither: it
answers with its own ClientApp whatever app a run brings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from ...devices.link.clock import SYSTEM_CLOCK, Clock
from ..gateway import Gateway
from ..gateway_fields import GatewayMessageError
from .flower_calls import NO_ANSWER, Calls, Pace, Refused
from .flower_messages import packed, put_together, taken_apart, unpacked
from .flower_objects import Objects
from .superlink_address import SuperLinkAddress, SuperLinkError

HEARTBEAT_SECONDS = 10.0  # the shortest that Flower takes; a node is lost after two of them
AGAIN_SECONDS = 2.0  # before this node joins again
LEASE_SECONDS = 25.0  # after which a node that was killed is lost for certain, and its key can be used again
_MOST_SECONDS = 0.5  # between two looks for a message


def client_app(gateway: Gateway) -> ClientApp:
    """Flower's ClientApp of a gateway: bytes in, bytes out."""
    app = ClientApp()

    @app.query()
    def answer(message: Message, context: Context) -> Message:
        return Message(packed(gateway.answer(unpacked(message))), reply_to=message)

    return app


@dataclass
class SuperNode:
    """This machine as a node of a SuperLink."""

    address: SuperLinkAddress
    app: ClientApp
    on_event: Callable[[str], None]
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Clock = SYSTEM_CLOCK
    _connected_once: bool = False

    def serve(self) -> None:
        """Answers messages until ``stop`` is set; once it was connected, it joins again whatever becomes of the SuperLink.

        Raises:
            SuperLinkError: The SuperLink cannot be trusted, does not know this node's key, or has another version.
        """
        keys, said = _keys(self.address), ""
        while not self.stop.is_set():
            calls = Calls(self.address, self.on_event, patience=None, clock=self.clock, stop=self.stop)
            try:
                with _client(self.address, keys) as client, self._node(calls, client, keys) as node:
                    said = ""
                    self._answer_all(calls, client, node)
            except SuperLinkError as error:
                if self.stop.is_set():
                    return
                if not self._connected_once:
                    raise
                if str(error) != said:
                    said = str(error)
                    self.on_event(f"{said}; joining again")
                self.stop.wait(AGAIN_SECONDS)

    @contextmanager
    def _node(self, calls: Calls, client: FleetHttpClient, keys: _Keys) -> Iterator[Node]:
        """This machine's node, active and with a heartbeat."""
        public = public_key_to_bytes(keys[1])
        known = self.address.node_key is not None
        try:
            if not known:
                calls.call(lambda: client.RegisterNode(RegisterNodeFleetRequest(public_key=public)))
            node = self._activated(calls, client, public)
        except Refused as error:
            if self.address.node_key is None:
                raise SuperLinkError(
                    f"{error}; if it knows its gateways by their keys, give this one's with --node-key"
                ) from None
            raise SuperLinkError(
                f"{error}; register the public key of {self.address.node_key} with `flwr supernode register`, or another "
                "gateway with this key is connected, or this machine's clock is wrong"
            ) from None
        self.on_event(f"connected to SuperLink {self.address}{'' if not self._connected_once else ' again'}")
        self._connected_once = True
        beats = threading.Event()
        beating = threading.Thread(target=_beat, args=(client, node, beats), daemon=True)
        beating.start()
        try:
            yield node
        finally:
            beats.set()
            with suppress(*NO_ANSWER):
                client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
                if not known:
                    client.UnregisterNode(UnregisterNodeFleetRequest(node_id=node.node_id))
            beating.join()

    def _activated(self, calls: Calls, client: FleetHttpClient, public: bytes) -> Node:
        """This machine's node, active. Raises Refused; for a key that may still be in use, once nobody has it for certain."""
        activate = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_SECONDS)
        until, said = self.clock.monotonic() + LEASE_SECONDS, False
        while True:
            try:
                return Node(node_id=calls.call(lambda: client.ActivateNode(activate)).node_id)
            except Refused as error:
                if self.address.node_key is None or self.stop.is_set() or self.clock.monotonic() >= until:
                    raise
                if not said:
                    said = True
                    self.on_event(
                        f"{error}; this gateway may have been connected until just now; trying again for {LEASE_SECONDS:g} s"
                    )
            self.stop.wait(AGAIN_SECONDS)

    def _answer_all(self, calls: Calls, client: FleetHttpClient, node: Node) -> None:
        """Answers every message that comes. Raises Refused when the SuperLink does not know this node any more."""
        pace, idle = Pace(_MOST_SECONDS), 0.0
        while not self.stop.is_set():
            pause = pace.pause(idle)
            self.stop.wait(pause)
            idle += pause
            if self._answer_next(calls, client, node):
                pace.came(idle)
                idle = 0.0

    def _answer_next(self, calls: Calls, client: FleetHttpClient, node: Node) -> bool:
        """Answers a message if there is one."""
        found = calls.call(lambda: client.PullMessages(PullMessagesRequest(node=node)))
        if not found.messages_list:
            return False
        try:
            head = message_from_proto(found.messages_list[0])
            run, id_ = head.metadata.run_id, head.metadata.message_id
            objects = Objects(calls, client, node, run)
            message = put_together(id_, found.message_object_trees[0], objects.pull)
            confirm = ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=id_)
            calls.call(lambda: client.ConfirmMessageReceived(confirm))
            reply = self.app(message, Context(run, node.node_id, {}, RecordDict(), {}))
        except (GatewayMessageError, ValueError) as error:
            self.on_event(f"a message is refused: {error}")
            return True
        except Refused as error:
            if error.status != httpx.codes.FORBIDDEN:
                raise
            return True  # its run is over
        self._send(calls, client, node, reply, objects)
        return True

    def _send(self, calls: Calls, client: FleetHttpClient, node: Node, reply: Message, objects: Objects) -> None:
        proto, tree, contents = taken_apart(reply)
        request = PushMessagesRequest(
            node=node, messages_list=[proto], message_object_trees=[tree], clientapp_runtime_list=[0.0]
        )

        def push() -> None:
            taken = client.PushMessages(request)
            objects.push(taken.objects_to_push, contents, taken.session_id)

        try:
            calls.call(push)
        except Refused as error:
            if error.status != httpx.codes.FORBIDDEN:
                raise
            self.on_event("the run has ended before this gateway's answer")


_Keys = tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]


def _client(address: SuperLinkAddress, keys: _Keys) -> Any:
    authorities = None if address.root_certificates is None else str(address.root_certificates)
    return FleetHttpClient.from_server_address(
        str(address),
        address.insecure,
        authorities,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(*keys)],
    )


def _keys(address: SuperLinkAddress) -> _Keys:
    """The key pair of this node: that of its file, or a new one. Raises SuperLinkError."""
    if address.node_key is None:
        new = ec.generate_private_key(ec.SECP256R1())  # every request is signed: with less work than by Flower's own curve
        return new, new.public_key()
    what = "an elliptic-curve private key without a password, for instance of `ssh-keygen -t ecdsa`"
    content = address.read(address.node_key, what)
    for load in (load_ssh_private_key, load_pem_private_key):
        with suppress(ValueError, TypeError):
            key = load(content, None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                return key, key.public_key()
    raise SuperLinkError(f"{address.node_key}: expected {what}")


def _beat(client: FleetHttpClient, node: Node, stop: threading.Event) -> None:
    """Tells the SuperLink that this node lives, also while it trains; the other thread finds out when the SuperLink is away."""
    request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_SECONDS)
    while not stop.wait(HEARTBEAT_SECONDS / 2):
        with suppress(*NO_ANSWER):
            client.SendNodeHeartbeat(request)
