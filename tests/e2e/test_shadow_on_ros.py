"""Desired state, over REST and from a page, into parameters, services and topics of live ROS, and the truth back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import expect
from rclpy.parameter import Parameter
from std_msgs.msg import String

from tests.dashboard.browser import Complaints, chromium
from tests.dashboard.test_shadow_browser import signed_in
from tests.e2e.ros_site import DEVICE, MarkedRobot, RosSite
from tests.server import running_server, until


def shadow_section(robot: MarkedRobot) -> str:
    return f"""
shadow:
  enabled: true
  map:
    - {{path: nav.max_speed, node: /{robot.name}, parameter: max_speed}}
    - {{path: identity, node: /{robot.name}, names: [name]}}
    - {{path: led, ros_service: {robot.of("set_bool")}, srv_type: std_srvs/SetBool, field: data}}
    - path: mode
      ros_topic: {robot.of("mode/set")}
      msg_type: std_msgs/String
      report_topic: {robot.of("mode")}
      report_type: std_msgs/String
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RosSite]:
    with running_server() as server:
        made = RosSite(server, tmp_path_factory.mktemp("bridge"), shadow_section)
        yield made
        made.close()


def desire(site: RosSite, patch: dict[str, Any]) -> None:
    answer = site.server.admin.patch(
        f"/shadow/{DEVICE}/desired", json=patch, headers={"content-type": "application/merge-patch+json"}
    )
    assert answer.status_code == 200, answer.text


def state(site: RosSite) -> dict[str, Any]:
    return site.server.admin.got(f"/shadow/{DEVICE}")["state"]


def reported(site: RosSite, *path: str) -> Any:
    value = state(site).get("reported", {})
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def test_what_the_robot_has_is_reported_without_being_asked(site: RosSite) -> None:
    until(lambda: reported(site, "nav", "max_speed") == 1.0, 20)
    assert reported(site, "identity") == {"name": "Ada"}


def test_a_desired_value_becomes_a_parameter_and_is_read_back(site: RosSite) -> None:
    desire(site, {"nav": {"max_speed": 1.25}, "identity": {"name": "Eve"}})
    until(lambda: "delta" not in state(site), 20)
    assert site.robot.node.get_parameter("max_speed").value == 1.25
    assert reported(site, "nav", "max_speed") == 1.25
    assert reported(site, "identity", "name") == "Eve"


def test_a_change_on_the_robot_itself_is_reported(site: RosSite) -> None:
    desire(site, {"nav": {"max_speed": 1.5}})
    until(lambda: reported(site, "nav", "max_speed") == 1.5, 20)
    site.robot.node.set_parameters([Parameter("max_speed", value=0.5)])
    until(lambda: reported(site, "nav", "max_speed") == 0.5, 20)
    assert state(site)["delta"] == {"nav": {"max_speed": 1.5}}


@pytest.mark.browser
async def test_a_person_sets_a_parameter_and_sees_what_the_robot_has(site: RosSite) -> None:
    """From the page to the node and back, and from the node to the page, without a reload."""
    complaints = Complaints()
    async with chromium() as browser:
        page = await signed_in(site.server, browser, complaints, f"/robots/{DEVICE}/shadow")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="nav.max_speed", exact=True))
        await page.get_by_role("link", name="Edit desired").click()
        await page.get_by_role("textbox", name="max_speed number").fill("1.75")
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Save").click()
        await expect(row.get_by_role("cell").nth(1)).to_contain_text("1.75", timeout=20_000)
        await expect(page.get_by_role("heading", name="In sync")).to_be_visible()
        assert site.robot.node.get_parameter("max_speed").value == 1.75
        site.robot.set("max_speed", 0.25)
        await expect(row.get_by_role("cell").nth(1)).to_contain_text("0.25", timeout=20_000)
        await expect(row.get_by_role("cell").nth(2)).to_contain_text("1.75")
        await expect(page.get_by_role("heading", name="Pending for")).to_be_visible()
    assert complaints.lines == []


def test_a_value_that_the_robot_refuses_shows_up_with_the_reason_until_it_is_withdrawn(site: RosSite) -> None:
    desire(site, {"nav": {"max_speed": 9.0}, "identity": {"colour": "red"}})
    refused = until(lambda: reported(site, "_refused"), 20)
    until(lambda: len(reported(site, "_refused")) == 2, 20)
    refused = reported(site, "_refused")
    assert refused["nav.max_speed"] == {"value": 9.0, "reason": "faster than the motors"}
    assert "does not allow" in refused["identity.colour"]["reason"]
    assert reported(site, "nav", "max_speed") != 9.0
    desire(site, {"nav": {"max_speed": 1.0}, "identity": {"colour": None}})
    until(lambda: reported(site, "_refused") is None, 20)
    assert reported(site, "nav", "max_speed") == 1.0


def test_a_service_confirms_and_a_topic_tells_the_truth(site: RosSite) -> None:
    heard: list[str] = []
    node = site.robot.node
    truth = node.create_publisher(String, site.robot.of("mode"), 10)

    def obey(message: String) -> None:
        heard.append(message.data)
        truth.publish(String(data=f"{message.data}, slowly"))

    node.create_subscription(String, site.robot.of("mode/set"), obey, 10)
    desire(site, {"led": True, "mode": "dock"})
    until(lambda: reported(site, "led") is True and reported(site, "mode") == "dock, slowly", 20)
    assert heard == ["dock"]
    desire(site, {"led": False})
    until(lambda: (reported(site, "_refused", "led") or {}).get("reason") == "I will not", 20)
    assert reported(site, "led") is True
    desire(site, {"led": None, "mode": None})


def test_what_was_desired_while_the_bridge_was_dead_is_there_when_it_lives(site: RosSite) -> None:
    site.bridge.kill()
    for speed in (0.7, 0.8, 0.9):
        desire(site, {"nav": {"max_speed": speed}})
    site.robot.node.set_parameters([Parameter("name", value="Zoe")])
    site.bridge.start()
    until(lambda: reported(site, "nav", "max_speed") == 0.9, 30)
    until(lambda: reported(site, "identity", "name") == "Eve", 20)
    until(lambda: "delta" not in state(site), 20)
    assert site.robot.node.get_parameter("name").value == "Eve"


def test_nothing_is_reported_that_is_reported_already(site: RosSite) -> None:
    version = site.server.admin.got(f"/shadow/{DEVICE}")["version"]
    site.bridge.kill()
    site.bridge.start()
    site.done("ping", queue=True)
    desire(site, {"nav": {"max_speed": 0.6}})
    until(lambda: reported(site, "nav", "max_speed") == 0.6, 20)
    # One for what was desired, one for what was reported of it.
    assert site.server.admin.got(f"/shadow/{DEVICE}")["version"] == version + 2
