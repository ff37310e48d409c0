"""Samples in streams: stored once, read raw, newest or as a series; logs, frames and dead letters beside them."""
