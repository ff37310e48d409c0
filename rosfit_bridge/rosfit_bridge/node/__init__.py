"""The bridge inside the ROS graph."""
