"""An artifact's upload as the API takes it."""

from __future__ import annotations

from typing import Any

from litestar import Request

from rosfit.api.errors import UnsupportedMediaTypeError
from rosfit.kernel.ports import ObjectStore
from rosfit.kernel.work import OpenWork
from rosfit.ota import uploading
from rosfit.ota.models import NewArtifact, Stored

AnyRequest = Request[Any, Any, Any]

# What the OpenAPI document says of the body.
FORM_SCHEMA = {
    "type": "object",
    "required": ["name", "version", "device_types", "file"],
    "properties": {
        "name": {"type": "string", "description": "what it is, such as `navigation`"},
        "version": {"type": "string"},
        "device_types": {"type": "string", "description": "separated by commas"},
        "from_versions": {"type": "string", "description": "patterns of versions it can replace, separated by commas"},
        "release_notes": {"type": "string"},
        "signature": {"type": "string", "description": "base64 of an Ed25519 signature over the SHA-256's 32 bytes"},
        "key_id": {"type": "string", "description": "the trusted key that made the signature"},
        "file": {"type": "string", "format": "binary"},
    },
}


async def receive(request: AnyRequest, open_work: OpenWork, objects: ObjectStore) -> tuple[NewArtifact, Stored]:
    """The form, its file in the object store. What cannot be taken leaves nothing there."""
    boundary = uploading.boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        raise UnsupportedMediaTypeError(f"Send {uploading.FORM} with the fields name, version, device_types and file")
    return await uploading.receive(request.stream(), boundary, open_work, objects)
