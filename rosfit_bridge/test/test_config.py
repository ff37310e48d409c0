"""A mistake in the file is an error that names the key and the line."""

import re
from pathlib import Path

import pytest
import yaml

from rosfit_bridge import config
from rosfit_bridge.config_down import Subscribe
from rosfit_bridge.convert.installed import check_types
from rosfit_bridge.schema import Section

EXAMPLE = Path(__file__).resolve().parents[1] / "config" / "rosfit-bridge.yaml"

GOOD = """\
rosfit: {device_id: bot-01}
connection:
  host: broker.example
bridge:
  publish:
    - ros_topic: /odom
      mqtt_suffix: telemetry/odom
      msg_type: nav_msgs/Odometry
"""


def parse(text, tmp_path, env=None):
    return config.parse(text, file="bridge.yaml", folder=tmp_path, env=env or {})


def problems(text, tmp_path, env=None):
    with pytest.raises(config.ConfigError) as error:
        parse(text, tmp_path, env)
    return str(error.value).splitlines()


def test_the_contracts_own_example(tmp_path):
    parsed = parse(
        """
rosfit: {device_id: bot-01}
connection: {host: localhost}
bridge:
  publish:
    - {ros_topic: /odom, mqtt_suffix: telemetry/odom, msg_type: nav_msgs/Odometry, qos: 1, throttle_hz: 10}
    - {ros_topic: /camera/image_raw/compressed, mqtt_suffix: blob/image, msg_type: sensor_msgs/CompressedImage,
       qos: 0, throttle_hz: 5}
  subscribe:
    - {mqtt_suffix: cmd/cmd_vel, ros_topic: /cmd_vel, msg_type: geometry_msgs/Twist, qos: 0,
       watchdog_ms: 500, limits: {linear_x: 1.0, angular_z: 2.0}}
  services:
    - {command: emergency_stop, ros_service: /emergency_stop, srv_type: std_srvs/Trigger}
""",
        tmp_path,
    )
    assert [p.mqtt_suffix for p in parsed.bridge.publish] == ["telemetry/odom", "blob/image"]
    assert parsed.bridge.publish[0].msg_type == "nav_msgs/msg/Odometry"
    limits = {"linear_x": 1.0, "angular_z": 2.0}
    assert parsed.bridge.subscribe == (
        Subscribe("cmd/cmd_vel", "/cmd_vel", "geometry_msgs/msg/Twist", 0, 500, limits, {}, "", 10),
    )
    assert parsed.bridge.services[0].srv_type == "std_srvs/srv/Trigger"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "host: broker.example",
            "host: b\n  keepalive: 3",
            "bridge.yaml:4: connection.keepalive: unknown key; did you mean keepalive_s?",
        ),
        ("  host: broker.example", "  port: 1", "bridge.yaml:3: connection.host: missing; it has no default"),
        (
            "host: broker.example",
            "host: b\n  port: ninety",
            "bridge.yaml:4: connection.port: expected a whole number from 1 to 65535, got 'ninety'",
        ),
        (
            "host: broker.example",
            "host: b\n  transport: udp",
            "bridge.yaml:4: connection.transport: expected one of tcp, websocket; got 'udp'",
        ),
        (
            "host: broker.example",
            "host: b\n  host: c",
            "bridge.yaml:4: connection.host: duplicate key, already given on line 3",
        ),
        (
            "device_id: bot-01",
            "device_id: -bot",
            "bridge.yaml:1: rosfit.device_id: expected letters, digits, - and _ (1 to 64, no - or _ first), got '-bot'",
        ),
        (
            "nav_msgs/Odometry",
            "nav_msgs/srv/Odometry",
            "bridge.yaml:8: bridge.publish[0].msg_type: expected a type such as nav_msgs/Odometry, "
            "got 'nav_msgs/srv/Odometry'",
        ),
        (
            "nav_msgs/Odometry",
            "nav_msgs/Odometry\n      qos: 2",
            "bridge.yaml:9: bridge.publish[0].qos: expected one of 0, 1; got 2",
        ),
        (
            "nav_msgs/Odometry",
            "nav_msgs/Odometry\n      qos: true",
            "bridge.yaml:9: bridge.publish[0].qos: expected one of 0, 1; got True",
        ),
        (
            "nav_msgs/Odometry",
            "nav_msgs/Odometry\n      throttle_hz: fast",
            "bridge.yaml:9: bridge.publish[0].throttle_hz: expected a number from 0.001 to 10000, got 'fast'",
        ),
        (
            "telemetry/odom",
            "telemetry/status",
            "bridge.yaml:7: bridge.publish[0].mqtt_suffix: telemetry/status is the bridge's own heartbeat; "
            "choose another stream",
        ),
        (
            "telemetry/odom",
            "telemetry/+",
            "bridge.yaml:7: bridge.publish[0].mqtt_suffix: expected telemetry/…, ros/…, blob/{name} or alert/{name}, "
            "without +, #, $ and empty parts; got 'telemetry/+'",
        ),
        (
            "telemetry/odom",
            "telemetry/1/2/3/4/5/6/7/8/9",
            "bridge.yaml:7: bridge.publish[0].mqtt_suffix: a stream has at most 8 parts; "
            "'telemetry/1/2/3/4/5/6/7/8/9' has 9",
        ),
        (
            "/odom\n",
            "odom!\n",
            "bridge.yaml:6: bridge.publish[0].ros_topic: expected a ROS topic such as /odom, got 'odom!'",
        ),
        ("bridge:\n", "brige: {}\nbridge:\n", "bridge.yaml:4: brige: unknown key; did you mean bridge?"),
        ("rosfit: {device_id: bot-01}\n", "", "bridge.yaml:1: rosfit: missing; it has no default"),
        (
            "rosfit: {device_id: bot-01}",
            "rosfit: bot-01",
            "bridge.yaml:1: rosfit: expected a mapping with device_id, url; got 'bot-01'",
        ),
        ("bot-01}", "bot-01", "bridge.yaml:2: not valid YAML: expected ',' or '}', but got ':'"),
        (
            "broker.example",
            "${BROKER}",
            "bridge.yaml:3: connection.host: environment variable BROKER is not set "
            "(set it, or write ${BROKER:-default})",
        ),
        (
            "host: broker.example",
            "host: b\n  tls: {enabled: true, ca_cert: none.pem}",
            "bridge.yaml:4: connection.tls.ca_cert: there is no file {folder}/none.pem",
        ),
        (
            "host: broker.example",
            "host: b\n  tls: {enabled: true, ca_cert: ca.pem}",
            "bridge.yaml:4: connection.tls.ca_cert: no certificate in PEM form can be read from {folder}/ca.pem (…)",
        ),
        (
            "host: broker.example",
            f"host: b\n  tls: {{pin_sha256: {'a' * 64}}}",
            "bridge.yaml:4: connection.tls.enabled: missing; with true the connection is encrypted, "
            "with false the rest of this section is not used",
        ),
        (
            "host: broker.example",
            "host: mqtt://b:1883",
            "bridge.yaml:3: connection.host: expected a name or an address, without mqtt:// before it, "
            "got 'mqtt://b:1883'",
        ),
        (
            "host: broker.example",
            "host: b\n  auth: {method: token, token_file: empty}",
            "bridge.yaml:4: connection.auth.token_file: there is nothing in {folder}/empty",
        ),
        (
            "host: broker.example",
            "host: b\n  auth: {method: token, token: ${TOKEN}}",
            "bridge.yaml:4: not valid YAML: expected ',' or '}', but got '{'; within { } a variable needs quotes: "
            '"${NAME}"',
        ),
        (
            "bot-01",
            '"bot-01\\n"',
            "bridge.yaml:1: rosfit.device_id: expected letters, digits, - and _ (1 to 64, no - or _ first), "
            "got 'bot-01\\n'",
        ),
        (
            "telemetry/odom",
            '"telemetry/a\\tb"',
            "bridge.yaml:7: bridge.publish[0].mqtt_suffix: at most 512 characters that can be printed; "
            "got 'telemetry/a\\tb'",
        ),
        ("bot-01", "bot-\0", "bridge.yaml:1: not valid YAML: the character #x0000 may not be in it"),
        ("bridge:", "? [a]\n: b\nbridge:", "bridge.yaml:4: a key is text, not a list or a mapping"),
        (
            "bridge:",
            "bridge:\n  subscribe:\n"
            "    - &go {mqtt_suffix: cmd/go, ros_topic: /go, msg_type: std_msgs/Bool}\n    - *go",
            "bridge.yaml:6: bridge.subscribe[1]: duplicate: cmd/go already goes to /go, by line 6",
        ),
        (
            "host: broker.example",
            "host: b\n  auth: {method: token}",
            "bridge.yaml:4: connection.auth: method token needs token or token_file; neither is given",
        ),
        (
            "host: broker.example",
            "host: b\n  auth: {method: certificate}",
            "bridge.yaml:4: connection.auth.method: method certificate needs connection.tls with enabled, "
            "client_cert and client_key",
        ),
        (
            "host: broker.example",
            "host: b\n  auth: {method: username, password: x, token: y}",
            "bridge.yaml:4: connection.auth.token: not used by method username",
        ),
    ],
)
def test_a_mistake_names_line_and_key(old, new, expected, tmp_path):
    assert old in GOOD
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "empty").write_text("\n")
    found = [re.sub(r"\(\[.*", "(…)", line) for line in problems(GOOD.replace(old, new, 1), tmp_path)]
    assert found == [expected.replace("{folder}", str(tmp_path))]


@pytest.mark.parametrize("text", ["[" * 3000, "\n".join(" " * depth + "a:" for depth in range(1500))])
def test_what_is_nested_without_end_is_a_mistake(text, tmp_path):
    assert "the nesting is too deep" in problems(text, tmp_path)[0]


def test_ids_and_names_are_text_without_quotes_too(tmp_path):
    parsed = parse(GOOD.replace("bot-01", "007").replace("/odom\n", "on\n", 1), tmp_path)
    assert (parsed.rosfit.device_id, parsed.bridge.publish[0].ros_topic) == ("007", "on")


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "bridge: {subscribe: [{mqtt_suffix: cmd/a, ros_topic: /a, msg_type: no_msgs/A}]}",
            "bridge.subscribe[0].msg_type: package no_msgs with its msg folder is not installed or not sourced "
            "(No module named 'no_msgs')",
        ),
        (
            "bridge: {publish: [{ros_topic: /diagnostics, mqtt_suffix: telemetry/d, msg_type: std_msgs/String}]}",
            "bridge.publish[0].msg_type: /diagnostics is diagnostic_msgs/msg/DiagnosticArray by the bridge itself; "
            "of one topic there is one type",
        ),
        (
            "bridge: {services: [{command: a, ros_service: /a, srv_type: std_srvs/Triger}]}",
            "bridge.services[0].srv_type: std_srvs has no srv Triger; it has Empty, SetBool, Trigger",
        ),
        (
            "ota: {gate: [{ros_topic: /a, msg_type: std_msgs/String, field: data, at_least: 1}]}",
            "ota.gate[0].field: data of std_msgs/msg/String is no number",
        ),
        (
            "ota: {gate: [{ros_topic: /a, msg_type: nav_msgs/Odometry, field: pose.covariance, equals: 1}]}",
            "ota.gate[0].field: pose.covariance of nav_msgs/msg/Odometry is no single value",
        ),
        (
            "ota: {gate: [{ros_topic: /a, msg_type: std_msgs/Bool, field: dat, equals: true}]}",
            "ota.gate[0].field: std_msgs/msg/Bool, dat: there is no field dat; it has data",
        ),
    ],
)
def test_types_and_fields_are_held_against_what_is_installed(section, expected, tmp_path):
    parsed = parse(f"rosfit: {{device_id: a}}\nconnection: {{host: b}}\n{section}\n", tmp_path)
    with pytest.raises(config.ConfigError) as error:
        check_types(parsed, "bridge.yaml")
    assert str(error.value) == f"bridge.yaml:3: {expected}"


def test_every_mistake_is_told_at_once(tmp_path):
    text = GOOD.replace("broker.example", "a b").replace("/odom\n", "x!\n", 1).replace("bot-01", "'?'")
    assert [line.split(":")[1] for line in problems(text, tmp_path)] == ["1", "3", "6"]


@pytest.mark.parametrize("separator", ["\n", " "])
def test_two_sources_for_one_stream_are_a_mistake(separator, tmp_path):
    """On one line too."""
    entry = "{ros_topic: /a, mqtt_suffix: telemetry/a, msg_type: std_msgs/String}"
    text = f"rosfit: {{device_id: a}}\nconnection: {{host: b}}\nbridge: {{publish: [{entry},{separator}{entry}]}}"
    (line,) = problems(text, tmp_path)
    assert "bridge.publish[1].mqtt_suffix: duplicate: telemetry/a is already fed from line 3" in line


def test_a_command_has_one_meaning(tmp_path):
    text = """
rosfit: {device_id: a}
connection: {host: b}
bridge:
  services:
    - {command: go, ros_service: /go, srv_type: std_srvs/Trigger}
  actions:
    - {command: go, ros_action: /go, action_type: nav2_msgs/NavigateToPose}
"""
    assert problems(text, tmp_path) == [
        "bridge.yaml:8: bridge.actions[0].command: duplicate: command go is already given on line 6"
    ]


def test_variables_keep_their_type_and_secrets_stay_out_of_messages(tmp_path):
    text = GOOD.replace(
        "host: broker.example",
        "host: ${HOST:-localhost}\n  port: ${PORT}\n  auth: {method: token, token: '${TOKEN}', password: '${TOKEN}'}",
    )
    with pytest.raises(config.ConfigError) as error:
        parse(text, tmp_path, {"PORT": "8883", "TOKEN": "hush"})
    assert "hush" not in str(error.value)
    parsed = parse(text.replace(", password: '${TOKEN}'", ""), tmp_path, {"PORT": "8883", "TOKEN": "1234"})
    assert (parsed.connection.host, parsed.connection.port) == ("localhost", 8883)
    assert parsed.connection.auth.token == "1234"
    assert "1234" not in repr(parsed)


@pytest.mark.parametrize("password", ["0123", "1e5", "yes", "'quoted'", "2026-01-01"])
def test_a_password_is_what_is_written(password, tmp_path):
    """YAML would make 83, 100000.0, True and a date of them."""
    text = GOOD.replace("host: broker.example", f"host: b\n  auth: {{method: username, password: {password}}}")
    assert parse(text, tmp_path).connection.auth.password == password.strip("'")


@pytest.mark.parametrize(
    ("extra", "address"),
    [
        ("", "mqtt://h:1883"),
        ("tls: {enabled: true}", "mqtts://h:8883"),
        ("transport: websocket", "ws://h:8083"),
        ("transport: websocket\n  tls: {enabled: true}", "wss://h:8084"),
        ("protocol: 5", "mqtt://h:1883"),
        ("protocol: 3.1.1", "mqtt://h:1883"),
    ],
)
def test_ports_follow_transport_and_tls(extra, address, tmp_path):
    text = f"rosfit: {{device_id: a}}\nconnection:\n  host: h\n  {extra}\n"
    assert parse(text, tmp_path).connection.address == address


def test_an_alias_that_holds_itself_is_a_mistake(tmp_path):
    assert "an alias refers to itself" in problems("rosfit: &a {device_id: *a}", tmp_path)[0]


def test_a_file_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(config.ConfigError, match="cannot read the configuration: No such file"):
        config.load(tmp_path / "none.yaml")


def test_the_example_that_is_installed_is_right():
    """Its variables have defaults, so it is read as it stands."""
    parsed = config.parse(EXAMPLE.read_text(), file=str(EXAMPLE), folder=EXAMPLE.parent, env={"ROSFIT_TOKEN": "x"})
    assert parsed.bridge.publish
    assert yaml.safe_load(EXAMPLE.read_text())["bridge"]["spool"]


def keys(section, path=""):
    for name, key in section.keys.items():
        here = f"{path}.{name}" if path else name
        yield here
        inner = key.check
        if isinstance(inner, Section):
            yield from keys(inner, here)


def test_every_key_is_in_the_reference():
    """docs/bridge.md has one row per key."""
    reference = (Path(__file__).resolve().parents[2] / "docs" / "bridge.md").read_text()
    from rosfit_bridge import config_down as down

    wanted = list(keys(config.ROOT))
    for name, section in {
        "publish": config.PUBLISH,
        "subscribe": down.SUBSCRIBE,
        "services": down.SERVICE,
        "actions": down.ACTION,
        "parameters": down.PARAMETERS,
    }.items():
        wanted += keys(section, f"bridge.{name}[]")
    assert len(wanted) > 70
    assert [key for key in wanted if f"`{key}`" not in reference] == []
