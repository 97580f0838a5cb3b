"""Opaque bytes in Flower's messages: into one, out of one, and the objects that it consists of."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.constants import DEFAULT_TTL
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from ..gateway_fields import GatewayMessageError

_TYPE = "query"
_RECORD, _KEY = "tinymetafed", "message"


def packed(content: bytes) -> RecordDict:
    """The content of a Flower message that carries some bytes."""
    return RecordDict({_RECORD: ConfigRecord({_KEY: content})})


def order(content: bytes, run_id: int, gateway: int) -> Message:
    """A server's message to a gateway; Flower's own constructor works in a process that Flower started only."""
    created = now().timestamp()
    return make_message(
        Metadata(run_id, "", SUPERLINK_NODE_ID, gateway, "", "", created, DEFAULT_TTL, f"{_TYPE}.default"), packed(content)
    )


def unpacked(message: Message) -> bytes:
    """The bytes that a Flower message carries. Raises GatewayMessageError."""
    record = message.content.get(_RECORD) if message.has_content() else None
    content = record.get(_KEY) if isinstance(record, ConfigRecord) else None
    if not isinstance(content, bytes):
        raise GatewayMessageError("message: it is not one between server and gateways of tinymetafed")
    return content


def taken_apart(message: Message) -> tuple[MessageProto, ObjectTree, dict[str, bytes]]:
    """A message without its content, the tree of its objects, and their contents by id."""
    message.metadata.__dict__["_message_id"] = message.object_id
    objects = {id_: each.deflate() for id_, each in get_all_nested_objects(message).items()}
    return message_to_proto(remove_content_from_message(message)), get_object_tree(message), objects


def put_together(message_id: str, tree: ObjectTree, pull: Callable[[str], bytes]) -> Message:
    """A message from its objects, each of which ``pull`` fetches by its id. Raises GatewayMessageError."""
    contents = {each.object_id: pull(each.object_id) for each in iterate_object_tree(tree)}
    made = inflate_object_from_contents(message_id, contents)
    if not isinstance(made, Message):
        raise GatewayMessageError("message: its objects do not form a message")
    made.metadata.__dict__["_message_id"] = message_id
    return made
