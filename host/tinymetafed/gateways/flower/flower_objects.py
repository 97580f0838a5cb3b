"""The objects that a message of Flower consists of: sent to a SuperLink one by one, and fetched from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from flwr.proto.message_pb2 import PullObjectRequest, PullObjectResponse, PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node

from ..gateway_fields import GatewayMessageError
from .flower_calls import Calls

PART_SECONDS = 60.0  # for a part of a message to follow its head
_PAUSE_SECONDS = 0.01  # between two looks for a part


class ObjectClient(Protocol):
    """What both sides' clients of a SuperLink have."""

    def PullObject(self, request: PullObjectRequest) -> PullObjectResponse: ...  # noqa: D102  # Flower's name

    def PushObject(self, request: PushObjectRequest) -> PushObjectResponse: ...  # noqa: D102


class Objects:
    """The objects of one run's messages; ``node`` is this side."""

    def __init__(self, calls: Calls, client: ObjectClient, node: Node, run_id: int) -> None:
        self._calls, self._client, self._node, self._run_id = calls, client, node, run_id

    def push(self, wanted: Iterable[str], objects: Mapping[str, bytes], session_id: str) -> None:
        """Sends the objects that the SuperLink lacks, by their ids; raises as the client does."""
        for object_id in wanted:
            self._client.PushObject(
                PushObjectRequest(
                    node=self._node,
                    run_id=self._run_id,
                    object_id=object_id,
                    object_content=objects[object_id],
                    session_id=session_id,
                )
            )

    def pull(self, object_id: str) -> bytes:
        """Fetches an object, once its sender has sent it. Raises SuperLinkError, and GatewayMessageError if it is missing."""
        request = PullObjectRequest(node=self._node, run_id=self._run_id, object_id=object_id)
        until = self._calls.clock.monotonic() + PART_SECONDS
        while True:
            got = self._calls.call(lambda: self._client.PullObject(request))
            if got.object_found and got.object_available:
                return bytes(got.object_content)
            if not got.object_found or self._calls.clock.monotonic() > until or self._calls.stop.is_set():
                raise GatewayMessageError("message: a part of it is missing")
            self._calls.stop.wait(_PAUSE_SECONDS)
