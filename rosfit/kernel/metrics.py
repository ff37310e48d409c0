"""What Prometheus reads at `/metrics`. One registry per application, handed in where things happen."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Every metric of RosFit, by the part that counts it."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.received = Counter("rosfit_mqtt_messages_received", "MQTT messages received", registry=registry)
        self.stored = Counter("rosfit_samples_stored", "Samples committed to the database", registry=registry)
        self.duplicates = Counter("rosfit_samples_duplicate", "Samples that were stored before", registry=registry)
        self.dropped = Counter(
            "rosfit_samples_dropped", "QoS 0 samples dropped because the stream's queue was full", registry=registry
        )
        self.dead_letters = Counter(
            "rosfit_dead_letters", "Messages kept as dead letters", ["reason"], registry=registry
        )
        self.pending = Gauge("rosfit_ingest_pending", "Messages that wait to be written", registry=registry)
        self.pending_bytes = Gauge("rosfit_ingest_pending_bytes", "Their payload bytes", registry=registry)
        self.connected = Gauge(
            "rosfit_ingest_connected", "1 while the slot's session is connected", ["slot"], registry=registry
        )
        self.commit_seconds = Histogram(
            "rosfit_ingest_commit_seconds", "Time of one ingest transaction", buckets=_LATENCY_S, registry=registry
        )
        self.batch_messages = Histogram(
            "rosfit_ingest_batch_messages",
            "Messages per ingest transaction",
            buckets=(1, 10, 50, 100, 250, 500, 1000, 2000),
            registry=registry,
        )
        self.write_retries = Counter(
            "rosfit_ingest_write_retries", "Ingest transactions that had to be tried again", registry=registry
        )
        self.devices = Gauge("rosfit_devices", "Devices by status", ["status"], registry=registry)
        self.deployments = Gauge("rosfit_deployments", "Deployments by status", ["status"], registry=registry)
        self.updates = Gauge(
            "rosfit_device_deployments", "Devices of open deployments by status", ["status"], registry=registry
        )
        self.stopped_deployments = Gauge(
            "rosfit_deployments_stopped", "Deployments that their failure threshold has stopped", registry=registry
        )
        self.shadow_sync_seconds = Histogram(
            "rosfit_shadow_sync_seconds",
            "From a change of desired until the device has reported it",
            buckets=(*_LATENCY_S, 30, 60, 300, 1800, 3600, 86_400),
            registry=registry,
        )
        self.websockets = Gauge("rosfit_websocket_connections", "Open WebSocket connections", registry=registry)
        self.websocket_messages = Counter(
            "rosfit_websocket_messages_sent", "Messages sent to WebSocket clients", registry=registry
        )
        self.requests = Histogram(
            "rosfit_http_request_seconds",
            "HTTP requests by route",
            ["method", "route", "status"],
            buckets=_LATENCY_S,
            registry=registry,
        )
