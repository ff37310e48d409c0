"""A ROS node that drives in a circle: odometry, battery and camera, until it is ended. Run as a process of its own."""

from __future__ import annotations

import io
import math
import time

import rclpy
from nav_msgs.msg import Odometry
from PIL import Image
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import BatteryState, CompressedImage

ODOMETRY_HZ = 20


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 40, 40)).save(buffer, "JPEG")
    return buffer.getvalue()


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("robot")
    quality = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
    odometry = node.create_publisher(Odometry, "/odom", quality)
    battery = node.create_publisher(BatteryState, "/battery", quality)
    camera = node.create_publisher(CompressedImage, "/camera/compressed", quality)
    jpeg = picture()
    for tick in range(1 << 40):
        message = Odometry()
        message.header.stamp = node.get_clock().now().to_msg()
        message.pose.pose.position.x = 5 * math.cos(tick / 40)
        message.pose.pose.position.y = 5 * math.sin(tick / 40)
        message.twist.twist.linear.x = 1 + 0.5 * math.sin(tick / 15)
        odometry.publish(message)
        if tick % ODOMETRY_HZ == 0:
            battery.publish(BatteryState(percentage=0.9 - tick * 1e-5, voltage=24.2))
            camera.publish(CompressedImage(format="jpeg", data=jpeg))
        time.sleep(1 / ODOMETRY_HZ)


if __name__ == "__main__":
    main()
