"""The boards that an MQTT broker knows below a topic, in place of a device URL that means all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from .device_urls import DeviceSpec
from .link.clock import Clock
from .link.link_errors import PortError
from .link.mqtt_address import LONGEST_TOPIC, MqttAddress, is_mqtt
from .link.transport import MQTT_MISSING

SHOWN = 3  # topics that one event names


def found_boards(specs: Sequence[DeviceSpec], clock: Clock, on_event: Callable[[str], None] | None = None) -> list[DeviceSpec]:
    """Asks brokers for the boards of URLs such as mqtt://HOST/TOPIC/+.

    Args:
        specs: Parsed device URLs.
        clock: Clock to measure time with.
        on_event: Is told of boards that have left their broker, and of topics that no board can be at.

    Returns:
        The specifications, one per board in place of each search; a board that another one names is not there twice.

    Raises:
        PortError: A broker cannot be asked, or no board is there.
    """
    named = {MqttAddress.parse(spec.url).url for spec in specs if is_mqtt(spec.url)}
    found: list[DeviceSpec] = []
    for spec in specs:
        if not spec.is_search:
            found.append(spec)
            continue
        for url in _there(MqttAddress.parse(spec.url), clock, on_event):
            if url not in named:
                named.add(url)
                found.append(replace(spec, url=url, found=True))
    return found


def _there(search: MqttAddress, clock: Clock, on_event: Callable[[str], None] | None) -> Iterator[str]:
    """The URLs of the boards that are connected to the broker."""
    url = search.url.partition("?")[0]
    say = on_event or (lambda text: None)
    try:
        from .link.mqtt_line import boards_below  # here, because the library is an extra
    except ModuleNotFoundError:
        raise PortError(url, MQTT_MISSING) from None
    announced = boards_below(search, clock)
    known = {topic: there for topic, there in announced.items() if search.is_board(topic)}
    if strange := [repr(topic) for topic in announced if topic not in known]:
        more = f" and {len(strange) - SHOWN:,} more" if len(strange) > SHOWN else ""
        say(
            f"{url}: the broker holds announcements under topics that no board can have: {', '.join(strange[:SHOWN])}{more}; "
            f"the run continues without them; a topic has up to {LONGEST_TOPIC} characters of ASCII, without ?"
        )
    if not any(known.values()):
        gone = f"; those that were: {', '.join(known)}" if known else ""
        raise PortError(url, f"no board is connected to the broker below this topic{gone}; switch them on, or check the topic")
    for topic, is_there in known.items():
        if is_there:
            yield search.at(topic).url
        else:
            say(f"{search.at(topic).url.partition('?')[0]}: is not connected to the broker, so the run continues without it")
