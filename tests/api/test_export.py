"""Section 3, `/telemetry/{device_id}/export`: every sample as a file, in each format as its own library reads it."""

import csv
import io
import json
import subprocess
import sys
from datetime import datetime, timedelta

import pyarrow.parquet
import pytest
from mcap.reader import make_reader

from rosfit.kernel.clock import format_time
from tests.api.problems import assert_problem
from tests.api.test_telemetry import stored

START = datetime.fromisoformat("2026-01-01T00:00:00.000250Z")

# Of every kind: nested, a list, text with what CSV must quote, a number beyond doubles, what JSON has no number for.
PAYLOADS = [
    {"battery": {"percent": 80 - number}, "note": 'a "b", c\r\n', "big": "9007199254740993", "ranges": [number, "NaN"]}
    for number in range(250)
]


def time_of(number):
    return START + timedelta(seconds=number)


@pytest.fixture(scope="module")
def device_id(server, admin):
    """250 samples of one stream and one of another; more than a first page."""
    with server.robot("exporter") as robot:
        for number, payload in enumerate(PAYLOADS):
            robot.sample("power", payload, message_id=f"m-{number}", timestamp=time_of(number).isoformat(), seq=number)
        robot.sample("odom", {"x": 1}, timestamp=time_of(-1).isoformat())
        stored(admin, "exporter", 251)
    return "exporter"


@pytest.fixture
def exported(admin, device_id):
    def export(**params):
        answer = admin.get(f"/telemetry/{device_id}/export", params=params)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == f'attachment; filename="{device_id}.{params["format"]}"'
        return answer

    return export


def test_json_lines_are_the_items_of_the_list(exported, admin, device_id):
    answer = exported(format="jsonl")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(lines, key=lambda line: line["time"]) == lines
    assert lines[::-1] == stored(admin, device_id, 251)


def test_csv_has_the_payload_as_json_or_a_column_for_each_field(exported):
    answer = exported(format="csv", stream="power")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    whole = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [json.loads(row["payload"]) for row in whole] == PAYLOADS
    fields = ["battery.percent", "note", "big", "ranges", "ranges.1", "none.such"]
    rows = list(csv.DictReader(io.StringIO(exported(format="csv", stream="power", field=fields).text, newline="")))
    assert list(rows[0]) == ["time", "stream", "message_id", "seq", "received_at", *fields]
    assert [row["time"] for row in rows] == [format_time(time_of(number)) for number in range(250)]
    assert rows[7] | {"received_at": ""} == {
        "time": format_time(time_of(7)), "stream": "power", "message_id": "m-7", "seq": "7", "received_at": "",
        "battery.percent": "73", "note": 'a "b", c\r\n', "big": "9007199254740993", "ranges": '[7,"NaN"]',
        "ranges.1": "NaN", "none.such": "",
    }  # fmt: skip


def test_parquet_keeps_microseconds_and_has_doubles_for_fields(exported):
    answer = exported(format="parquet", stream=["power", "odom"])
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert table.num_rows == 251
    assert table["time"].to_pylist() == [time_of(number) for number in range(-1, 250)]
    assert [json.loads(payload) for payload in table["payload"].to_pylist()][1:] == PAYLOADS
    assert table["seq"].to_pylist() == [None, *range(250)]
    answer = exported(format="parquet", field=["battery.percent", "ranges.1", "note"])
    row = pyarrow.parquet.read_table(io.BytesIO(answer.content)).slice(1, 1).to_pylist()[0]
    assert (row["battery.percent"], str(row["ranges.1"]), row["note"]) == (80.0, "nan", None)


def test_mcap_has_a_channel_for_each_stream(exported):
    reader = make_reader(io.BytesIO(exported(format="mcap").content))
    messages = [(channel.topic, message) for _, channel, message in reader.iter_messages()]
    assert {topic for topic, _ in messages} == {"/power", "/odom"}
    power = [message for topic, message in messages if topic == "/power"]
    assert [json.loads(message.data) for message in power] == PAYLOADS
    assert [message.sequence for message in power] == list(range(250))
    assert power[0].log_time == int(START.timestamp()) * 10**9 + 250_000
    assert {channel.message_encoding for channel in reader.get_summary().channels.values()} == {"json"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "mcap"])
def test_a_time_without_samples_is_a_file_without_rows(exported, kind):
    content = exported(format=kind, to="2020-01-01T00:00:00Z").content
    match kind:
        case "csv":
            assert content == b"time,stream,message_id,seq,received_at,payload\r\n"
        case "jsonl":
            assert content == b""
        case "parquet":
            assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 0
        case "mcap":
            assert list(make_reader(io.BytesIO(content)).iter_messages()) == []


def test_numbers_that_no_double_holds_are_columns_too(server, admin):
    with server.robot("huge") as robot:
        robot.publish("telemetry", b'{"long": 123456789012345678901234567890, "far": 1e400, "fine": 1}')
        stored(admin, "huge", 1)
    ask = {"field": ["long", "far", "fine"], "stream": "default"}
    (row,) = csv.DictReader(io.StringIO(admin.get("/telemetry/huge/export", params={"format": "csv", **ask}).text))
    assert (row["long"], row["fine"]) == ("123456789012345678901234567890", "1")
    content = admin.get("/telemetry/huge/export", params={"format": "parquet", **ask}).content
    (row,) = pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()
    assert (row["far"], row["fine"]) == (None, 1.0)


def test_from_is_inclusive_and_to_exclusive(exported):
    window = {"from": time_of(10).isoformat(), "to": time_of(12).isoformat()}
    lines = exported(format="jsonl", **window).text.splitlines()
    assert [json.loads(line)["message_id"] for line in lines] == ["m-10", "m-11"]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 422, None),
        ({"format": "xlsx"}, 422, None),
        ({"format": "mcap", "field": "x"}, 422, "INVALID_EXPORT"),
        ({"format": "csv", "field": ["x", "x"]}, 422, "INVALID_EXPORT"),
        ({"format": "csv", "field": [f"f{number}" for number in range(101)]}, 422, "INVALID_EXPORT"),
        ({"format": "csv", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 422, "INVALID_EXPORT"),
        ({"format": "csv", "from": "soon"}, 422, None),
    ],
)
def test_what_cannot_be_exported_is_said(admin, device_id, params, status, code):
    answer = admin.get(f"/telemetry/{device_id}/export", params=params)
    problem = assert_problem(answer, status)
    assert code in {None, problem["code"]}


def test_an_unknown_device_is_404(admin):
    assert_problem(admin.get("/telemetry/nobody-here/export", params={"format": "csv"}), 404)


def test_the_command_line_writes_the_same_file(exported, server, device_id, tmp_path):
    command = [sys.executable, "-m", "rosfit.cli", "telemetry", "export", device_id, "--data-dir", str(server.data_dir)]
    options = ["--format", "csv", "--stream", "power", "--field", "battery.percent"]
    environment = server.environment() | {"ROSFIT_MQTT_PORT": str(server.mqtt_port)}
    told = subprocess.run([*command, *options], env=environment, capture_output=True, check=True)
    assert told.stdout == exported(format="csv", stream="power", field="battery.percent").content
    subprocess.run([*command, "--format", "mcap", "-o", tmp_path / "a.mcap"], env=environment, check=True)
    assert len(list(make_reader((tmp_path / "a.mcap").open("rb")).iter_messages())) == 251
    nobody = [*command[:5], "nobody-here", *command[6:]]
    assert subprocess.run(nobody, env=environment, capture_output=True, check=False).returncode == 3
