"""Artifacts over HTTP: upload, signature, immutability, download with ranges."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import threading
import time

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.ota.conftest import sha256
from tests.server import until


def test_an_artifact_is_hashed_and_signed(site):
    data = os.urandom(3_000_000)
    artifact = site.upload(data, release_notes="Faster.\nSafer.", from_versions="1.*, 2.0")
    assert (artifact["size"], artifact["sha256"]) == (len(data), sha256(data))
    assert artifact["from_versions"] == ["1.*", "2.0"]
    key = site.public_key(artifact["key_id"])
    key.verify(base64.b64decode(artifact["signature"]), hashlib.sha256(data).digest())
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(artifact["signature"]), hashlib.sha256(data + b"!").digest())
    assert site.admin.got(f"/ota/artifacts/{artifact['artifact_id']}") == artifact
    assert artifact in site.admin.got("/ota/artifacts", name=artifact["name"])["items"]
    assert artifact not in site.admin.got("/ota/artifacts", device_type="gateway")["items"]


def test_a_version_is_one_set_of_bytes(site):
    artifact = site.upload(b"one", name="immutable")
    assert site.upload(b"one", name="immutable") == artifact
    assert site.upload(b"two", 409, name="immutable")["code"] == "ARTIFACT_EXISTS"
    assert site.upload(b"one", 409, name="immutable", device_types="gateway")["code"] == "ARTIFACT_EXISTS"
    assert site.upload(b"two", name="immutable", version="1.0.1")["artifact_id"] != artifact["artifact_id"]


def test_a_signature_may_be_brought_along(site):
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    raw = private.public_key().public_bytes_raw()
    key_id = hashlib.sha256(raw).hexdigest()[:16]
    signature = base64.b64encode(private.sign(hashlib.sha256(b"mine").digest())).decode()
    theirs = {"signature": signature, "key_id": key_id}
    assert site.upload(b"mine", 422, **theirs)["code"] == "SIGNATURE_INVALID"
    trusted = site.admin.made("/ota/keys", {"name": "build server", "public_key": pem})
    assert (trusted["key_id"], trusted["own"]) == (key_id, False)
    assert trusted["public_key"] == base64.b64encode(raw).decode()
    assert site.upload(b"mine", **theirs)["key_id"] == key_id
    assert site.upload(b"tampered", 422, **theirs)["code"] == "SIGNATURE_INVALID"
    assert site.admin.delete(f"/ota/keys/{key_id}").status_code == 200
    assert site.upload(b"mine", 422, **theirs)["code"] == "SIGNATURE_INVALID"


def test_the_signing_key_can_be_changed(site):
    before = site.upload(b"before")
    key = site.admin.made("/ota/keys/rotate")
    after = site.upload(b"after")
    assert after["key_id"] == key["key_id"] != before["key_id"]
    site.public_key(before["key_id"]).verify(
        base64.b64decode(before["signature"]), hashlib.sha256(b"before").digest()
    )
    assert site.admin.delete(f"/ota/keys/{key['key_id']}").json()["code"] == "UPDATE_KEY_IN_USE"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": ""}, "name"),
        ({"version": "1 0"}, "version"),
        ({"device_types": "toaster"}, "device_types"),
        ({"device_types": ""}, "device_types"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_a_bad_field_is_named(site, fields, named):
    problem = site.upload(b"x", 422, **fields)
    assert problem["errors"][0]["field"].startswith(named)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"hello", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc', "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"{}", "application/json", 415),
        (b"x", "multipart/form-data", 415),
    ],
)
def test_a_broken_form_is_refused(site, body, content_type, status):
    answer = site.admin.post("/ota/artifacts", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("name", ["name", "device_types", "file"])
def test_a_repeated_field_is_refused(site, name):
    """Whichever of the two was taken, it might be the wrong one."""
    fields = {"name": "nav", "version": "9.9", "device_types": "simulator", "file": "x"}
    parts = [(key, (None, value)) for key, value in [*fields.items(), (name, fields[name])]]
    problem = site.admin.post("/ota/artifacts", files=parts).json()
    assert (problem["code"], name in problem["detail"]) == ("UPLOAD_BROKEN", True)


def test_an_empty_file_is_refused(site):
    assert site.upload(b"", 400)["code"] == "UPLOAD_BROKEN"


def test_what_cannot_be_taken_leaves_nothing(site, server):
    folder = server.data_dir / "objects" / "artifacts"
    site.upload(b"x")
    before = set(folder.iterdir())
    site.upload(b"y" * 5_000_000, 422, version="not a version")
    until(lambda: set(folder.iterdir()) <= before)


def test_an_upload_takes_no_memory(site, server):
    """Also while it runs: 300 MB through a process whose memory grows by less than 60."""
    before, most = server.rss_bytes(), 0
    piece, pieces = os.urandom(1_000_000), 300
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            most = max(most, server.rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    answer = stream(site, piece, pieces)
    done.set()
    watcher.join()
    assert answer.status_code == 201, answer.text
    assert answer.json()["size"] == len(piece) * pieces
    assert most - before < 60_000_000


@pytest.mark.full
def test_two_gigabytes_through_less_than_300_megabytes(site, server):
    piece, pieces = os.urandom(1_000_000), 2_100
    began = time.monotonic()
    answer = stream(site, piece, pieces)
    assert answer.json()["size"] == len(piece) * pieces
    print(f"2.1 GB in {time.monotonic() - began:.0f} s, then {server.rss_bytes() / 1e6:.0f} MB")
    assert server.rss_bytes() < 300_000_000


def stream(site, piece: bytes, pieces: int) -> httpx.Response:
    head = "".join(
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in {"name": f"big-{secrets.token_hex(4)}", "version": "1", "device_types": "ros2_robot"}.items()
    )
    file = '--edge\r\nContent-Disposition: form-data; name="file"; filename="big.img"\r\n\r\n'

    def body():
        yield (head + file).encode()
        for _ in range(pieces):
            yield piece
        yield b"\r\n--edge--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return site.admin.post("/ota/artifacts", content=body(), headers=headers, timeout=300)


def test_delete_is_refused_while_it_is_needed(site, fleet):
    (robot,) = fleet(1)
    artifact = site.upload(b"needed")
    deployment = site.deploy(artifact, [robot.device_id])
    robot.triggered()
    path = f"/ota/artifacts/{artifact['artifact_id']}"
    assert site.admin.delete(path).json()["code"] == "ARTIFACT_IN_USE"
    robot.result(deployment, "succeeded")
    site.becomes(deployment, "finished")
    assert site.admin.delete(path).status_code == 204
    assert site.admin.get(path).status_code == 404
    assert site.shown(deployment)["name"] == artifact["name"]
    refused = site.upload(b"needed", 409, name=artifact["name"])
    assert "deleted" in refused["detail"]


@pytest.fixture
def link(site, fleet):
    """(url, bytes) of a trigger, and what ends the update."""
    data = bytes(range(256)) * 40
    (robot,) = fleet(1)
    deployment = site.deploy(site.upload(data), [robot.device_id])
    return robot.triggered()["artifact"]["url"], data, lambda: robot.result(deployment, "succeeded")


def test_ranges(link):
    url, data, _ = link
    whole = httpx.get(url)
    etag = whole.headers["etag"]
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["accept-ranges"] == "bytes"
    assert etag == f'"{sha256(data)}"'
    for asked, expected in [
        ("bytes=0-99", data[:100]), ("bytes=100-", data[100:]), ("bytes=-50", data[-50:]), ("bytes=9-9", data[9:10]),
        (f"bytes=0-{10**9}", data), (f"bytes=-{10**9}", data),
    ]:  # fmt: skip
        answer = httpx.get(url, headers={"Range": asked, "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, expected), asked
        assert answer.headers["content-range"].endswith(f"/{len(data)}")
        assert int(answer.headers["content-length"]) == len(expected)
    for asked in ("bytes=0-1,5-6", "bytes=9-3", "lines=1-2", "bytes=a-b"):
        answer = httpx.get(url, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, data), asked
    assert httpx.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).content == data
    beyond = httpx.get(url, headers={"Range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    head = httpx.head(url)
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", len(data))


def test_a_link_is_for_one_device_and_one_update(link, site):
    url, _, end = link
    path, _, query = url.partition("?")
    for forged in (
        f"{path}x?{query}",
        f"{path}?{query.replace('expires=', 'expires=9')}",
        f"{path}?expires=1&{query.partition('&')[2]}",
        f"{path}?{query[:-1]}",
        path,
    ):
        answer = httpx.get(forged)
        assert (answer.status_code, answer.json()["code"]) == (403, "DOWNLOAD_REFUSED"), forged
    end()
    until(lambda: httpx.get(url).status_code == 403)
