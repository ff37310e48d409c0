"""Bad messages by the thousand, the same for the same seed, with what must become of those that are certain."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rosfit.protocol.envelope import MSGPACK
from rosfit.protocol.errors import Reason
from rosfit.protocol.topics import device_topic

PAYLOAD_LIMIT = 256 * 1024
STREAM = "telemetry/mutant"


@dataclass(frozen=True)
class Mutant:
    """A message for `rosfit/{device_id}/{topic_suffix}`.

    `reasons` are the dead letters it may become; None says that it is strange but must be taken. Where both
    could be argued, `certain` is false, and it only must not do harm.
    """

    kind: str
    topic_suffix: str
    payload: bytes
    reasons: frozenset[Reason] | None = None
    certain: bool = True
    properties: dict[str, str] = field(default_factory=dict)

    def topic(self, device_id: str) -> str:
        return device_topic(device_id, self.topic_suffix)

    def wire_properties(self) -> bytes:
        """The PUBLISH properties as bytes, for `tests.load.wire.publish`."""
        content_type = self.properties.get("content_type", "").encode()
        return b"\x03" + len(content_type).to_bytes(2, "big") + content_type if content_type else b""


Maker = Callable[[random.Random], Mutant]


def _bad(kind: str, payload: bytes, *reasons: Reason, suffix: str = STREAM, **properties: str) -> Mutant:
    return Mutant(kind, suffix, payload, frozenset(reasons), properties=properties)


def _good(kind: str, payload: bytes, suffix: str = STREAM, **properties: str) -> Mutant:
    return Mutant(kind, suffix, payload, properties=properties)


def _open(kind: str, payload: bytes, suffix: str = STREAM, **properties: str) -> Mutant:
    return Mutant(kind, suffix, payload, certain=False, properties=properties)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 12)))


def envelope(rng: random.Random, **changes: Any) -> dict[str, Any]:
    """A good envelope with some fields replaced."""
    good = {
        "message_id": f"mutant-{rng.getrandbits(64):016x}",
        "timestamp": "2026-03-30T10:05:32.123Z",
        "type": "telemetry",
        "seq": rng.randrange(2**31),
        "payload": {"value": rng.random(), _word(rng): _word(rng)},
    }
    return good | changes


# Not JSON, or not the shape of a message.


def _not_json(rng: random.Random) -> Mutant:
    text = rng.choice(
        [b"", b" ", b"{", b"}", b'{"a":}', b"{'a':1}", b'{"a":1,}', b"NaN", b"{a:1}", b'{"a":01}', b"\x00" * 9,
         b'{"a":NaN}', b'{"a":Infinity}', b"plain text", b"<xml/>", b'{"a":1}{"b":2}', b'"\\ud800', b"\xef\xbb\xbf{"]
    )  # fmt: skip
    return _bad("not_json", text, "not_json")


def _truncated(rng: random.Random) -> Mutant:
    whole = _text(envelope(rng))
    return _bad("truncated", whole[: rng.randrange(1, len(whole))], "not_json")


def _invalid_utf8(rng: random.Random) -> Mutant:
    broken = rng.choice([b"\xff", b"\xc3\x28", b"\xe2\x82", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\xaf"])
    whole = _text(envelope(rng, payload={"text": "MARK"}))
    return _bad("invalid_utf8", whole.replace(b"MARK", b"a" + broken + b"b"), "not_json")


def _other_encoding(rng: random.Random) -> Mutant:
    encoding = rng.choice(["utf-16", "utf-16-le", "utf-32"])
    return _bad("other_encoding", json.dumps(envelope(rng)).encode(encoding), "not_json")


def _noise(rng: random.Random) -> Mutant:
    return _bad("noise", b"\xfe" + rng.randbytes(rng.randint(1, 600)), "not_json")


def _wrong_shape(rng: random.Random) -> Mutant:
    value = rng.choice([[], [1, 2], 5, "text", None, True, 1.5, [{"payload": {}}]])
    return _bad("wrong_shape", _text(value), "wrong_shape")


def _payload_no_object(rng: random.Random) -> Mutant:
    value = rng.choice([[], [1], 5, "text", None, True, 1.5])
    return _bad("payload_no_object", _text(envelope(rng, payload=value)), "wrong_shape")


# Envelopes with fields of the wrong kind.


def _wrong_field(rng: random.Random) -> Mutant:
    name, values = rng.choice(
        [
            ("message_id", [5, "", "x" * 65, [], {}, True, "a\x00b", "line\nbreak"]),
            ("seq", [-1, "7", 1.5, [], 2**63, 2**200, True]),
            ("device_id", [5, [], {}]),
            ("type", [5, [], {}]),
            ("correlation_id", [5, [], {}]),
        ]
    )
    return _bad(f"wrong_{name}", _text(envelope(rng, **{name: rng.choice(values)})), "bad_envelope")


def _wrong_timestamp(rng: random.Random) -> Mutant:
    value = rng.choice(
        ["yesterday", "", "2026-13-01T00:00:00Z", "2026-03-30", "10:05:32", [], {}, True, 1e300, -1e300,
         "2026-03-30T10:05:32", "2026-03-30T25:00:00Z", "0000-01-01T00:00:00Z", 10**40]
    )  # fmt: skip
    payload = envelope(rng, timestamp=value)
    return _bad("wrong_timestamp", _text(payload), "bad_timestamp", "bad_envelope", "not_storable")


def _somebody_else(rng: random.Random) -> Mutant:
    name = rng.choice(["somebody-else", "", "../admin", "x" * 300])
    return _bad("device_mismatch", _text(envelope(rng, device_id=name)), "device_mismatch", "bad_envelope")


def _duplicate_keys(rng: random.Random) -> Mutant:
    return _open("duplicate_keys", b'{"payload":{"a":1},"payload":{"a":2},"payload":{"b":[]}}')


# Sizes and depths.


def _too_large(rng: random.Random) -> Mutant:
    filling = "x" * (PAYLOAD_LIMIT + rng.randint(1, 2000))
    return _bad("too_large", _text(envelope(rng, payload={"text": filling})), "too_large")


def _too_deep(rng: random.Random) -> Mutant:
    levels = rng.choice([40, 100, 1000, 20_000])
    opening, closing = rng.choice([(b'{"a":', b"}"), (b"[", b"]")])
    inner = opening * levels + b"1" + closing * levels
    return _bad("too_deep", b'{"payload":{"deep":' + inner + b"}}", "too_deep", "not_json", "bad_envelope")


def _unclosed(rng: random.Random) -> Mutant:
    return _bad("unclosed", b'{"payload":' + b'{"a":[' * rng.choice([20, 5000, 40_000]), "not_json", "too_deep")


def _many_keys(rng: random.Random) -> Mutant:
    return _good("many_keys", _text({f"{_word(rng)}{number}": number for number in range(3000)}))


def _many_brackets_in_text(rng: random.Random) -> Mutant:
    return _good("brackets_in_text", _text(envelope(rng, payload={"text": '[{"\\' * 200})))


# Strange, and to be taken all the same.


def _huge_number(rng: random.Random) -> Mutant:
    number = rng.choice(["1e400", "-1e400", "9" * 400, "1" + "0" * 4000, "0." + "0" * 400 + "1", "1e-400"])
    return _open("huge_number", b'{"payload":{"value":' + number.encode() + b"}}")


def _large_integer(rng: random.Random) -> Mutant:
    number = rng.choice([2**53 + 1, 2**63, 2**64 - 1, -(2**63)])
    return _good("large_integer", _text(envelope(rng, payload={"value": number})))


def _text_numbers(rng: random.Random) -> Mutant:
    payload = {"a": "NaN", "b": ["Infinity", "-Infinity", 1.0], "c": str(2**63)}
    return _good("text_numbers", _text(envelope(rng, payload=payload)))


def _nul(rng: random.Random) -> Mutant:
    where = rng.choice([{"text": "a\x00b"}, {"a\x00b": 1}, {"list": ["\x00"]}])
    return _open("nul", _text(envelope(rng, payload=where)))


def _lone_surrogate(rng: random.Random) -> Mutant:
    return _open("lone_surrogate", b'{"payload":{"text":"\\ud83d' + _word(rng).encode() + b'"}}')


def _strange_text(rng: random.Random) -> Mutant:
    text = rng.choice(["𝒳" * 50, "\u202e\u200b", "\ufeff", "é" * 3000, "'; DROP TABLE telemetry; --", "%s%n{}", "\\"])
    return _good("strange_text", _text(envelope(rng, payload={text[:100]: text})))


def _empty(rng: random.Random) -> Mutant:
    return _good("empty", rng.choice([b"{}", b'{"payload":{}}', b' {"payload" : { } } ']))


def _timestamps(rng: random.Random) -> Mutant:
    value = rng.choice([1_774_865_132, 1_774_865_132.5, 1_774_865_132_123, "2026-03-30T12:05:32.123456+02:00"])
    return _good("timestamp_form", _text(envelope(rng, timestamp=value)))


def _extreme_times(rng: random.Random) -> Mutant:
    value = rng.choice([0, -1, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 4e9, "1969-12-31T23:59:59Z"])
    return _open("extreme_time", _text(envelope(rng, timestamp=value)))


# MessagePack.


def _msgpack_good(rng: random.Random) -> Mutant:
    payload = {"raw": rng.randbytes(20), "nan": float("nan"), "big": 2**63, "list": [1, float("inf")]}
    return _good("msgpack", msgspec.msgpack.encode(envelope(rng, payload=payload)), content_type=MSGPACK)


def _msgpack_truncated(rng: random.Random) -> Mutant:
    whole = msgspec.msgpack.encode(envelope(rng))
    return _bad("msgpack_truncated", whole[: rng.randrange(1, len(whole))], "not_msgpack", content_type=MSGPACK)


def _msgpack_garbage(rng: random.Random) -> Mutant:
    # 0xc1 is never used; the others announce more than there is.
    start = rng.choice([b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\x7f\xff\xff\xff"])
    return _bad("msgpack_garbage", start + rng.randbytes(3), "not_msgpack", "wrong_shape", content_type=MSGPACK)


def _msgpack_deep(rng: random.Random) -> Mutant:
    return _bad(
        "msgpack_deep", b"\x81\xa1a" * rng.choice([50, 5000, 50_000]) + b"\x01", "too_deep", "not_msgpack",
        content_type=MSGPACK,
    )  # fmt: skip


def _msgpack_keys(rng: random.Random) -> Mutant:
    keys = msgspec.msgpack.encode({"payload": {rng.randrange(100): 1}})
    return _bad("msgpack_keys", keys, "wrong_shape", "not_msgpack", content_type=MSGPACK)


def _json_called_msgpack(rng: random.Random) -> Mutant:
    # The byte of "{" is the number 123 in MessagePack, with bytes left over.
    return _bad("json_called_msgpack", _text(envelope(rng)), "not_msgpack", content_type=MSGPACK)


# Topics.


def _topic_without_row(rng: random.Random) -> Mutant:
    suffix = rng.choice(
        ["nonsense", "telemetry/", "telemetry//odom", "blob", "blob/", "blob/a/b", "alert", "alert/a/b", "ros",
         "telemetry/" + "/".join("abcdefghi"), "status/extra", "log/extra", "shadow", "shadow/name/x", "TELEMETRY/odom",
         "telemetry/" + "x" * 600, "cmd", "ota/other", "/", "telemetry/tab\there"]
    )  # fmt: skip
    return _bad("bad_topic", _text(envelope(rng)), "bad_topic", suffix=suffix)


def _strange_stream(rng: random.Random) -> Mutant:
    suffix = rng.choice(["telemetry/a b", "telemetry/ünï", "telemetry/$sys", "ros/x", "telemetry/a.b", "telemetry/%2e"])
    return _good("strange_stream", _text(envelope(rng)), suffix=suffix)


def _wrong_row_payload(rng: random.Random) -> Mutant:
    suffix, payload = rng.choice(
        [
            ("status", {"status": "flying"}),
            ("status", {"status": 5}),
            ("status", {}),
            ("log", {"level": "info"}),
            ("log", {"message": 5}),
            ("log", {"message": "x", "fields": []}),
            ("alert/collision", {"severity": 5}),
        ]
    )
    return _bad("wrong_row_payload", _text(envelope(rng, payload=payload)), "wrong_shape", suffix=suffix)


def _blob(rng: random.Random) -> Mutant:
    return _good("blob", rng.randbytes(rng.choice([0, 1, 5000])), suffix="blob/mutant")


def _flipped(rng: random.Random) -> Mutant:
    """A good message with a few bytes changed: nobody can say what it is now."""
    data = bytearray(_text(envelope(rng, payload={"text": base64.b64encode(rng.randbytes(30)).decode()})))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return _open("flipped", bytes(data))


MAKERS: tuple[Maker, ...] = (
    _not_json, _truncated, _invalid_utf8, _other_encoding, _noise, _wrong_shape, _payload_no_object, _wrong_field,
    _wrong_timestamp, _somebody_else, _duplicate_keys, _too_deep, _unclosed, _many_brackets_in_text, _huge_number,
    _large_integer, _text_numbers, _nul, _lone_surrogate, _strange_text, _empty, _timestamps, _extreme_times,
    _msgpack_good, _msgpack_truncated, _msgpack_garbage, _msgpack_deep, _msgpack_keys, _json_called_msgpack,
    _topic_without_row, _strange_stream, _wrong_row_payload, _blob, _flipped,
)  # fmt: skip
# Quarter of a megabyte each: one in two hundred is enough.
LARGE_MAKERS: tuple[Maker, ...] = (_too_large, _many_keys)


def mutants(seed: int, count: int) -> Iterator[Mutant]:
    """`count` messages; every kind appears early and the same seed gives the same ones."""
    rng = random.Random(seed)
    for number in range(count):
        if number < len(MAKERS):
            yield MAKERS[number](rng)
        elif number % 200 == 199:
            yield rng.choice(LARGE_MAKERS)(rng)
        else:
            yield rng.choice(MAKERS)(rng)
