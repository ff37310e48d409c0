"""`ros2 launch rosfit_bridge bridge.launch.py config:=/etc/rosfit/rosfit-bridge.yaml`"""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("config", description="path of rosfit-bridge.yaml"),
            DeclareLaunchArgument("respawn", default_value="true", description="start again after a crash"),
            Node(
                package="rosfit_bridge",
                executable="bridge",
                arguments=["--config", LaunchConfiguration("config")],
                output="screen",
                respawn=LaunchConfiguration("respawn"),
                respawn_delay=2.0,
            ),
        ]
    )
