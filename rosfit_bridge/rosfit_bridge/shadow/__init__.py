"""The robot's side of its shadow: what is desired goes into the ROS graph, what really is goes back."""
