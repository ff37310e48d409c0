"""A backlog stays with the broker, whatever it makes of the receive-maximum."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rosfit.infra.mqtt import PAUSE_ABOVE, IngestSession
from rosfit.infra.publish_tap import READ_BYTES
from rosfit.sim.accounts import RobotAccount
from tests.load.broker import running_broker
from tests.load.plan import Load
from tests.load.publisher import Publisher

BACKLOG = 20_000


async def test_no_more_is_taken_than_can_be_kept(tmp_path: Path) -> None:
    with running_broker(tmp_path) as broker:
        session = IngestSession(broker.url, 0, 1, ["rosfit/+/#"])
        running = asyncio.create_task(session.run())
        while not session.connected_for_s():
            await asyncio.sleep(0.01)
        load = Load("127.0.0.1", broker.port, [RobotAccount("d1")], messages=BACKLOG, qos=1, size=300)
        await Publisher(load).run()
        taken = waiting = 0
        # One read may bring what was on its way when the session stopped reading.
        most = PAUSE_ABOVE + READ_BYTES // 300
        while taken < BACKLOG:
            batch = await asyncio.wait_for(session.receive(), 10)
            waiting = len(batch)
            assert waiting <= most
            taken += waiting
            session.acknowledge(batch)
        running.cancel()
    assert taken == BACKLOG
