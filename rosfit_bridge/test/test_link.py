"""The connection to the broker, without ROS. test_paho_versions.py runs these again with paho 1.6."""

import json
import logging
import socket
import ssl
import subprocess
import threading
import time

import pytest
from bridge_rig import Broker, Listener, free_port, wait_until

from rosfit_bridge import config, tls
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.uplink import Uplink, credentials

STREAM = "rosfit/bot-01/telemetry/x"


def settings(folder, connection, extra=""):
    text = f"rosfit: {{device_id: bot-01}}\nconnection: {{host: 127.0.0.1, {connection}}}\n"
    text += f"bridge: {{spool: {{path: spool, flush_ms: 20}}{extra}}}\n"
    return config.parse(text, file="bridge.yaml", folder=folder, env={})


@pytest.fixture
def uplink(tmp_path):
    """`uplink("port: 1883")` → started."""
    made = []

    def start(connection, extra=""):
        made.append(Uplink(settings(tmp_path, f"reconnect: {{min_s: 0.1, max_s: 0.3}}, {connection}", extra)))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.close(0.2)


@pytest.fixture
def certificates(tmp_path):
    """A CA, a server certificate for localhost and 127.0.0.1, a client certificate for bot-01."""

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, cwd=tmp_path, capture_output=True)

    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    )
    for name, subject, san in (
        ("server", "localhost", "DNS:localhost,IP:127.0.0.1"),
        ("client", "bot-01", "DNS:bot-01"),
    ):
        (tmp_path / "san").write_text(f"subjectAltName={san}\n")
        openssl(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={subject}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
        )
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "san", "-out", f"{name}.pem",
        )  # fmt: skip
    return tmp_path


def sample(number, qos=1, size=0, topic=STREAM):
    return Outgoing(topic, json.dumps({"payload": {"n": number}}).encode().ljust(size), qos)


def numbers(listener):
    return [json.loads(m.payload)["payload"]["n"] for m in listener.of("telemetry/x")]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_samples_and_presence(broker, listener, uplink, protocol):
    made = uplink(f"port: {broker.port}, protocol: {protocol}")
    wait_until(lambda: listener.of("status"))
    for n in range(50):
        made.publish(sample(n))
    wait_until(lambda: len(numbers(listener)) == 50)
    wait_until(lambda: made.counters.acknowledged == 50)
    made.close(1.0)
    wait_until(lambda: len(listener.of("status")) == 2)
    assert numbers(listener) == list(range(50))
    assert json.loads(listener.of("status")[1].payload) == {"status": "offline", "reason": "shutdown"}


def test_presence_is_retained(broker, uplink):
    uplink(f"port: {broker.port}")
    wait_until(lambda: "bot-01" in broker.log.read_text())
    late = wait_until(lambda: _retained(broker))
    assert json.loads(late.payload) == {"status": "online"}


def _retained(broker):
    listener = Listener(broker.port)
    try:
        time.sleep(0.2)  # a retained message follows the subscription at once
        return next(iter(listener.of("status")), None)
    finally:
        listener.close()


def test_many_qos1_over_a_link_that_keeps_breaking(listener, cable, uplink):
    """Each arrives, in order, repetitions aside; nothing is in flight beyond the window."""
    made = uplink(f"port: {cable.port}, max_inflight: 20")
    stop = threading.Event()

    def saw():
        while not stop.wait(0.15):
            cable.cut()
            cable.mend()

    threading.Thread(target=saw, daemon=True).start()
    for n in range(3000):
        made.publish(sample(n))
        if n % 50 == 0:
            time.sleep(0.02)
    stop.set()
    wait_until(lambda: 2999 in numbers(listener), timeout_s=40)
    assert list(dict.fromkeys(numbers(listener))) == list(range(3000))
    wait_until(lambda: made.outbox.idle)


def test_a_message_lost_in_both_directions_is_still_one_sample(broker, cable, listener, uplink):
    """QoS 0 leaves at once, and its id is never taken for the acknowledgement of a QoS 1 message."""
    made = uplink(f"port: {cable.port}, max_inflight: 5")
    wait_until(lambda: made.link.online)
    for n in range(2000):
        made.publish(sample(n, qos=n % 2, topic=STREAM if n % 2 else "rosfit/bot-01/telemetry/y"))
    wait_until(lambda: made.outbox.idle, timeout_s=30)
    assert made.counters.acknowledged == 1000
    wait_until(lambda: len(numbers(listener)) == 1000)


def test_subscriptions_are_made_anew_on_every_connection(broker, cable, listener, uplink):
    """And a handler that fails does not end the connection."""
    made, heard = uplink(f"port: {cable.port}"), []

    def handler(topic, payload, _properties):
        heard.append((topic, payload))
        raise ValueError("a mistake in the handler")

    made.link.subscribe("rosfit/bot-01/cmd/+", 1, handler)
    topic = "rosfit/bot-01/cmd/go"
    for number in range(2):
        expected = (topic, b"%d" % number)

        def sent(expected=expected):
            listener.client.publish(*expected, 1)
            return expected in heard

        wait_until(sent)
        cable.cut()
        cable.mend()
    wait_until(lambda: made.counters.connects >= 3)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_the_broker_retains_is_not_done_again(broker, listener, uplink, protocol):
    """A velocity that somebody published as retained would be driven with every connection."""
    topic, kept = "rosfit/bot-01/cmd/cmd_vel", "rosfit/bot-01/shadow/desired"
    for each in (topic, kept):
        listener.client.publish(each, b"old", 1, retain=True).wait_for_publish(5)
    made, heard = uplink(f"port: {broker.port}, protocol: {protocol}"), []
    made.link.subscribe(topic, 1, lambda topic, payload, _: heard.append(payload))
    made.link.subscribe(kept, 1, lambda topic, payload, _: heard.append(payload), retained=True)
    wait_until(lambda: heard and made.counters.stale)
    assert heard == [b"old"]
    listener.client.publish(topic, b"new", 1, retain=True)
    wait_until(lambda: heard == [b"old", b"new"])
    for each in (topic, kept):
        listener.client.publish(each, b"", 1, retain=True).wait_for_publish(5)


def test_a_refused_subscription_is_told(uplink, caplog):
    made = uplink(f"port: {free_port()}")
    made.link._asked[7] = "rosfit/bot-01/cmd/request"
    made.link._on_subscribe(None, None, 7, [0x87])
    assert "rosfit/bot-01/cmd/request: the broker refuses the subscription" in caplog.text


def test_qos0_is_dropped_while_offline(tmp_path, uplink):
    made = uplink(f"port: {free_port()}")
    for n in range(10):
        made.publish(sample(n, qos=0))
    assert made.counters.dropped_offline == 10
    assert len(made.outbox) == 0


def test_a_slow_link_keeps_the_newest(uplink):
    """A broker that reads nothing: memory holds the newest of each stream and the rest is counted."""
    server = socket.create_server(("127.0.0.1", free_port()))
    ends = []

    def accept():
        end, _ = server.accept()
        end.recv(4096)
        end.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK, then silence
        ends.append(end)

    threading.Thread(target=accept, daemon=True).start()
    made = uplink(f"port: {server.getsockname()[1]}")
    wait_until(lambda: made.link.online)
    for n in range(400):
        made.publish(sample(n, qos=0, size=200_000, topic="rosfit/bot-01/blob/image"))
    assert made.counters.dropped_slow_link > 300
    assert made.link.waiting() <= 2
    server.close()


def test_tls_and_client_certificate(certificates, uplink):
    folder = certificates
    tls_lines = (
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\nrequire_certificate true\n"
    )
    broker = Broker(folder, "use_identity_as_username true", tls_lines)
    broker.start()
    certificate = "tls: {enabled: true, ca_cert: ca.pem, client_cert: client.pem, client_key: client.key}"
    made = uplink(f"port: {broker.port}, {certificate}, auth: {{method: certificate}}")
    wait_until(lambda: made.link.online, what=broker.log.read_text())
    for n in range(20):
        made.publish(sample(n))
    wait_until(lambda: made.counters.acknowledged == 20)
    assert "u'bot-01'" in broker.log.read_text()
    made.close(1.0)
    broker.kill()


@pytest.fixture
def tls_broker(certificates):
    lines = f"cafile {certificates}/ca.pem\ncertfile {certificates}/server.pem\nkeyfile {certificates}/server.key\n"
    broker = Broker(certificates, "", lines)
    broker.start()
    yield broker
    broker.kill()


def fingerprint(folder):
    import hashlib

    der = ssl.PEM_cert_to_DER_cert((folder / "server.pem").read_text())
    return hashlib.sha256(der).hexdigest()


def test_an_unknown_ca_and_a_wrong_name_are_refused(certificates, tls_broker, uplink, caplog):
    unknown = uplink(f"port: {tls_broker.port}, tls: {{enabled: true}}")
    wait_until(lambda: "certificate verify failed" in unknown.link.state.detail)
    unknown.close(0.1)
    text = settings(certificates, f"port: {tls_broker.port}, tls: {{enabled: true, ca_cert: ca.pem}}")
    context = tls.context(text.connection.tls)
    with socket.create_connection(("127.0.0.1", tls_broker.port)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="other.example")


def test_a_pinned_certificate(certificates, tls_broker, uplink):
    """The right pin needs no CA; a wrong one ends the connection before the password is sent."""
    right = uplink(f"port: {tls_broker.port}, tls: {{enabled: true, pin_sha256: {fingerprint(certificates)}}}")
    wait_until(lambda: right.link.online)
    right.close(1.0)
    wrong = uplink(f"port: {tls_broker.port}, tls: {{enabled: true, ca_cert: ca.pem, pin_sha256: {'0' * 64}}}")
    wait_until(lambda: "not the pinned" in wrong.link.state.detail)


def test_websocket_with_large_messages(tmp_path, uplink):
    """Larger than the socket's buffer, so that frames leave in parts."""
    broker = Broker(tmp_path, "", "")
    port = free_port()
    with broker.conf.open("a") as conf:
        conf.write(f"listener {port} 127.0.0.1\nprotocol websockets\nsocket_domain ipv4\n")
    broker.start()
    listener = Listener(broker.port)
    made = uplink(f"port: {port}, transport: websocket")
    wait_until(lambda: made.link.online)
    for n in range(12):
        made.publish(sample(n, size=200_000))
    wait_until(lambda: len(numbers(listener)) == 12, timeout_s=40)
    assert numbers(listener) == list(range(12))
    listener.close()
    made.close(1.0)
    broker.kill()


def test_wrong_password_is_explained(tmp_path, uplink):
    (tmp_path / "passwords").write_text("")
    broker = Broker(tmp_path, f"password_file {tmp_path}/passwords")
    broker.conf.write_text(broker.conf.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    broker.start()
    made = uplink(f"port: {broker.port}, auth: {{method: username, password: wrong}}")
    wait_until(lambda: "refused the connection" in made.link.state.detail)
    assert made.link.state.detail.endswith("check connection.auth")
    broker.kill()


def test_a_sample_the_broker_refuses_does_not_stop_the_others(tmp_path, uplink):
    (tmp_path / "acl").write_text(
        "topic readwrite rosfit/bot-01/telemetry/x\ntopic readwrite rosfit/bot-01/status\ntopic read rosfit/#\n"
    )
    broker = Broker(tmp_path, f"acl_file {tmp_path}/acl")
    broker.start()
    listener = Listener(broker.port)
    made = uplink(f"port: {broker.port}")
    made.publish(sample(0, topic="rosfit/bot-01/telemetry/forbidden"))
    made.publish(sample(1))
    wait_until(lambda: made.outbox.idle)
    assert numbers(listener) == [1]
    listener.close()
    broker.kill()


def test_what_the_broker_calls_too_large_is_dropped(tmp_path, uplink, caplog):
    """Sent all the same, it would end the connection, come back first after it, and end it again."""
    broker = Broker(tmp_path, "max_packet_size 10000")
    broker.start()
    listener = Listener(broker.port)
    made = uplink(f"port: {broker.port}")
    wait_until(lambda: made.link.online)
    made.publish(sample(0, size=20_000))
    made.publish(sample(1))
    wait_until(lambda: numbers(listener) == [1])
    assert (made.counters.too_large, made.counters.connects) == (1, 1)
    listener.close()
    broker.kill()


def test_a_clock_that_is_set_makes_nothing_old(uplink, monkeypatch):
    """A computer without a clock of its own starts with the time it was switched off at, a month ago."""
    made = uplink(f"port: {free_port()}")
    made.publish(sample(0))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 30 * 86_400)
    made.publish(sample(1))
    wait_until(lambda: made.spooler.spool.count + made.counters.dropped_spool == 2)
    assert made.counters.dropped_spool == 0


def test_the_same_reason_is_told_once(uplink, caplog):
    made = uplink(f"port: {free_port()}")
    caplog.set_level(logging.DEBUG, "rosfit_bridge.link")
    wait_until(lambda: caplog.text.count("next attempt") >= 3)
    assert [r.levelname for r in caplog.records if "next attempt" in r.message][:3] == ["WARNING", "DEBUG", "DEBUG"]
    assert made.link.state.name in ("waiting", "connecting")


def test_our_own_limits(uplink, caplog):
    made = uplink(f"port: {free_port()}", ", limits: {payload_kib: 1, blob_kib: 2}")
    assert not made.publish(sample(0, size=1025))
    made.publish(sample(1, size=2049, topic="rosfit/bot-01/blob/image"))
    assert made.counters.too_large == 2
    made.publish(sample(3, size=2048))
    assert [record.message for record in caplog.records if "dropped" in record.message] == [
        "rosfit/bot-01/telemetry/x: at least 1025 bytes, bridge.limits allows 1024; dropped",
        "rosfit/bot-01/blob/image: at least 2049 bytes, bridge.limits allows 2048; dropped",
    ]
    assert made.publish(sample(2, size=1500, topic="rosfit/bot-01/blob/image"))
    assert made.counters.too_large == 3


def test_token_files_are_read_for_every_connection(tmp_path):
    """They rotate. Without a user name it is the device id; a trailing newline is not part of the secret."""
    (tmp_path / "token").write_text("first\n")
    auth = settings(tmp_path, "auth: {method: token, token_file: token}").connection.auth
    assert credentials(auth, "bot-01") == ("bot-01", "first")
    (tmp_path / "token").write_text("second\n")
    assert credentials(auth, "bot-01") == ("bot-01", "second")


def test_nagle_is_off(broker, uplink):
    made = uplink(f"port: {broker.port}")
    wait_until(lambda: made.link.online)
    with made.link.lock:
        sock = made.link._client.socket()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
