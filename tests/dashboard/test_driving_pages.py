"""Commands, the emergency stop, the stick, parameters, bulk commands and tasks: a browser, a server and a device."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.commands.test_commands import Device
from tests.dashboard.browser import DESK, PHONE, SHARED_LOOP, Complaints, new_page
from tests.server import ADMIN_EMAIL, PASSWORD, RunningServer, running_server

pytestmark = [pytest.mark.browser, SHARED_LOOP, pytest.mark.timeout(60)]

OFFERS = {
    "commands": [
        {"name": "set_light", "kind": "service", "type": "std_srvs/SetBool", "request": {"data": "bool"}},
        {
            "name": "navigate_to",
            "kind": "action",
            "type": "nav2_msgs/NavigateToPose",
            "request": {
                "pose": {"x": "float64", "y": "float64"},
                "behavior_tree": "string",
                "retries": "uint8",
                "via": ["string"],
            },
        },
        {
            "name": "calibrate",
            "kind": "service",
            "type": "sensor_msgs/SetCameraInfo",
            "request": {
                "matrix": ["float64", 2],
                "wide": ["float64", 12],
                "turn": dict.fromkeys("xyzw", "float64"),
                "id": "uint8",
            },
        },
        {"name": "ping", "kind": "builtin", "type": "", "request": {}},
        {"name": "list_graph", "kind": "builtin", "type": "", "request": {}},
    ],
    "topics": [],
    "parameters": ["/planner"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ROSFIT_RATE_LIMIT_PER_S="100000") as running:
        yield running


class Answering:
    """A robot that answers as it is told to, and keeps what it was asked and how it was driven."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.asked: queue.Queue[dict[str, Any]] = queue.Queue()
        self.driven: queue.Queue[tuple[float, float]] = queue.Queue()
        self.answers: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
            "list_graph": lambda _: [{"status": "succeeded", "result": OFFERS}]
        }
        device.client.on_message = lambda _client, _userdata, message: self._take(message)
        self._ready: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._answer_all)
        self._thread.start()

    def _take(self, message: Any) -> None:
        payload = json.loads(message.payload)["payload"]
        if message.topic.endswith("cmd/cmd_vel"):
            self.driven.put((payload["linear"]["x"], payload["angular"]["z"]))
        elif message.topic.endswith("cmd/request"):
            if payload["command"] not in {"list_graph", "get_parameters"}:
                self.asked.put(payload)
            self._ready.put(payload)

    def _answer_all(self) -> None:
        while (request := self._ready.get()) is not None:
            for answer in self.answers.get(request["command"], lambda _: [])(request):
                self.device.answer(request, **answer)

    def stop(self) -> None:
        self._ready.put(None)
        self._thread.join()

    async def next_asked(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.asked.get, timeout=10)

    async def next_driven(self) -> tuple[float, float]:
        return await asyncio.to_thread(self.driven.get, timeout=5)

    async def driven_until(self, wanted: tuple[float, float]) -> list[tuple[float, float]]:
        """Every velocity up to the wanted one."""
        found = [await self.next_driven()]
        while found[-1] != wanted:
            assert len(found) < 200, f"driven at {sorted(set(found))} and never at {wanted}"
            found.append(await self.next_driven())
        return found

    async def stands_still(self) -> None:
        """Zero has come, and nothing else comes after it."""
        await self.driven_until((0.0, 0.0))
        await asyncio.sleep(0.3)
        while not self.driven.empty():
            assert self.driven.get() == (0.0, 0.0)


@contextmanager
def robot(server: RunningServer, device_id: str, **fields: Any) -> Iterator[Answering]:
    with Device(server, device_id, "cmd/#", **fields) as device:
        answering = Answering(device)
        try:
            yield answering
        finally:
            answering.stop()


async def open_page(
    server: RunningServer, browser: Browser, complaints: Complaints, path: str, email: str = ADMIN_EMAIL, **look: Any
) -> Page:
    page = await new_page(browser, complaints, **look)
    assert server.admin
    await page.goto(f"{server.url}/sign-in?next={path}")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{server.url}{path}")
    return page


# Commands


async def test_a_typed_form_asks_the_robot_and_shows_each_step_and_the_result(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-1") as bot:
        page = await open_page(server, browser, complaints, "/robots/p-1")
        form = page.locator("#command-form")
        await form.get_by_role("combobox", name="Command").select_option("navigate_to")
        await form.locator("[name='x']").fill("1.5")
        await form.locator("[name='y']").fill("-2")
        await form.locator("[name='retries']").fill("3")
        await form.get_by_role("button", name="Add").click()
        await form.locator("[name='0']").fill("dock")
        await form.get_by_role("button", name="Send").click()
        request = await bot.next_asked()
        assert request["command"] == "navigate_to"
        data = {"pose": {"x": 1.5, "y": -2}, "behavior_tree": "", "retries": 3, "via": ["dock"]}
        assert request["data"] == data
        row = page.locator(f"[data-id='{request['command_id']}']")
        await expect(row).to_have_attribute("data-status", "delivered")
        bot.device.answer(request, "in_progress", progress=0.4)
        await expect(row.get_by_role("progressbar")).to_have_attribute("value", "0.4", timeout=3000)
        await row.locator("summary").click()
        bot.device.answer(request, "succeeded", result={"at": "dock"})
        await expect(row).to_have_attribute("data-status", "succeeded")
        steps = row.locator(".steps li")
        assert await steps.evaluate_all("all => all.map((one) => one.dataset.status)") == [
            "pending",
            "delivered",
            "acked",
            "in_progress",
            "succeeded",
        ]
        await expect(row.locator(".command-facts")).to_contain_text('"at": "dock"')
        await row.get_by_role("button", name="Run again").click()
        again = await bot.next_asked()
        assert (again["command"], again["data"]) == ("navigate_to", data)
        assert again["command_id"] != request["command_id"]
    assert complaints.lines == []


async def test_a_form_has_the_fields_of_the_message_in_their_order_and_number(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-form") as bot:
        page = await open_page(server, browser, complaints, "/robots/p-form")
        form = page.locator("#command-form")
        choice = form.get_by_role("combobox", name="Command")
        await expect(choice.locator("option").first).to_have_text("Choose a command…")
        await expect(form.get_by_role("button", name="Send")).to_be_disabled()
        await choice.select_option("calibrate")
        names = await form.locator(".typed-fields [name]").evaluate_all("all => all.map((one) => one.name)")
        assert names == ["0", "1", "wide", *"xyzw", "id"]
        await form.locator("[name='1']").fill("2.5")
        await form.get_by_role("button", name="Send").click()
        turn = {"x": 0, "y": 0, "z": 0, "w": 1}
        assert (await bot.next_asked())["data"] == {"matrix": [0, 2.5], "wide": [0] * 12, "turn": turn, "id": 0}
    assert complaints.lines == []


async def test_a_command_under_way_is_cancelled_and_a_refusal_says_why(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-2") as bot:
        bot.answers["set_light"] = lambda _: [
            {"status": "rejected", "error": {"code": "NOT_ALLOWED", "message": "the lamp is broken"}}
        ]
        page = await open_page(server, browser, complaints, "/robots/p-2")
        form = page.locator("#command-form")
        await form.get_by_role("combobox", name="Command").select_option("set_light")
        await form.locator("[name=data]").check()
        await form.get_by_role("button", name="Send").click()
        assert (await bot.next_asked())["data"] == {"data": True}
        await expect(page.locator(".command-row").first).to_contain_text("the lamp is broken")
        await form.get_by_role("combobox", name="Command").select_option("navigate_to")
        await form.get_by_role("button", name="Send").click()
        request = await bot.next_asked()
        bot.device.answer(request, "in_progress")
        row = page.locator(f"[data-id='{request['command_id']}']")
        await row.locator("summary").click()
        await row.get_by_role("button", name="Cancel").click()
        assert (await bot.next_asked())["command"] == "cancel"
        bot.device.answer(request, "cancelled")
        await expect(row).to_have_attribute("data-status", "cancelled")
    assert complaints.lines == []


@pytest.mark.full
async def test_a_robot_that_is_away_gets_it_when_it_is_back(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-3", type="mqtt_device") as bot:
        page = await open_page(server, browser, complaints, "/robots/p-3")
        await asyncio.to_thread(bot.device.leave)
        await expect(page.locator("#head-status")).to_have_text("Offline")
        form = page.locator("#command-form")
        await form.get_by_label("Name").fill("blink")
        await form.get_by_label("Data").fill('{"times": [')
        await form.get_by_role("button", name="Queue").click()
        await expect(form).to_contain_text("Data is not JSON")
        await form.get_by_label("Data").fill('{"times": 3}')
        await form.get_by_role("button", name="Queue").click()
        await expect(form).to_contain_text("blink waits for the robot")
        await expect(page.locator(".command-row")).to_have_attribute("data-status", "pending")
        await expect(page.locator(".command-row")).to_contain_text('{"times":3}')
    assert complaints.lines == []


async def test_a_viewer_reads_commands_and_can_send_none(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-4"):
        server.user("viewer")
        email = server.admin.got("/users")["items"][-1]["email"]
        page = await open_page(server, browser, complaints, "/robots/p-4", email)
        await expect(page.locator("#command-list")).to_contain_text("No commands yet")
        for what in ("#command-form", "#emergency-stop", "#drive"):
            await expect(page.locator(what)).to_have_count(0)
    assert complaints.lines == []


# The emergency stop


async def test_one_press_stops_and_says_whether_the_robot_knows(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-5") as bot:
        page = await open_page(server, browser, complaints, "/robots/p-5")
        await page.get_by_role("button", name="Emergency stop").click()
        request = await bot.next_asked()
        assert request["command"] == "emergency_stop"
        note = page.locator("#stop-note")
        await expect(note).to_contain_text("Stop delivered")
        bot.device.answer(request, "succeeded")
        await expect(note).to_contain_text("confirmed the stop")
        await asyncio.to_thread(bot.device.leave)
        await expect(page.locator("#head-status")).to_have_text("Offline")
        await page.get_by_role("button", name="Emergency stop").click()
        await expect(note).to_contain_text("NOT DELIVERED: the robot is offline")
    actions = [entry["action"] for entry in server.admin.got("/audit", target="p-5")["items"]]
    assert actions.count("command.send") == 2
    assert complaints.lines == []


async def test_the_stop_is_sent_again_until_the_server_has_it(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "p-6") as bot:
        page = await open_page(server, browser, complaints, "/robots/p-6")
        await page.context.set_offline(True)
        await page.get_by_role("button", name="Emergency stop").click()
        await expect(page.locator("#stop-note")).to_contain_text("Trying again")
        await page.context.set_offline(False)
        assert (await bot.next_asked())["command"] == "emergency_stop"


# Driving


async def take_the_stick(page: Page, name: str = "Take the stick") -> None:
    await expect(page.locator("#driver")).not_to_have_text("")
    await page.get_by_role("button", name=name).click()
    await expect(page.locator("#drive")).to_have_attribute("data-state", "held")


async def push(page: Page, x: float, y: float) -> None:
    """Put the pointer on the stick and pull it; 1 is its edge."""
    pad = page.locator("#pad")
    await pad.scroll_into_view_if_needed()
    box = await pad.bounding_box()
    assert box
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await page.mouse.move(*middle)
    await page.mouse.down()
    await page.mouse.move(middle[0] + x * box["width"], middle[1] - y * box["height"], steps=4)


async def test_the_stick_drives_while_it_is_held_and_no_longer(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    limits = {"teleop": {"linear_x": 0.8, "angular_z": 1.6}}
    with robot(server, "t-1", metadata=limits) as bot:
        page = await open_page(server, browser, complaints, "/robots/t-1")
        await expect(page.locator("#driver")).to_have_text("Nobody drives")
        await take_the_stick(page)
        await expect(page.locator("#driver")).to_have_text("You drive")
        await page.get_by_role("button", name="Medium").click()
        await push(page, 0, 1)
        await bot.driven_until((0.4, 0.0))
        sent = [await bot.next_driven() for _ in range(10)]
        assert set(sent) == {(0.4, 0.0)}
        await expect(page.locator("#drive-commanded")).to_have_text("0.40 m/s · 0.00 rad/s")
        bot.device.say("telemetry/odom", {"twist": {"twist": {"linear": {"x": 0.39}, "angular": {"z": 0.01}}}})
        await expect(page.locator("#drive-measured")).to_have_text("0.39 m/s · 0.01 rad/s")
        await page.mouse.up()
        await bot.stands_still()
        await push(page, -1, 0)
        await bot.driven_until((0.0, 0.8))
        await page.get_by_role("button", name="Stop", exact=True).first.dispatch_event("click")
        await bot.stands_still()
        await page.mouse.up()
    assert complaints.lines == []


async def test_keys_drive_while_they_are_held_and_space_stops(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "t-2") as bot:
        page = await open_page(server, browser, complaints, "/robots/t-2")
        await page.keyboard.press("w")
        await take_the_stick(page)
        await page.keyboard.down("w")
        await bot.driven_until((0.25, 0.0))
        await page.keyboard.down("ArrowLeft")
        await bot.driven_until((0.25, 0.5))
        await page.keyboard.press("Space")
        await bot.stands_still()
        await page.keyboard.up("w")
        await page.keyboard.up("ArrowLeft")
        await page.keyboard.down("s")
        await bot.driven_until((-0.25, 0.0))
        await page.keyboard.up("s")
        await bot.stands_still()
        await page.locator("#command-form input").first.focus()
        await page.keyboard.press("w")
        await asyncio.sleep(0.1)
        assert bot.driven.empty()
    assert complaints.lines == []


HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.mark.full
async def test_a_hidden_page_stands_still_and_does_not_drive_on_when_it_is_back(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "t-3") as bot:
        page = await open_page(server, browser, complaints, "/robots/t-3")
        await take_the_stick(page)
        await push(page, 0, 1)
        await bot.driven_until((0.25, 0.0))
        await page.evaluate(HIDE, True)
        await bot.stands_still()
        await page.evaluate(HIDE, False)
        await page.mouse.move(5, 5)
        await asyncio.sleep(0.2)
        assert bot.driven.empty()
        await page.mouse.up()
        await push(page, 0, 1)
        await bot.driven_until((0.25, 0.0))
        await page.close()
        await bot.stands_still()
    assert complaints.lines == []


async def test_a_lost_line_stands_still_and_must_be_pushed_anew(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    """The page connects again by itself, and the finger that is still down does nothing."""
    with robot(server, "t-4") as bot:
        page = await new_page(browser, complaints)
        sockets: list[Any] = []

        def route(ws: Any) -> None:
            ws.connect_to_server()
            sockets.append(ws)

        await page.route_web_socket("**/ws/teleop/*", route)
        await page.goto(f"{server.url}/sign-in?next=/robots/t-4")
        await page.get_by_label("E-mail").fill(ADMIN_EMAIL)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Sign in").click()
        await take_the_stick(page)
        await push(page, 0, 1)
        await bot.driven_until((0.25, 0.0))
        await sockets[0].close(code=1001)
        await bot.stands_still()
        await expect(page.locator("#drive-note")).to_contain_text("The line was lost")
        await expect(page.locator("#drive")).to_have_attribute("data-state", "held", timeout=10_000)
        await page.mouse.move(300, 300)
        await asyncio.sleep(0.3)
        assert all(one == (0.0, 0.0) for one in list(bot.driven.queue))
    assert complaints.lines == []


async def test_the_emergency_stop_takes_the_stick_away(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "t-5") as bot:
        page = await open_page(server, browser, complaints, "/robots/t-5")
        await take_the_stick(page)
        await page.keyboard.down("w")
        await bot.driven_until((0.25, 0.0))
        await page.get_by_role("button", name="Emergency stop").click()
        assert (await bot.next_asked())["command"] == "emergency_stop"
        await bot.stands_still()
        await expect(page.locator("#drive")).to_have_attribute("data-state", "off")
    assert complaints.lines == []


@pytest.mark.full
async def test_others_see_who_drives_and_may_take_over(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "t-6"):
        server.user("operator")
        email = server.admin.got("/users")["items"][-1]["email"]
        first = await open_page(server, browser, complaints, "/robots/t-6")
        await take_the_stick(first)
        other = await open_page(server, browser, complaints, "/robots/t-6", email)
        await expect(other.locator("#driver")).to_have_text("Ada drives")
        await take_the_stick(other, "Take over")
        await expect(first.locator("#drive-note")).to_contain_text("Somebody else has taken the stick")
        await expect(first.locator("#driver")).to_have_text("operator drives")
        await other.get_by_role("button", name="Let go").click()
        await expect(first.locator("#driver")).to_have_text("Nobody drives")
    actions = [entry["action"] for entry in server.admin.got("/audit", target="t-6")["items"]]
    assert "teleop.take_over" in actions
    assert complaints.lines == []


# Parameters


async def test_parameters_are_changed_in_place_and_follow_the_robot(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    values = {"/planner": {"max_speed": 0.5, "use_map": True, "frame": "map"}}

    def change(request: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = request["data"]["params"][0]
        if wanted["value"] == 99:
            return [{"status": "failed", "error": {"code": "REFUSED", "message": "max_speed is at most 2"}}]
        told = {"node": wanted["node"], "name": wanted["name"], "old_value": 0.5, "new_value": wanted["value"]}
        return [{"status": "succeeded", "result": {"params": [told]}}]

    with robot(server, "m-1") as bot:
        bot.answers["get_parameters"] = lambda _: [{"status": "succeeded", "result": values}]
        bot.answers["set_parameters"] = change
        page = await open_page(server, browser, complaints, "/robots/m-1")
        await page.get_by_role("button", name="Read from the robot").click()
        row = page.locator(".parameter", has_text="max_speed")
        await row.get_by_role("button").click()
        await page.keyboard.type("99")
        await page.keyboard.press("Enter")
        await expect(row).to_contain_text("max_speed is at most 2")
        await row.get_by_label("max_speed").fill("1.25")
        await page.keyboard.press("Enter")
        await expect(row.locator("button.parameter-text")).to_have_text("1.25")
        refused, taken = await bot.next_asked(), await bot.next_asked()
        assert refused["data"]["params"][0]["value"] == 99
        assert taken["data"]["params"] == [{"node": "/planner", "name": "max_speed", "value": 1.25}]
    # The browser tells of every answer that is not 2xx.
    assert [line for line in complaints.lines if "409" not in line] == []


# All of it


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
async def test_pages_fit_their_screen(
    server: RunningServer, browser: Browser, complaints: Complaints, phone: bool
) -> None:
    device_id = f"f-{'phone' if phone else 'desk'}"
    with robot(server, device_id, name="A robot with a rather long name " * 3) as bot:
        bot.answers["get_parameters"] = lambda _: [
            {"status": "succeeded", "result": {"/a/" + "long" * 30: {"name" * 20: "value " * 40}}}
        ]
        page = await open_page(server, browser, complaints, f"/robots/{device_id}", phone=phone)
        await page.locator("#command-form").scroll_into_view_if_needed()
        await expect(page.get_by_role("combobox", name="Command")).to_contain_text("set_light")
        await page.get_by_role("button", name="Read from the robot").click()
        await expect(page.locator(".parameter")).to_have_count(1)
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= (PHONE if phone else DESK)["width"]
        if phone:
            pad = await page.locator("#pad").bounding_box()
            assert pad
            assert pad["width"] >= 180
    assert complaints.lines == []


# One command for many, and tasks


@pytest.mark.full
async def test_one_command_for_many_shows_who_is_left_out_and_each_one_s_progress(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    server.admin.device("b-3", tags=["hall"])
    with robot(server, "b-1", tags=["hall"]) as one, robot(server, "b-2", tags=["hall"]) as two:
        page = await open_page(server, browser, complaints, "/?tag=hall")
        await page.get_by_role("button", name="Send command").click()
        look = page.locator("#bulk-look")
        await expect(look).to_contain_text("2 robots would get it: b-1, b-2")
        await look.locator("summary").click()
        await expect(look).to_contain_text("b-3 has never connected")
        await page.get_by_role("textbox", name="Query").fill("tag:nothing")
        await expect(look).to_contain_text("0 robots")
        await page.get_by_role("textbox", name="Query").fill("tag:hall")
        await expect(look).to_contain_text("2 robots")
        await page.get_by_label("Command", exact=True).fill("return_to_dock")
        await page.locator("#dialog-body textarea").fill('{"fast": true}')
        await page.get_by_role("button", name="Send", exact=True).click()
        first, second = await one.next_asked(), await two.next_asked()
        assert (first["command"], first["data"]) == ("return_to_dock", {"fast": True})
        await expect(page.locator("#bulk-b-1")).to_have_attribute("data-status", "delivered")
        one.device.answer(first, "succeeded")
        two.device.answer(second, "failed", error={"code": "E7", "message": "the dock is taken"})
        await expect(page.locator("#bulk-b-1")).to_have_attribute("data-status", "succeeded")
        await expect(page.locator("#bulk-b-2")).to_contain_text("the dock is taken")
        await expect(page.locator("#bulk-rows")).to_contain_text("2 of 2 ended")
    assert [entry["action"] for entry in server.admin.got("/audit", action="command.bulk")["items"]]
    assert complaints.lines == []


@pytest.mark.full
async def test_tasks_queue_run_end_and_are_cancelled_on_a_live_page(
    server: RunningServer, browser: Browser, complaints: Complaints
) -> None:
    with robot(server, "q-1") as bot:
        page = await open_page(server, browser, complaints, "/tasks")
        for name in ("deliver", "sweep"):
            await page.get_by_role("button", name="New task").click()
            await page.get_by_label("Type").fill(name)
            await page.get_by_label("Robot", exact=True).fill("q-1")
            await page.get_by_label("Parameters").fill('{"to": "A"}')
            await page.get_by_role("button", name="Queue it").click()
            await expect(page.locator("#add-dialog")).to_be_hidden()
        request = await bot.next_asked()
        assert (request["command"], request["data"]) == ("deliver", {"to": "A"})
        running = page.locator("[data-status=running]")
        await expect(running).to_contain_text("deliver", timeout=10_000)
        waiting = page.get_by_label("Queue of q-1")
        await expect(waiting).to_contain_text("sweep")
        bot.device.answer(request, "failed", error={"code": "E1", "message": "no shelf"})
        await expect(page.locator("[data-status=failed]")).to_contain_text("no shelf", timeout=10_000)
        await expect(running).to_contain_text("sweep", timeout=10_000)
        await running.get_by_role("button", name="Cancel").click()
        asked = [await bot.next_asked(), await bot.next_asked()]
        assert [one["command"] for one in asked] == ["sweep", "cancel"]
        bot.device.answer(asked[0], "cancelled")
        await expect(page.locator("[data-status=cancelled]")).to_contain_text("sweep", timeout=10_000)
    assert complaints.lines == []
