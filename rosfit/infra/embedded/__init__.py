"""The servers RosFit brings along: PostgreSQL, Valkey and Mosquitto, under the data folder, on loopback.

They run in sessions of their own, so a `kill -9` of RosFit leaves them running; the next start takes them over.
"""
