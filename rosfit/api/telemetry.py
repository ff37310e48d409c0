"""`/telemetry`: raw samples, newest values, series; and the messages that could not be taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.params import Parameter
from litestar.response import Stream

from rosfit.accounts.rights import Right
from rosfit.api.access import record
from rosfit.api.edge import Edge
from rosfit.api.parameters import DEFAULT_LIMIT, Cursor, From, Limit, To, time_parameter
from rosfit.kernel.paging import Page
from rosfit.kernel.work import Work
from rosfit.telemetry import dead_letters, export, service
from rosfit.telemetry.models import DeadLetter, Function, Item, Items, Order, Series

READ = {"right": Right.TELEMETRY_READ}


class TelemetryController(Controller):
    path = "/telemetry/{device_id:str}"
    tags = ("telemetry",)

    @get(opt=READ)
    async def list_samples(
        self,
        device_id: str,
        work: Work,
        stream: str | None = None,
        from_: From = None,
        to: To = None,
        order: Order = "desc",
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[Item]:
        """Samples as they were sent: of one stream, or of all by time."""
        return await service.raw(
            work,
            device_id,
            stream=stream,
            start=time_parameter("from", from_),
            end=time_parameter("to", to),
            order=order,
            cursor=cursor,
            limit=limit,
        )

    @get("/latest", opt=READ)
    async def get_latest_samples(self, device_id: str, work: Work, edge: Edge) -> Items:
        """The newest sample of every stream."""
        return Items(await service.latest(work, edge.hot, device_id))

    @get("/series", opt=READ)
    async def get_series(
        self,
        device_id: str,
        work: Work,
        stream: str,
        field: Annotated[list[str], Parameter(description="dotted path of a number; repeat it for several")],
        from_: From = None,
        to: To = None,
        bucket: Annotated[str | None, Parameter(description="width: 10s, 5m, 1h, 1d")] = None,
        points: Annotated[int, Parameter(ge=1, le=10_000, description="at most so many buckets")] = 500,
        fn: Function = "avg",
    ) -> Series:
        """One line per field over shared buckets, with gaps as null. The last hour unless told."""
        return await service.series(
            work,
            device_id,
            stream=stream,
            fields=field,
            start=time_parameter("from", from_),
            end=time_parameter("to", to),
            bucket=bucket,
            points=points,
            fn=fn,
        )


    @get("/export", opt=READ)
    async def export_samples(
        self,
        device_id: str,
        edge: Edge,
        format: export.Format,  # noqa: A002 (the name on the wire)
        stream: Annotated[list[str] | None, Parameter(description="repeatable; every stream unless told")] = None,
        from_: From = None,
        to: To = None,
        field: Annotated[
            list[str] | None, Parameter(description="dotted path that becomes a column of csv and parquet; repeatable")
        ] = None,
    ) -> Stream:
        """Samples as a file, oldest first. It is streamed: a connection that breaks leaves a part of it."""
        wanted = export.Wanted(
            device_id,
            format,
            stream or (),
            time_parameter("from", from_),
            time_parameter("to", to),
            field or (),
        )
        export.check(wanted)
        pieces = await begun(export.export(edge.open_work, wanted))
        headers = {"Content-Disposition": f'attachment; filename="{device_id}.{format}"'}
        return Stream(pieces, media_type=export.MEDIA_TYPES[format], headers=headers)


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """With its first piece made, so that what stands in the way of it is answered as an error."""
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return whole()


class DeadLetterController(Controller):
    path = "/dead-letters"
    tags = ("dead letters",)

    @get(opt={"right": Right.DEAD_LETTERS})
    async def list_dead_letters(
        self,
        work: Work,
        reason: str | None = None,
        device_id: Annotated[str | None, Parameter(query="device_id")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
    ) -> Page[DeadLetter]:
        """Messages that could not be taken, newest first."""
        return await dead_letters.find(work, reason, device_id, cursor, limit)

    @post("/{letter_id:str}/replay", opt={"right": Right.DEAD_LETTERS}, status_code=200)
    async def replay_dead_letter(
        self, letter_id: str, request: Request[Any, Any, Any], work: Work, edge: Edge
    ) -> dict[str, Any]:
        """Take the message again, as it came. 422 STILL_BAD when it still cannot be taken."""
        await edge.replay(work, await dead_letters.lock(work, letter_id))
        await dead_letters.mark_replayed(work, letter_id)
        await record(work, request, "dead_letter.replay", letter_id)
        return {"id": letter_id, "status": "replayed"}
