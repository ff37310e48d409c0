"""Simulated robots: a pure model of a robot on a floor plan, and the MQTT wire of a real one around it."""
