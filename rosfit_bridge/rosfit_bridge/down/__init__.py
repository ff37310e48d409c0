"""The way down: commands and velocities from the cloud. Nothing here touches rclpy."""
