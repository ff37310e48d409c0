"""Puts the parts together: adapters opened here, handed inward as ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from rosfit.accounts import audit, signing_keys
from rosfit.accounts import service as accounts
from rosfit.accounts.identity import Identities
from rosfit.accounts.setup import SETUP_TOKEN_FILE, SetupToken
from rosfit.accounts.tokens import Signer
from rosfit.api.edge import Edge
from rosfit.api.ota_files import linker
from rosfit.commands import service as commands
from rosfit.commands.dispatch import Dispatcher
from rosfit.handler.decode import Decoder
from rosfit.handler.hot import LatestValues, VitalsBook
from rosfit.handler.ingest import Ingest
from rosfit.handler.leases import hold_lease
from rosfit.handler.writer import Handlers
from rosfit.infra.embedded.broker_accounts import hash_password
from rosfit.infra.migrations import migrate_when_ready
from rosfit.infra.mqtt import IngestSession, check_broker
from rosfit.infra.objects import open_objects
from rosfit.infra.postgres import (
    DISPATCH_LOCK,
    PERIODIC_LOCK,
    SLOT_LOCK,
    UPDATES_LOCK,
    Pool,
    make_ingest_pool,
    make_pool,
    notifications,
    session_lock,
    transaction,
)
from rosfit.infra.publisher import BrokerPublisher
from rosfit.infra.redis import RedisStore, open_store
from rosfit.kernel import loops
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.feed import ANY, Feed
from rosfit.kernel.metrics import Metrics
from rosfit.kernel.ports import Incoming
from rosfit.kernel.work import Work
from rosfit.ota import progress
from rosfit.ota.dispatch import UpdateDispatcher
from rosfit.periodic import Periodic
from rosfit.protocol.envelope import Limits, Message
from rosfit.protocol.errors import BadMessageError
from rosfit.protocol.layouts import Layouts
from rosfit.protocol.topics import INGEST_FILTER, Kind, Route
from rosfit.settings import Settings
from rosfit.shadow import reports
from rosfit.shadow import service as shadow
from rosfit.shadow.hot import HotShadows
from rosfit.shadow.layers import Refresher
from rosfit.shadow.models import DEFAULT_NAME
from rosfit.shadow.telling import ShadowTeller
from rosfit.supervisor import Endpoints
from rosfit.telemetry.errors import StillBadError

log = structlog.get_logger(__name__)

# What the trigger on device_credentials notifies; and how often credentials are looked at for having run out.
CREDENTIALS_CHANGED = "rosfit_credentials"
CREDENTIALS_EVERY_S = 30.0

# What is notified when a command came or a device is back; and how often times that run out are looked at.
COMMANDS_CHANGED = "rosfit_commands"
COMMANDS_EVERY_S = 0.25

# What is notified when a device is to be told of its shadow; and how often it is looked at all the same.
SHADOWS_CHANGED = "rosfit_shadows"
SHADOWS_EVERY_S = 5.0

# What is notified when layers have changed desired values; and how often it is looked at who is in their groups.
LAYERS_CHANGED = "rosfit_shadow_layers"
LAYERS_EVERY_S = 5.0

# What is notified when a device may start or has ended its update; and how often deadlines are looked at.
UPDATES_CHANGED = "rosfit_updates"
UPDATES_EVERY_S = 0.5


@dataclass
class Wired:
    """A running RosFit without its web server."""

    edge: Edge
    tasks: list[asyncio.Task[None]]


def work_opener(pool: Pool, feed: Feed, shadows: HotShadows) -> Any:
    """Units of work on this pool, whose events go to the hot store and the feed once they are committed."""

    @asynccontextmanager
    async def open_work() -> AsyncIterator[Work]:
        async with transaction(pool) as connection:
            work = Work(connection)
            yield work
            claim = await shadows.claim(work.events)
        await shadows.put(claim)
        for event in work.events:
            feed.publish(event)
        for action in work.after_commit:
            try:
                await action()
            except UnavailableError as error:
                log.warning("after_commit_failed", why=error.detail)

    return open_work


def limits_of(settings: Settings) -> Limits:
    return Limits(
        settings.payload_limit_bytes,
        settings.blob_limit_bytes,
        settings.json_depth_limit,
        settings.stream_segments_limit,
    )


@asynccontextmanager
async def wire(settings: Settings, endpoints: Endpoints) -> AsyncIterator[Wired]:
    """Open the adapters, start the loops, and stop both at the end."""
    before, after = await migrate_when_ready(endpoints.database_url)
    if before != after:
        log.info("migrated", before=before, after=after)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(make_pool(endpoints.database_url))
        ingest_pool = await stack.enter_async_context(make_ingest_pool(endpoints.database_url, settings.ingest_slots))
        store = await stack.enter_async_context(open_store(endpoints.redis_url))
        parts = _Parts(settings, endpoints, pool, ingest_pool, store)
        await parts.prepare()
        tasks = [asyncio.create_task(step, name=name) for name, step in parts.loops()]
        try:
            yield Wired(parts.edge, tasks)
        finally:
            await loops.end(tasks)
            await parts.finish()


async def _take_response(work: Work, route: Route, message: Message) -> None:
    await commands.take_response(work, route.device_id, message.payload)


async def _take_update_report(work: Work, route: Route, message: Message) -> None:
    await progress.take_report(work, route.device_id, message.payload, _record_update_notice)


async def _record_update_notice(work: Work, action: str, deployment_id: str, told: dict[str, Any]) -> None:
    """What a deployment did by itself goes into the audit log like what people do."""
    log.warning("deployment_notice", action=action, deployment_id=deployment_id, **told)
    await audit.record(work, "rosfit", action, deployment_id, after=told)


class _Parts:
    """Everything that lives as long as the process, made in the order in which it is needed."""

    def __init__(
        self, settings: Settings, endpoints: Endpoints, pool: Pool, ingest_pool: Pool, store: RedisStore
    ) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._feed = Feed()
        self._metrics = Metrics()
        self._store = store
        self._latest = LatestValues(store)
        self._shadows = HotShadows(store, self._latest.distrust)
        self._open_work = work_opener(pool, self._feed, self._shadows)
        self._vitals = VitalsBook()
        self._layouts = Layouts(settings.layouts)
        self._decoder = Decoder(limits_of(settings), self._layouts)
        self._publisher = BrokerPublisher(endpoints.mqtt_url)
        self._teller = ShadowTeller(self._open_work, self._publisher)
        self._ingest = Ingest(
            open_work=work_opener(ingest_pool, self._feed, self._shadows),
            decoder=self._decoder,
            feed=self._feed,
            latest=self._latest,
            vitals=self._vitals,
            metrics=self._metrics,
            handlers=Handlers(
                ordered={
                    Kind.COMMAND_RESPONSE: _take_response,
                    Kind.SHADOW_GET: self._tell_shadow,
                    Kind.OTA_PROGRESS: _take_update_report,
                    Kind.OTA_RESULT: _take_update_report,
                },
                batched={Kind.SHADOW_REPORTED: self._take_shadow_reports},
                refused=self._teller.refuse,
            ),
        )
        self._dispatcher = Dispatcher(self._open_work, self._publisher, self._layouts)
        self._objects = open_objects(endpoints.objects)
        base = settings.public_url or f"{settings.scheme}://{settings.host}:{settings.port}"
        self._updates = UpdateDispatcher(
            self._open_work, self._publisher, linker(self._objects, base.rstrip("/")), _record_update_notice
        )
        self._periodic = Periodic(
            self._open_work,
            self._vitals,
            settings.heartbeat_timeout_s,
            endpoints.broker_accounts,
            self._objects,
            settings.shadow_history_limit,
        )
        self.edge: Edge

    async def prepare(self) -> None:
        """What must be true before the first request."""
        setup_token = SetupToken(self._settings.data_dir / SETUP_TOKEN_FILE)
        async with self._open_work() as work:
            signer = await accounts.load_signer(work)
            if await accounts.needs_setup(work):
                setup_token.ensure()
            else:
                setup_token.clear()
        await self._periodic.add_partitions()
        if self._endpoints.broker_accounts is not None:
            await self._endpoints.broker_accounts.set_patterns(self._layouts.access_patterns())
            await self._periodic.sync_broker()
        self.edge = self._make_edge(signer, setup_token)

    def _make_edge(self, signer: Signer, setup_token: SetupToken) -> Edge:
        identities = Identities(self._open_work, signer)
        self._feed.subscribe("access", ANY, identities.forget)
        return Edge(
            settings=self._settings,
            open_work=self._open_work,
            hot=self._store,
            shadows=self._shadows,
            feed=self._feed,
            publisher=self._publisher,
            metrics=self._metrics,
            signer=signer,
            identities=identities,
            setup_token=setup_token,
            broker_access=self._endpoints.broker_accounts,
            hash_device_token=hash_password,
            checks=self._checks(),
            replay=self._replay,
            objects=self._objects,
            update_notice=_record_update_notice,
        )

    def _checks(self) -> dict[str, Any]:
        return {
            "database": self._check_database,
            "redis": self._store.check,
            "broker": self._check_broker,
            "objects": self._objects.check,
        }

    async def _check_database(self) -> None:
        async with self._open_work() as work:
            await work.connection.execute("SELECT 1")

    async def _check_broker(self) -> None:
        await check_broker(self._endpoints.mqtt_url)

    async def _replay(self, work: Work, letter: dict[str, Any]) -> None:
        incoming = Incoming(
            topic=letter["topic"],
            payload=bytes(letter["payload"]),
            qos=letter["qos"],
            content_type=letter["content_type"],
            received_at=letter["received_at"],
        )
        parsed = self._decoder.decode(incoming)
        if parsed is None:
            raise StillBadError("It is a message from the server to a device")
        parsed.replayed = True
        outcome = await self._ingest.replay(parsed, work)
        if outcome.batch.dead_letters:
            bad = outcome.batch.dead_letters[0]
            raise StillBadError(f"{bad.reason}: {bad.detail}")

    def loops(self) -> list[tuple[str, Any]]:
        url = self._endpoints.database_url
        changes = notifications(url, CREDENTIALS_CHANGED, CREDENTIALS_EVERY_S)
        return [
            ("latest", self._latest.run()),
            ("replicas", self._store.replicas(self._feed).run()),
            ("vitals", self._periodic.write_vitals()),
            ("periodic", self._periodic.run(lambda: session_lock(url, PERIODIC_LOCK))),
            ("publisher", self._publisher.run()),
            ("dispatch", self._dispatch()),
            ("updates", self._dispatch_updates()),
            ("shadow-answers", self._teller.send_answers()),
            ("shadows", self._teller.run(notifications(url, SHADOWS_CHANGED, SHADOWS_EVERY_S))),
            ("shadow-layers", Refresher(self._open_work).run(notifications(url, LAYERS_CHANGED, LAYERS_EVERY_S))),
            ("signing-keys", signing_keys.follow(self.edge.signer, self._open_work, self._signing_keys_changed())),
            ("broker-accounts", self._periodic.keep_broker_synced(changes)),
            *((f"slot-{slot}", self._hold_slot(slot)) for slot in range(self._settings.ingest_slots)),
        ]

    async def _take_shadow_reports(
        self, work: Work, messages: Sequence[tuple[Route, Message]]
    ) -> list[BadMessageError | None]:
        incoming = [
            reports.Incoming(route.device_id, route.name or DEFAULT_NAME, message.payload)
            for route, message in messages
        ]
        outcomes = await reports.take(work, incoming)

        async def tell() -> None:
            for one, outcome in zip(incoming, outcomes, strict=True):
                if isinstance(outcome, reports.Outcome):
                    what = "reported/accepted" if outcome.accepted else "reported/rejected"
                    self._teller.answer(one.device_id, one.name, what, outcome.answer)
                    if outcome.synced_s is not None:
                        self._metrics.shadow_sync_seconds.observe(outcome.synced_s)

        work.then(tell)
        return [outcome if isinstance(outcome, BadMessageError) else None for outcome in outcomes]

    async def _tell_shadow(self, work: Work, route: Route, message: Message) -> None:
        name = route.name or DEFAULT_NAME
        document = msgspec.to_builtins(await shadow.ask_delta(work, route.device_id, name))
        self._answer_after(work, route.device_id, name, "get/accepted", document)

    def _answer_after(self, work: Work, device_id: str, name: str, what: str, answer: dict[str, Any]) -> None:
        async def answer_now() -> None:
            self._teller.answer(device_id, name, what, answer)

        work.then(answer_now)

    async def _dispatch(self) -> None:
        """Commands are published by one process at a time, in order."""
        url = self._endpoints.database_url

        async def publish() -> None:
            await self._dispatcher.run(notifications(url, COMMANDS_CHANGED, COMMANDS_EVERY_S))

        await hold_lease("command dispatch", lambda: session_lock(url, DISPATCH_LOCK), publish)

    async def _dispatch_updates(self) -> None:
        """Devices are started by one process at a time."""
        url = self._endpoints.database_url

        async def dispatch() -> None:
            await self._updates.run(notifications(url, UPDATES_CHANGED, UPDATES_EVERY_S))

        await hold_lease("update dispatch", lambda: session_lock(url, UPDATES_LOCK), dispatch)

    def _signing_keys_changed(self) -> Any:
        return notifications(self._endpoints.database_url, signing_keys.CHANGED, signing_keys.LOOK_EVERY_S)

    async def _hold_slot(self, slot: int) -> None:
        url = self._endpoints.database_url
        await hold_lease(
            f"ingest slot {slot}", lambda: session_lock(url, SLOT_LOCK + slot), lambda: self._run_slot(slot)
        )

    async def _run_slot(self, slot: int) -> None:
        filters = [INGEST_FILTER, *self._layouts.filters()]
        session = IngestSession(self._endpoints.mqtt_url, slot, self._settings.ingest_slots, filters)
        steps = [session.run(), self._ingest.run(session, slot)]
        if slot == 0:
            steps.append(self._periodic.watch_silence(session.connected_for_s))
        await loops.run_together(*steps)

    async def finish(self) -> None:
        """The last vitals, so that ages are right after a restart."""
        try:
            await asyncio.wait_for(self._periodic.write_vitals_once(), 1.0)
        except (TimeoutError, UnavailableError) as error:
            log.warning("last_vitals_not_written", why=str(error))
