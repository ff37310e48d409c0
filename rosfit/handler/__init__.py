"""MQTT in: consume → decode → route → handle → commit → acknowledge."""
