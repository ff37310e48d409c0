"""The OpenAPI 3.1 document: Litestar's paths and parameters, msgspec's schemas, and every error that can come."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from rosfit import __version__
from rosfit.api.access import MERGE_PATCH
from rosfit.api.errors import PROBLEM
from rosfit.api.routes import routes
from rosfit.protocol.envelope import JSON, MSGPACK

INJECTED = ("work", "edge")

_REF = "#/components/schemas/{name}"
_METHODS = frozenset({"get", "post", "put", "patch", "delete"})

# Of what has a version.
_CONDITIONS = [
    {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
    for name, text in (
        ("If-Match", 'only if the version is this one, such as `"12"`'),
        ("If-None-Match", "`*`: only if there is none yet"),
    )
]

# Of what creates; these two know a repetition by what they are sent.
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key and body again get the first answer again",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_WITHOUT_KEY = frozenset({"take_hook", "renew_certificate"})

_REFUSALS = {
    400: "The request cannot be understood: a body that is not JSON, a cursor of another list",
    401: "No credential, or one that is not valid (any more)",
    403: "The credential does not have the right",
    404: "There is no such thing",
    409: "It conflicts with what is there",
    412: "A precondition does not hold",
    413: "The body is too large",
    415: "The body has a content type that is not taken here",
    422: "Some fields are not valid; `errors` names them",
    429: "Too many requests; see Retry-After",
    503: "A server that RosFit depends on does not answer",
}


class ProblemField(msgspec.Struct, frozen=True):
    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. `code` is stable; `request_id` finds the request in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[ProblemField] = []


@cache
def openapi_document() -> dict[str, Any]:
    """The API's description, made without a server."""
    app = Litestar(
        route_handlers=routes(),
        dependencies={name: Provide(lambda: None, sync_to_thread=False) for name in INJECTED},
        openapi_config=_config(),
        logging_config=None,
    )
    document: dict[str, Any] = app.openapi_schema.to_schema()
    handlers = {handler.fn.__name__: handler for route in app.routes for handler in _handlers(route)}
    schemas = _Schemas(handlers)
    for operation, method in _operations(document):
        _complete(operation, method, handlers[operation["operationId"]], schemas)
    # Sorted, since msgspec gives them in another order each time.
    document["components"]["schemas"] = dict(sorted(schemas.components.items()))
    return document


def _config() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", description="an access token or an API key")
    return OpenAPIConfig(
        title="RosFit",
        version=__version__,
        description="Run a fleet of ROS 2 robots. Errors are RFC 9457 problems with a stable `code`.",
        components=Components(security_schemes={"bearer": bearer}),
        security=[{"bearer": []}],
        operation_id_creator=lambda handler, _method, _path: handler.fn.__name__,
        render_plugins=[],
        enabled_endpoints=set(),
    )


def _handlers(route: Any) -> Iterator[HTTPRouteHandler]:
    for handler in getattr(route, "route_handlers", ()):
        if isinstance(handler, HTTPRouteHandler) and handler.resolve_include_in_schema():
            yield handler


def _operations(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for path in document["paths"].values():
        for method in _METHODS & path.keys():
            yield path[method], method


class _Schemas:
    """msgspec's schemas of bodies and answers: unlike Litestar's they keep patterns, formats and nullability."""

    def __init__(self, handlers: dict[str, HTTPRouteHandler]) -> None:
        found = [
            part
            for handler in handlers.values()
            for part in (body_type(handler), answer_type(handler), handler.opt.get("refusal"))
        ]
        types = [Problem, *(kind for kind in found if _describable(kind))]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._of = list(zip(types, schemas, strict=True))

    def of(self, kind: Any) -> dict[str, Any]:
        return next((schema for known, schema in self._of if known == kind), {})


def _describable(kind: Any) -> bool:
    """Whether it is data, and not bytes or a response that is streamed."""
    is_response = isinstance(kind, type) and issubclass(kind, Response)
    return kind not in {None, Any, bytes, type(None)} and not is_response


def body_type(handler: HTTPRouteHandler) -> Any:
    """What the handler takes as `data`, or reads by itself and names in `opt["body"]`; or None."""
    if kind := handler.opt.get("body"):
        return kind
    field = handler.parsed_data_field
    if field is None:
        return None
    return field.inner_types[0].annotation if field.is_optional else field.annotation


def answer_type(handler: HTTPRouteHandler) -> Any:
    """What the handler answers with, out of its `Response[…]`."""
    annotation = handler.parsed_return_field.annotation
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Response):
        return get_args(annotation)[0]
    return annotation


def _complete(operation: dict[str, Any], method: str, handler: HTTPRouteHandler, schemas: _Schemas) -> None:
    if handler.opt.get("public"):
        operation["security"] = []
    _describe_body(operation, method, handler, schemas)
    if headers := _headers(operation, method, handler):
        operation.setdefault("parameters", []).extend(headers)
    # Litestar's own description of a refused request, which does not look like ours.
    operation["responses"].pop("400", None)
    for answer in operation["responses"].values():
        _describe_answer(answer, handler, schemas.of(answer_type(handler)))
    problem = {PROBLEM: {"schema": schemas.of(Problem)}}
    for status, answer in operation["responses"].items():
        if status[0] in "45":
            answer.setdefault("content", problem)
    for status in _refusals(operation, method, handler):
        operation["responses"][str(status)] = {"description": _REFUSALS[status], "content": problem}
    if refusal := handler.opt.get("refusal"):
        for status in ("400", "401"):
            operation["responses"][status]["content"] = problem | {JSON: {"schema": schemas.of(refusal)}}


def _describe_body(operation: dict[str, Any], method: str, handler: HTTPRouteHandler, schemas: _Schemas) -> None:
    field = handler.parsed_data_field
    if field is not None and JSON in operation.get("requestBody", {}).get("content", {}):
        operation["requestBody"]["content"][JSON]["schema"] = schemas.of(body_type(handler))
        operation["requestBody"]["required"] = not field.is_optional
    if form := handler.opt.get("form"):
        kind = handler.opt.get("form_type", RequestEncodingType.MULTI_PART)
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": form}}}
    if body := handler.opt.get("body"):
        operation["requestBody"] = {"required": True, "content": _contents(schemas.of(body), method)}


def _headers(operation: dict[str, Any], method: str, handler: HTTPRouteHandler) -> list[dict[str, Any]]:
    """Those that the handler reads by itself."""
    if handler.opt.get("conditional"):
        return _CONDITIONS
    creates = method == "post" and bool(operation["responses"].keys() & {"201", "202"})
    return [_IDEMPOTENCY_KEY] if creates and operation["operationId"] not in _WITHOUT_KEY else []


def _contents(schema: dict[str, Any], method: str) -> dict[str, Any]:
    """A body that is read by hand; a PATCH also takes the patch itself (RFC 7396)."""
    patch = {MERGE_PATCH: {"schema": {"type": "object"}}} if method == "patch" else {}
    return {JSON: {"schema": schema}, **patch}


def _describe_answer(answer: dict[str, Any], handler: HTTPRouteHandler, schema: dict[str, Any]) -> None:
    if JSON not in answer.get("content", {}):
        return
    if not schema and answer_type(handler) is not Any:
        answer["content"] = {"*/*": {"schema": {}}}
    else:
        answer["content"] = {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}


def _refusals(operation: dict[str, Any], method: str, handler: HTTPRouteHandler) -> list[int]:
    """The statuses with which this operation may refuse."""
    public = handler.opt.get("public")
    parameters = operation.get("parameters", [])
    # Health and keys answer whatever happens; /readyz says 503 in its own words.
    statuses = set() if public and method == "get" else {503}
    if not public:
        statuses |= {401, 403, 429} if handler.opt.get("right") else {401, 429}
    elif method == "post":
        statuses |= {401, 403, 429}
    if parameters:
        statuses |= {400, 404, 422}
    if any(parameter["name"].lower() == "if-match" for parameter in parameters):
        statuses |= {412}
    if "requestBody" in operation:
        statuses |= {400, 404, 413, 415, 422}
    if any(parameter["in"] == "path" for parameter in parameters):
        statuses |= {409}
    if method != "get":
        statuses |= {400, 409, 413}
    return sorted(statuses)
