"""The robot's end of RosFit: a ROS 2 graph in, MQTT out."""

__version__ = "0.1.0"
