"""Files of any size as multipart forms, passed on piece by piece: nothing is held or spooled here."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from rosfit.kernel.errors import FieldError, InvalidError, RosfitError, field_error_of
from rosfit.kernel.ports import ObjectStore
from rosfit.kernel.work import OpenWork
from rosfit.ota.artifacts import Incoming
from rosfit.ota.errors import UploadBrokenError
from rosfit.ota.models import NewArtifact, Stored

FORM = "multipart/form-data"
FILE = "file"
FIELD_BYTES = 64 * 1024
FIELDS_LIMIT = 20
LISTS = frozenset({"device_types", "from_versions"})
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def boundary_of(content_type: str) -> bytes | None:
    """What separates the form's parts; None for what is no such form."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind.decode("latin-1").lower() == FORM else None


class FormReader:
    """A multipart form as it arrives: text fields are kept, the file's bytes handed on."""

    def __init__(self, boundary: bytes) -> None:
        self.fields: dict[str, str] = {}
        self.file_name: str | None = None
        self.complete = False
        self._passing: list[bytes] = []
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._field = ""
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[bytes]:
        """The file's bytes in this piece. Raises UploadBrokenError."""
        self._passing = []
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise UploadBrokenError(f"It is no multipart form: {error}") from error
        return self._passing

    def _begin_part(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _end_header(self) -> None:
        name, value = (bytes(part) for part in self._header)
        self._header = (bytearray(), bytearray())
        if name.lower() == b"content-disposition":
            self._disposition = value

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if self._field in self.fields or (self._field == FILE and self.file_name is not None):
            raise UploadBrokenError(f"The form has two fields `{self._field[:64]}`; send one")
        if self._field == FILE:
            told = options.get(b"filename", b"").decode("utf-8", "replace")
            self.file_name = _UNSAFE.sub("_", told.replace("\\", "/").rpartition("/")[2])[-100:] or "artifact"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field == FILE:
            self._passing.append(data[start:end])
        elif len(self._text) + end - start > FIELD_BYTES or len(self.fields) > FIELDS_LIMIT:
            raise UploadBrokenError(f"Only `file` may hold more than {FIELD_BYTES} bytes")
        else:
            self._text += data[start:end]

    def _end_part(self) -> None:
        if self._field != FILE:
            self.fields[self._field] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.complete = True


async def receive(
    pieces: AsyncIterator[bytes], boundary: bytes, open_work: OpenWork, objects: ObjectStore
) -> tuple[NewArtifact, Stored]:
    """The form, its file in the object store. What cannot be taken leaves nothing there."""
    reader = FormReader(boundary)
    incoming = await Incoming.begin(open_work, objects)
    try:
        async for piece in pieces:
            for data in reader.feed(piece):
                await incoming.write(data)
        if not reader.complete:
            raise UploadBrokenError("The form ended in the middle")
        new = read_fields(reader.fields)
        if reader.file_name is None:
            raise InvalidError(errors=(FieldError(FILE, "the artifact's bytes"),))
        return new, await incoming.finish(reader.file_name)
    except BaseException as error:
        await incoming.discard(open_work)
        if isinstance(error, RosfitError):
            # A client that is still sending would see a reset connection, and no reason.
            async for _ in pieces:
                pass
        raise


def read_fields(fields: dict[str, str]) -> NewArtifact:
    """Raises InvalidError naming the field."""
    values: dict[str, Any] = {name: text for name, text in fields.items() if text or name == "release_notes"}
    for name in LISTS & values.keys():
        values[name] = list(dict.fromkeys(part.strip() for part in values[name].split(",") if part.strip()))
    try:
        return msgspec.convert(values, NewArtifact)
    except msgspec.ValidationError as error:
        raise InvalidError("Correct the fields named in errors", errors=(field_error_of(error),)) from error
