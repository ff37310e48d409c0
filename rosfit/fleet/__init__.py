"""Devices: registration, presence, credentials and the vitals that lists show."""
