"""The update agent alone: triggers are read from one file, reports are written to another."""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from rosfit_bridge.config import load
from rosfit_bridge.ota.agent import Agent, Surroundings
from rosfit_bridge.ota.conditions import CommandSaysYes
from rosfit_bridge.uplink import update_folder


def main() -> None:
    config_file, triggers, told = map(Path, sys.argv[1:])
    logging.basicConfig(level=logging.INFO)
    config = load(config_file)
    reports = os.open(told, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def publish(message: object) -> None:
        suffix = message.topic.split("/", 2)[2]
        line = json.dumps({"suffix": suffix, "payload": json.loads(message.payload)["payload"]}) + "\n"
        os.write(reports, line.encode())

    health = config.ota.health.command
    around = Surroundings(
        gate=[CommandSaysYes(entry.command) for entry in config.ota.gate],
        health=[CommandSaysYes(health)] if health else [],
        settle_s=0.1,
    )
    agent = Agent(config.ota, update_folder(config), config.rosfit.device_id, publish, around)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    agent.start()
    taken = 0
    while not stop.wait(0.02):
        lines = triggers.read_text().splitlines(keepends=True) if triggers.exists() else []
        for line in lines[taken:]:
            if line.endswith("\n"):
                # After a restart all of them again, as a broker does with what was not acknowledged.
                agent.take("rosfit/bot-01/ota/trigger", line.encode())
                taken += 1
    agent.close()


main()
