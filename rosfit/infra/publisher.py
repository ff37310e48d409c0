"""Messages to devices: one connection of this process to the broker, kept up; implements `Publisher`."""

from __future__ import annotations

import asyncio
import random

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rosfit.infra.mqtt import make_client
from rosfit.kernel.errors import UnavailableError
from rosfit.kernel.ids import uuid7

log = structlog.get_logger(__name__)

# What may be unanswered at a time before aiomqtt warns; a batch of commands is 64.
PENDING_CALLS = 1_000


class BrokerPublisher:
    def __init__(self, url: str) -> None:
        self._url = url
        self._client: aiomqtt.Client | None = None

    async def run(self) -> None:
        """Connect, and connect again with backoff and jitter, until cancelled."""
        delay_s = 0.1
        while True:
            try:
                async with make_client(self._url, f"rosfit-publish-{uuid7().hex[-12:]}") as client:
                    client.pending_calls_threshold = PENDING_CALLS
                    client._client.disable_logger()
                    self._client = client
                    delay_s = 0.1
                    await client._disconnected
            except (aiomqtt.MqttError, OSError) as error:
                log.warning("publisher_disconnected", why=str(error))
            finally:
                self._client = None
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            delay_s = min(delay_s * 2, 2.0)

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
    ) -> None:
        client = self._client
        if client is None:
            raise UnavailableError("the MQTT broker is not connected; try again shortly")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expiry_s is not None:
            properties.MessageExpiryInterval = expiry_s
        if content_type is not None:
            properties.ContentType = content_type
        if response_topic is not None:
            properties.ResponseTopic = response_topic
        if correlation_data is not None:
            properties.CorrelationData = correlation_data
        try:
            await client.publish(topic, payload, qos, retain, properties)
        except (aiomqtt.MqttError, ValueError, RuntimeError) as error:
            raise UnavailableError(f"the MQTT broker did not take a message ({error})") from error
