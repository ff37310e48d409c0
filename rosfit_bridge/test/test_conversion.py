import json
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from ros_messages import expected, installed_types, random_message

from rosfit_bridge.convert import cdr_read, cdr_write, objects, values
from rosfit_bridge.convert.describe import describe
from rosfit_bridge.convert.shape import has_wide_text, shape_of

TYPES = installed_types()
IDS = [name for name, _ in TYPES]


def test_the_installed_types_are_found():
    """Guards the property below against running over nothing."""
    assert len(TYPES) > 150
    assert {"nav_msgs/msg/Odometry", "std_msgs/msg/ByteMultiArray", "std_srvs/srv/SetBool_Request"} <= set(IDS)


@pytest.mark.parametrize(("name", "cls"), TYPES, ids=IDS)
def test_every_type_survives_both_ways(name, cls):
    """rclpy's bytes read as JSON say what the message said; written again, rclpy reads the same message."""
    shape = shape_of(cls)
    decode, encode, plain = cdr_read.decoder(shape), cdr_write.encoder(shape), objects.to_plain(shape)
    for seed in range(12):
        message = random_message(cls, random.Random(f"{name}{seed}"))
        want = expected(message)
        decoded = decode(serialize_message(message))
        assert want == decoded
        assert want == plain(message)
        through_json = json.loads(json.dumps(decoded, allow_nan=False))
        assert want == expected(deserialize_message(encode(through_json), cls))


def test_big_endian_is_read_too():
    """Written by hand: a label, its padding, and doubles that start on the next multiple of eight."""
    raw = b"\x00\x00\x00\x00" + struct.pack(">I", 1)  # one dimension
    raw += struct.pack(">I2s2xII", 2, b"x\0", 3, 9)  # label, size, stride
    raw += struct.pack(">II4x2d", 7, 2, 0.5, float("nan"))  # data_offset, count, padding to 32
    decode = cdr_read.decoder(shape_of(dict(TYPES)["std_msgs/msg/Float64MultiArray"]))
    layout = {"dim": [{"label": "x", "size": 3, "stride": 9}], "data_offset": 7}
    assert decode(raw) == {"layout": layout, "data": [0.5, "NaN"]}


@given(st.lists(st.floats(width=32), max_size=80))
@settings(max_examples=300, deadline=None)
def test_float32_arrays_read_back_and_print_short(numbers):
    array = np.array(numbers, np.float32)
    for value, out in zip(array.tolist(), values.shorts(array), strict=True):
        if isinstance(out, str):
            assert values.to_float(out) == value or value != value
        else:
            assert struct.pack("f", out) == struct.pack("f", value)


def test_a_float32_is_written_with_its_own_digits():
    array = np.array([0.1, 1.1, 2.5, 12.345, 1e-3] * 5, np.float32)
    assert values.shorts(array) == [0.1, 1.1, 2.5, 12.345, 0.001] * 5
    assert [values.short(float(v)) for v in array[:5]] == [0.1, 1.1, 2.5, 12.345, 0.001]


def test_integers_are_never_rounded():
    assert values.big(2**53) == 2**53
    assert values.big(2**53 + 1) == "9007199254740993"
    assert values.big(-(2**63)) == "-9223372036854775808"


def test_truncated_and_foreign_bytes_raise():
    shape = shape_of(dict(TYPES)["nav_msgs/msg/Odometry"])
    raw = serialize_message(random_message(shape.cls, random.Random(3)))
    decode = cdr_read.decoder(shape)
    with pytest.raises((struct.error, ValueError, IndexError)):
        decode(raw[:100])
    with pytest.raises(cdr_read.NotCdrError):
        decode(b"\x00\x03" + raw[2:])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"linear": {"x": "fast"}}, "linear: x: expected a number, got 'fast'"),
        ({"linear": 1}, "linear: expected an object with x, y, z, got 1"),
        ({"lin": {}}, "unknown field lin; known here: angular, linear"),
        ([], "expected an object with angular, linear, got []"),
    ],
)
def test_a_value_that_does_not_fit_names_its_field(value, message):
    encode = cdr_write.encoder(shape_of(dict(TYPES)["geometry_msgs/msg/Twist"]))
    with pytest.raises(cdr_write.BadValueError) as error:
        encode(value)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stop\0 now", "data: a NUL at 4, where ROS would end the text"),
        ("a\ud83d", "data: half a surrogate pair at 1, which is no text"),
    ],
)
def test_text_that_ros_would_change_is_refused(text, message):
    encode = cdr_write.encoder(shape_of(dict(TYPES)["std_msgs/msg/String"]))
    with pytest.raises(cdr_write.BadValueError) as error:
        encode({"data": text})
    assert str(error.value) == message


def test_left_out_fields_take_the_messages_defaults():
    cls = dict(TYPES)["geometry_msgs/msg/PoseStamped"]
    message = deserialize_message(cdr_write.encoder(shape_of(cls))({"pose": {"position": {"x": 2}}}), cls)
    assert (message.pose.position.x, message.pose.orientation.w) == (2.0, 1.0)


def test_a_wstring_type_is_recognised_and_read_from_the_object():
    """No installed type has one, so this one is made by hand the way rosidl makes them."""
    from rosidl_parser import definition as idl

    class Sign:
        SLOT_TYPES = (idl.UnboundedWString(), idl.UnboundedSequence(idl.BoundedWString(4)), idl.BasicType("octet"))

        def __init__(self):
            self.text, self.lines, self.mark = "漢字", ["ä", "b"], b"\xfe"

        @staticmethod
        def get_fields_and_field_types():
            return {"text": "wstring", "lines": "sequence<wstring<4>>", "mark": "octet"}

    shape = shape_of(Sign)
    assert has_wide_text(shape)
    assert not has_wide_text(shape_of(dict(TYPES)["std_msgs/msg/String"]))
    assert objects.to_plain(shape)(Sign()) == {"text": "漢字", "lines": ["ä", "b"], "mark": 254}


def test_a_description_tells_how_long_an_array_is():
    described = describe(shape_of(dict(TYPES)["sensor_msgs/msg/CameraInfo"]))
    assert list(described)[:3] == ["header", "height", "width"]
    assert (described["d"], described["k"]) == (["float64"], ["float64", 9])
