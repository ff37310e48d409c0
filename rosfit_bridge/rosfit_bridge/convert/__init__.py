"""ROS messages to JSON-ready values and back, compiled once per message type."""
