"""The tap reads what paho writes, in whatever pieces it arrives, and lets everything else through untouched."""

from contextlib import suppress

import paho.mqtt.client as paho
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rosfit.infra.publish_tap import MalformedPublishError, PublishTap, decode_publish

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
messages = st.tuples(
    text.map(lambda topic: f"rosfit/{topic}"), st.binary(max_size=400), st.integers(0, 2), st.booleans(),
    st.integers(1, 65_535), st.none() | text, st.none() | st.integers(0, 2**32 - 1), st.lists(st.tuples(text, text)),
)  # fmt: skip
PINGRESP = b"\xd0\x00"


def written_by_paho(topic, payload, qos, retain, packet_id, content_type, expiry, user):
    """The packet that paho would send."""
    properties = Properties(PacketTypes.PUBLISH)
    if content_type is not None:
        properties.ContentType = content_type
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    for pair in user:
        properties.UserProperty = pair
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    packets = []
    client._packet_queue = lambda _command, packet, *_rest, **_more: packets.append(bytes(packet)) or 0
    client._sock = object()
    client._send_publish(packet_id, topic.encode(), payload, qos, retain, properties=properties)
    client._sock = None
    return packets[0]


class Pieces:
    """A socket that gives its bytes piece by piece."""

    def __init__(self, pieces):
        self._pieces = list(pieces)

    def recv(self, _size):
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_what_paho_writes_is_read_in_any_pieces(sent, data):
    stream = b"".join(written_by_paho(*message) + PINGRESP for message in sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=12)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    taken, through = [], b""
    tap = PublishTap(Pieces(pieces), taken.append)
    for _ in range(len(pieces) + 4 * len(sent)):
        with suppress(BlockingIOError):
            through += tap.recv(1)
    assert through == PINGRESP * len(sent)
    for publish, (topic, payload, qos, retain, packet_id, content_type, _, _) in zip(taken, sent, strict=True):
        assert (publish.topic, publish.payload, publish.qos, publish.retain) == (topic, payload, qos, retain)
        assert publish.packet_id == (packet_id if qos else 0)
        assert publish.content_type == content_type


@given(st.integers(0x30, 0x3F), st.binary(max_size=60))
def test_garbage_is_malformed_and_nothing_else(first, body):
    with suppress(MalformedPublishError):
        assert decode_publish(first, body).payload in body
