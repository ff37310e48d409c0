"""Actions through a real broker and the real bridge: goal, feedback, result, refusal, cancelling, killing."""

import threading
import time

import action_type
import pytest
from bridge_rig import BridgeProcess, wait_until
from down_rig import Cloud, LiveRobot
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.context import Context
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node


class CountingRobot(LiveRobot):
    """Counts to `target`, refuses negative targets, gives up above 900."""

    def __init__(self):
        super().__init__()
        from rosfit_test_interfaces.action import CountUntil

        self.type = CountUntil
        self.counts = []
        self.asked, self.ended, self.closing = 0, 0, False  # ended: cancelled goals
        self.decide = threading.Event()  # set: goals are judged as they come
        self.decide.set()
        ActionServer(
            self.node,
            CountUntil,
            self.of("count"),
            self._count,
            goal_callback=self._judge_goal,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def config(self, port, spool, **options):
        count = f"command: count, ros_action: {self.of('count')}, action_type: {action_type.TYPE}"
        actions = (
            f"  actions:\n    - {{{count}, progress_field: percent, progress_max: 100}}\n"
            f"    - {{{count.replace('command: count', 'command: hurry')}, timeout_s: 0.3}}\n"
        )
        return super().config(port, spool, extra=actions, **options)

    def close(self):
        self.closing = True
        super().close()

    def _judge_goal(self, goal):
        self.asked += 1
        self.decide.wait(20)
        return GoalResponse.REJECT if goal.target < 0 else GoalResponse.ACCEPT

    def _count(self, handle):
        goal, feedback = handle.request, self.type.Feedback()
        for n in range(1, goal.target + 1):
            if self.closing:
                break  # a failed test left it: it would speak in a graph that is gone
            if handle.is_cancel_requested:
                handle.canceled()
                self.ended += 1
                return self.type.Result(count=n - 1)
            feedback.count, feedback.percent = n, 100.0 * n / goal.target
            handle.publish_feedback(feedback)
            self.counts.append(n)
            time.sleep(goal.period_s)
        handle.abort() if goal.target > 900 else handle.succeed()
        return self.type.Result(count=goal.target)


@pytest.fixture(scope="module")
def robot():
    action_type.folder()
    made = CountingRobot()
    yield made
    made.close()
    action_type.remove()


@pytest.fixture
def cloud(broker, listener):
    made = Cloud(broker.port, listener)
    yield made
    made.close()


@pytest.fixture
def process(robot, broker, listener, cloud, tmp_path):
    made = BridgeProcess(tmp_path, robot.config(broker.port, tmp_path / "spool"))
    made.paths = [str(action_type.folder())]
    made.start()
    wait_until(lambda: listener.of("status"), what="online")
    robot.counts.clear()
    yield made
    robot.decide.set()
    made.end()


def test_goals(robot, cloud, process):
    answer = cloud.done("count", {"target": 10, "period_s": 0.1})
    assert (answer["status"], answer["result"]) == ("succeeded", {"count": 10})
    told = cloud.answers(answer["command_id"])
    assert told[0]["status"] == "acked"
    steps = [step for step in told if step["status"] == "in_progress"]
    assert 3 <= len(steps) <= 8
    for step in steps:
        assert step["progress"] == pytest.approx(step["result"]["count"] / 10)
    assert [step["progress"] for step in steps] == sorted(step["progress"] for step in steps)

    refused = cloud.done("count", {"target": -1})
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "GOAL_REJECTED")
    wrong = cloud.done("count", {"target": 1.5})
    assert (wrong["status"], wrong["error"]["code"]) == ("rejected", "INVALID_DATA")
    assert "target" in wrong["error"]["message"]
    given_up = cloud.done("count", {"target": 901, "period_s": 0.0})
    assert (given_up["status"], given_up["error"]["code"]) == ("failed", "ABORTED")
    assert given_up["result"] == {"count": 901}
    listed = {c["name"]: c for c in cloud.done("list_graph")["result"]["commands"]}["count"]
    assert listed["kind"] == "action"
    assert listed["request"] == {"target": "int32", "period_s": "float64"}


def counting(robot, cloud, command="count"):
    robot.counts.clear()
    command_id = cloud.send(command, {"target": 500, "period_s": 0.05})
    wait_until(lambda: robot.counts)
    return command_id


def stands_still(robot):
    seen = len(robot.counts)
    until = time.monotonic() + 0.3
    wait_until(lambda: time.monotonic() > until)
    assert len(robot.counts) <= seen + 1


def test_a_server_that_goes_away_with_its_goal(robot, cloud, broker, listener, tmp_path):
    """The bridge would wait for an hour."""
    context = Context()
    context.init()
    node, over = Node("leaving", context=context), threading.Event()
    server = ActionServer(node, robot.type, "/leaving/count", lambda _: over.wait(20) and robot.type.Result())
    executor = MultiThreadedExecutor(2, context=context)
    executor.add_node(node)
    threading.Thread(target=executor.spin, daemon=True).start()
    entry = f"    - {{command: leave, ros_action: /leaving/count, action_type: {action_type.TYPE}}}\n"
    made = BridgeProcess(tmp_path, robot.config(broker.port, tmp_path / "spool"))
    made.config.write_text(made.config.read_text().replace("  actions:\n", f"  actions:\n{entry}"))
    made.paths = [str(action_type.folder())]
    made.start()
    wait_until(lambda: listener.of("status"), what="online")
    command_id = cloud.send("leave", {"target": 1})
    wait_until(lambda: any(answer["status"] == "acked" for answer in cloud.answers(command_id)))
    server.destroy()
    answer = cloud.final(command_id)
    assert (answer["status"], answer["error"]["code"]) == ("failed", "UNAVAILABLE")
    made.end()
    over.set()
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_cancelling(robot, cloud, process):
    """By command, by time limit, by an emergency stop, and by the end of the bridge: the robot really stops."""
    running = counting(robot, cloud)
    wait_until(lambda: cloud.answers(running))
    assert cloud.done("cancel", {"command_id": running})["result"] == {"command_id": running}
    assert cloud.final(running)["status"] == "cancelled"
    stands_still(robot)

    late = cloud.final(counting(robot, cloud, "hurry"))
    assert (late["status"], late["error"]["code"]) == ("failed", "TIMEOUT")
    stands_still(robot)

    running = counting(robot, cloud)
    wait_until(lambda: cloud.answers(running))
    assert cloud.done("emergency_stop")["result"]["cancelled"] == [running]
    assert cloud.final(running)["status"] == "cancelled"
    stands_still(robot)

    running = counting(robot, cloud)
    wait_until(lambda: cloud.answers(running))
    assert process.terminate() == 0
    stopped = cloud.final(running)
    assert stopped["status"] == "cancelled" or stopped["error"]["code"] == "INTERRUPTED"
    stands_still(robot)


def on_its_way(robot, cloud, command="count"):
    """A goal that the action server has not judged yet."""
    asked = robot.asked
    command_id = cloud.send(command, {"target": 500, "period_s": 0.05})
    wait_until(lambda: robot.asked > asked)
    return command_id


def test_goals_on_their_way(robot, cloud, process):
    """Ended before the action server has said that it takes them: none goes on unwatched."""
    assert cloud.done("count", {"target": 1})["status"] == "succeeded"

    robot.decide.clear()
    running = on_its_way(robot, cloud)
    cancel = cloud.send("cancel", {"command_id": running})
    wait_until(lambda: cloud.answers(cancel))
    robot.decide.set()
    assert cloud.final(cancel)["result"] == {"command_id": running}
    assert cloud.final(running)["status"] == "cancelled"
    stands_still(robot)

    robot.decide.clear()
    running = on_its_way(robot, cloud)
    assert cloud.done("emergency_stop")["result"]["cancelled"] == [running]
    robot.decide.set()
    assert cloud.final(running)["status"] == "cancelled"
    stands_still(robot)

    robot.decide.clear()
    late = cloud.final(on_its_way(robot, cloud, "hurry"))
    assert (late["status"], late["error"]["code"]) == ("failed", "TIMEOUT")
    ended = robot.ended
    robot.decide.set()
    wait_until(lambda: robot.ended > ended, what="the goal that was taken too late is cancelled")
