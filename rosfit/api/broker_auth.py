"""`/mqtt`: what a broker of one's own asks over HTTP: EMQX 5 in JSON, RabbitMQ in forms.

Both ask with a shared secret, in the header `X-RosFit-Token` or, since RabbitMQ cannot send one, as the last segment
of the path, which is never logged.
"""

from __future__ import annotations

import hmac
import re
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Response, post
from litestar.enums import RequestEncodingType
from litestar.handlers.base import BaseRouteHandler
from litestar.params import Body

from rosfit.api.edge import Connection, Edge, edge_of
from rosfit.fleet import credentials, repository
from rosfit.fleet.credentials import device_of
from rosfit.fleet.mqtt_passwords import fits
from rosfit.kernel.errors import NotFoundError, UnauthenticatedError
from rosfit.kernel.ids import is_device_id
from rosfit.kernel.work import Work
from rosfit.protocol.access import AccessPattern, may_publish, may_subscribe, may_take_client_id
from rosfit.protocol.layouts import Layouts

TOKEN_HEADER = "x-rosfit-token"  # noqa: S105  a header's name
OPTIONS: dict[str, Any] = {"opt": {"public": True}, "status_code": 200, "include_in_schema": False}

# The exchange of RabbitMQ's MQTT, and the queues of an MQTT session, which are named for its client id.
MQTT_EXCHANGE = "amq.topic"
_SESSION_QUEUE = re.compile(r"mqtt-(?:subscription|will)-(.*?)(?:qos[01])?")
# MQTT's `/` is `.` in a routing key and the other way round; `+` is `*`.
_TO_TOPIC = str.maketrans("./*", "/.+")

Verdict = Literal["allow", "deny", "ignore"]
Form = Annotated[dict[str, Any], Body(media_type=RequestEncodingType.URL_ENCODED)]


class Answer(msgspec.Struct, frozen=True):
    """EMQX asks its next source when it is told to ignore."""

    result: Verdict
    is_superuser: bool = False


class Login(msgspec.Struct, frozen=True):
    """`cert_common_name` is the name in a certificate that the broker has verified."""

    username: str | None = None
    password: str | None = None
    clientid: str | None = None
    cert_common_name: str | None = None


class Access(msgspec.Struct, frozen=True):
    topic: str
    action: Literal["publish", "subscribe"]
    username: str | None = None
    clientid: str | None = None


async def require_hook_token(connection: Connection, _: BaseRouteHandler) -> None:
    """404 unless a secret is set, so that nobody can try; 401 without the right one."""
    secret = edge_of(connection).settings.mqtt_hook_token
    if secret is None:
        raise NotFoundError("Set ROSFIT_MQTT_HOOK_TOKEN to let a broker ask here")
    given = connection.headers.get(TOKEN_HEADER) or connection.path_params.get("token") or ""
    if not hmac.compare_digest(given.encode(), secret.encode()):
        raise UnauthenticatedError("Send the value of ROSFIT_MQTT_HOOK_TOKEN in the header X-RosFit-Token")


class EmqxController(Controller):
    """EMQX 5: HTTP authenticator and authorizer."""

    path = "/mqtt"
    guards = (require_hook_token,)

    @post(["/auth", "/auth/{token:str}"], **OPTIONS)
    async def authenticate_client(self, data: Login, work: Work, edge: Edge) -> Answer:
        """Whether this client may connect."""
        return Answer(await login_verdict(work, edge, data))

    @post(["/acl", "/acl/{token:str}"], **OPTIONS)
    async def authorize_client(self, data: Access, work: Work, edge: Edge) -> Answer:
        """Whether this client may publish on, or subscribe to, this topic."""
        return Answer(await access_verdict(work, edge, data))


class RabbitController(Controller):
    """RabbitMQ: `auth_http.*_path`, with `auth_http.http_method = post`."""

    path = "/mqtt/rabbitmq"
    guards = (require_hook_token,)

    @post(["/user", "/user/{token:str}"], **OPTIONS)
    async def check_user(self, data: Form, work: Work, edge: Edge) -> Response[str]:
        login = Login(data.get("username"), data.get("password"), data.get("client_id"))
        return _text(await login_verdict(work, edge, login))

    @post(["/vhost", "/vhost/{token:str}"], **OPTIONS)
    async def check_vhost(self, data: Form, work: Work) -> Response[str]:
        return _text("allow" if await credentials.scopes_of(work, data.get("username", "")) else "deny")

    @post(["/resource", "/resource/{token:str}"], **OPTIONS)
    async def check_resource(self, data: Form, work: Work) -> Response[str]:
        return _text(await resource_verdict(work, data))

    @post(["/topic", "/topic/{token:str}"], **OPTIONS)
    async def check_topic(self, data: Form, work: Work, edge: Edge) -> Response[str]:
        topic = data.get("routing_key", "").translate(_TO_TOPIC)
        action: Literal["publish", "subscribe"] = "publish" if data.get("permission") == "write" else "subscribe"
        if data.get("name") != MQTT_EXCHANGE:
            return _text("deny")
        return _text(await access_verdict(work, edge, Access(topic, action, data.get("username"))))


async def login_verdict(work: Work, edge: Edge, login: Login) -> Verdict:
    """Devices are let in or refused; about anybody else the broker's next source decides."""
    username = login.username or login.cert_common_name or ""
    device_id = device_of(username)
    if not await _is_device(work, device_id):
        return "ignore"
    if not await _may_take(work, device_id, login.clientid or ""):
        return "deny"
    if login.cert_common_name == username and await repository.certified_devices(work.connection, device_id):
        return "allow"
    known = login.password and await credentials.who(work, username, login.password, fits, edge.signer.read_device)
    return "allow" if known else "deny"


async def access_verdict(work: Work, edge: Edge, access: Access) -> Verdict:
    username = access.username or ""
    device_id = device_of(username)
    if not await _is_device(work, device_id):
        return "ignore"
    if access.action not in await credentials.scopes_of(work, username):
        return "deny"
    judge = may_publish if access.action == "publish" else may_subscribe
    return "allow" if judge(device_id, access.topic, _layouts(edge)) else "deny"


async def resource_verdict(work: Work, form: dict[str, Any]) -> Verdict:
    """An MQTT client needs the topic exchange, in its directions, and the queues of its own session."""
    username, name = form.get("username", ""), form.get("name", "")
    scopes = await credentials.scopes_of(work, username)
    if form.get("resource") == "exchange":
        needed = {"write": "publish", "read": "subscribe"}.get(form.get("permission", ""))
        return "allow" if name == MQTT_EXCHANGE and needed in scopes else "deny"
    queue = _SESSION_QUEUE.fullmatch(name) if form.get("resource") == "queue" else None
    if queue is None or not scopes:
        return "deny"
    return "allow" if await _may_take(work, device_of(username), queue[1]) else "deny"


async def _is_device(work: Work, device_id: str) -> bool:
    return is_device_id(device_id) and bool(await repository.statuses(work.connection, [device_id]))


async def _may_take(work: Work, device_id: str, client_id: str) -> bool:
    """A client id is free unless it names another device, or is one of the server's own."""
    if client_id == device_id:
        return True
    return may_take_client_id(device_id, client_id) and not await _is_device(work, client_id)


def _layouts(edge: Edge) -> list[AccessPattern]:
    return Layouts(edge.settings.layouts).access_patterns()


def _text(verdict: Verdict) -> Response[str]:
    return Response("allow" if verdict == "allow" else "deny", media_type="text/plain")
