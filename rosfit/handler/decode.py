"""One MQTT message to what it means, or to the reason why it means nothing."""

from __future__ import annotations

import msgspec
import structlog

from rosfit.kernel.ports import Incoming
from rosfit.protocol import envelope
from rosfit.protocol.envelope import Limits, Message
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.layouts import Layouts, Mapped
from rosfit.protocol.topics import Kind, Route, parse_topic

log = structlog.get_logger(__name__)


class Parsed(msgspec.Struct, gc=False):
    """A message on its way to the database.

    `message` is None for blobs, whose bytes stay in `incoming`, and for bad messages, which `bad` explains.
    `announced` is set once the live feed has it. `made_up_id` is the id of a message that has none: made once, so
    that a batch whose commit was not answered can be written again.
    """

    incoming: Incoming
    route: Route | None
    message: Message | None = None
    mapped: Mapped | None = None
    bad: BadMessageError | None = None
    announced: bool = False
    made_up_id: str | None = None
    # An operator has it taken again: what it says counts, but it is no sign of life.
    replayed: bool = False

    @property
    def is_anonymous(self) -> bool:
        """Whether nothing in the message itself tells its redelivery from a new one."""
        if self.incoming.qos == 0 or (self.route is not None and self.route.kind is Kind.BLOB):
            return False
        # An id alone is not enough: without a time the row lies at the time of arrival, another one each time.
        return self.message is None or self.message.sampled_at is None

    def replaces(self, earlier: Parsed) -> bool:
        """Whether this is the broker's second delivery of `earlier`, which it must hear the acknowledgement of."""
        new, old = self.incoming, earlier.incoming
        return new.dup and new.topic == old.topic and new.payload == old.payload


class Decoder:
    """Knows this server's limits and layouts."""

    def __init__(self, limits: Limits, layouts: Layouts) -> None:
        self._limits = limits
        self._layouts = layouts

    def decode(self, incoming: Incoming) -> Parsed | None:
        """None for our own cloud to device messages, which a shared subscription hands back."""
        route: Route | None = None
        mapped = None
        try:
            mapped = self._layouts.inbound(incoming.topic)
            route = parse_topic(mapped.topic if mapped else incoming.topic, self._limits.stream_segments)
            if route.kind is Kind.OUTBOUND:
                return None
            return Parsed(incoming, route, self._message(incoming, route), mapped)
        except BadMessageError as bad:
            return Parsed(incoming, route, None, mapped, bad.with_traceback(None))
        except Exception as error:
            # A fault of ours: the stream goes on, and the message can be replayed once it is mended.
            log.exception("decode_failed", topic=incoming.topic[:200])
            return Parsed(incoming, route, None, mapped, BadMessageError("wrong_shape", f"not understood: {error!r}"))

    def _message(self, incoming: Incoming, route: Route) -> Message | None:
        if route.kind is Kind.BLOB:
            size = len(incoming.payload)
            if size > self._limits.blob_bytes:
                raise BadMessageError("too_large", f"{size} bytes; at most {self._limits.blob_bytes}")
            return None
        if route.kind is Kind.SHADOW_GET and not incoming.payload:
            return Message(b"{}")
        message = envelope.decode(incoming.payload, incoming.content_type, self._limits)
        if message.device_id is not None and message.device_id != route.device_id:
            raise BadMessageError(
                "device_mismatch", f"the envelope says {message.device_id[:64]!r}, the topic {route.device_id!r}"
            )
        return message
