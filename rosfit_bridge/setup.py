import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "rosfit_bridge"
HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / NAME / "__init__.py").read_text()).group(1)

setup(
    name=NAME,
    version=VERSION,
    description="Connects a ROS 2 graph to a RosFit server over MQTT",
    license="Apache-2.0",
    maintainer="RosFit maintainers",
    maintainer_email="maintainers@rosfit.invalid",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    # rclpy and the messages come with ROS 2 and are not on every index under one name.
    install_requires=["cryptography", "numpy", "paho-mqtt>=1.6,<3", "psutil", "PyYAML"],
    extras_require={"fast": ["orjson", "pybase64"], "test": ["pytest", "hypothesis"]},
    zip_safe=True,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/bridge.launch.py"]),
        (f"share/{NAME}/config", ["config/rosfit-bridge.yaml"]),
        # `ros2 run rosfit_bridge bridge` looks here, whichever way the package was installed.
        (f"lib/{NAME}", ["scripts/bridge"]),
    ],
    entry_points={"console_scripts": ["rosfit-bridge = rosfit_bridge.main:main"]},
)
