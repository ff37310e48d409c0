"""The wire: topics, envelopes, payloads. Nobody else writes a topic string."""
