"""RosFit: run a fleet of ROS 2 robots from one process."""

__version__ = "0.1.0"
