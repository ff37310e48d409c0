"""Adapters behind the ports: PostgreSQL, Redis, MQTT, the object store, embedded servers."""
