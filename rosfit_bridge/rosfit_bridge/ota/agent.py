"""The update agent: one update at a time, each step written down before it is taken."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rosfit_bridge.config_ota import Ota
from rosfit_bridge.envelope import Outgoing
from rosfit_bridge.ota import policy, verify
from rosfit_bridge.ota.conditions import Condition, stay_well, unmet
from rosfit_bridge.ota.download import Download, check_address
from rosfit_bridge.ota.errors import InterruptedByStopError, RejectedError, RolledBackError, UpdateError
from rosfit_bridge.ota.hooks import Hooks
from rosfit_bridge.ota.install import Version, check_room, environment, make_installer
from rosfit_bridge.ota.journal import MOST_WAITING, Journal, State, Update
from rosfit_bridge.ota.reports import Reports
from rosfit_bridge.ota.steps import WIRE, Step, may_pass_deadline, resumed
from rosfit_bridge.ota.trigger import BadTriggerError, Trigger, read

log = logging.getLogger(__name__)

GATE_EVERY_S = 2.0
DISK_RETRY_S = 10.0
KIB = 1024
INTERRUPTED = "it was cut short again and again, by the power or by the end of the bridge"


@dataclass(frozen=True)
class Surroundings:
    """What the agent looks at. A report is with the broker or on disk `settle_s` after it was published."""

    gate: Sequence[Condition] = ()
    health: Sequence[Condition] = ()
    context_of: Callable[[str], ssl.SSLContext | None] = lambda url: None
    settle_s: float = 1.0


class Agent:
    """`take` may be called by any thread; everything else happens in the agent's own."""

    def __init__(
        self,
        config: Ota,
        folder: Path,
        device_id: str,
        publish: Callable[[Outgoing], object],
        around: Surroundings,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._config, self._around = config, around
        self._partial = folder / "download.part"
        self._journal = Journal(folder / "journal.json")
        self._reports = Reports(device_id, publish)
        self._hooks = Hooks(folder, config.install.timeout_s, self._wait)
        self._installer = make_installer(config.install, folder, self._hooks)
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._unsettled: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, within_s: float = 2.0) -> None:
        """The update under way is taken up again at the next start."""
        self._stopping.set()
        self._news.set()
        self._thread.join(within_s)

    def take(self, _topic: str, payload: bytes, _properties: Any = None) -> None:
        """On disk before it returns, and by that before the broker hears that it has arrived."""
        try:
            trigger = read(payload)
        except BadTriggerError as error:
            log.error("an update was refused: %s", error)
            if error.deployment_id is not None:
                self._refuse(error.deployment_id, "BAD_TRIGGER", str(error))
            return
        with self._journal.lock:
            known = self._journal.state.outcome_of(trigger.deployment_id)
            if known is None:
                self._enqueue(trigger)
            else:
                self._reports.outcome(known)

    def _enqueue(self, trigger: Trigger) -> None:
        state = self._journal.state
        if any(one["deployment_id"] == trigger.deployment_id for one in [*_under_way(state), *state.waiting]):
            return
        if len(state.waiting) >= MOST_WAITING:
            self._refuse(trigger.deployment_id, "BUSY", f"{MOST_WAITING} updates wait already")
            return
        try:
            with self._journal.change() as state:
                state.waiting.append(trigger.as_dict())
        except OSError as error:
            self._refuse(trigger.deployment_id, "DISK", f"the update cannot be written down: {error}")
        self._news.set()

    def _refuse(self, deployment_id: str, code: str, message: str) -> None:
        self._reports.outcome(_outcome(deployment_id, RejectedError(code, message), None))

    # ── the agent's own thread ──

    def _run(self) -> None:
        try:
            self._hooks.settle()
            for outcome in self._journal.state.outcomes:
                if not outcome["sent"]:
                    self._tell(outcome)
            self._take_up()
            while True:
                self._turn()
        except InterruptedByStopError:
            self._stopped_politely()
        except Exception:
            log.exception("the update agent ended; restart the bridge to go on with updates")

    def _stopped_politely(self) -> None:
        """The end of the bridge is not the fault of the version on trial."""
        with contextlib.suppress(OSError), self._journal.change() as state:
            if state.update is not None:
                state.update.interruptions -= 1

    def _turn(self) -> None:
        """One update from beginning to end, or a wait for news."""
        state = self._journal.state
        try:
            if state.update is not None:
                self._carry_out()
            elif state.waiting:
                self._begin()
            else:
                self._news.wait(1.0)
                self._news.clear()
                self._wait(0.0)
                self._settle()
        except OSError as error:
            log.error("the update agent cannot write %s; again in %.0f s", error, DISK_RETRY_S)
            self._wait(DISK_RETRY_S)

    def _begin(self) -> None:
        with self._journal.change() as state:
            trigger = state.waiting.pop(0)
            state.installed = self._installer.installed(state.installed)
            state.update = Update(trigger, Step.WAITING.value, boot_id=boot_id(), previous=state.installed)

    def _take_up(self) -> None:
        """After a restart of the bridge or of the machine."""
        update = self._journal.state.update
        if update is None:
            return
        same_boot = update.boot_id == boot_id()
        with self._journal.change():
            update.interruptions += 1
            step = resumed(Step(update.step), update.interruptions, same_boot=same_boot)
            if step is Step.ROLLING_BACK and update.failure is None:
                update.failure = UpdateError("INTERRUPTED", INTERRUPTED).as_dict()
            update.step, update.boot_id = step.value, boot_id()
        log.info("the update %s is taken up again at %s", update.trigger["deployment_id"], step.value)

    def _carry_out(self) -> None:
        """Step by step; what goes wrong leads back to the version that was there before."""
        update = self._journal.state.update
        assert update is not None
        trigger = Trigger.from_dict(update.trigger)
        while self._journal.state.update is update:
            step = Step(update.step)
            try:
                self._report(trigger, step)
                self._steps[step](self, update, trigger)
            except UpdateError as error:
                self._went_wrong(update, trigger, step, error)
            except OSError as error:
                self._went_wrong(update, trigger, step, UpdateError("DISK", str(error)))
            except InterruptedByStopError:
                raise
            except Exception as error:
                if self._stopping.is_set():  # what it looks at may be gone already
                    raise InterruptedByStopError from error
                # This update fails; the agent lives on for the one that mends it.
                log.exception("the update %s: %s", trigger.deployment_id, step.value)
                fault = UpdateError("BRIDGE_FAULT", f"{type(error).__name__}: {error}")
                self._went_wrong(update, trigger, step, fault)

    def _went_wrong(self, update: Update, trigger: Trigger, step: Step, error: UpdateError) -> None:
        log.error("the update %s: %s: %s", trigger.deployment_id, step.value, error)
        if step in (Step.ROLLING_BACK, Step.RETURNING):
            first = update.failure or error.as_dict()
            message = f"{first['message']}; and the way back failed: {error}"
            self._end(trigger, UpdateError("ROLLBACK_FAILED", message))
        elif step in (Step.SWITCHING, Step.RESTARTING, Step.CHECKING):
            with self._journal.change():
                update.failure = error.as_dict()
            self._go_on(update, Step.ROLLING_BACK)
        else:
            self._end(trigger, error)

    def _wait_for_gate(self, update: Update, trigger: Trigger) -> None:
        kept = {version["sha256"] for version in self._journal.state.kept}
        policy.check(trigger.artifact, self._config, update.previous, kept)
        while missing := unmet(self._around.gate):
            self._in_time(trigger)
            self._reports.progress(trigger.deployment_id, WIRE[Step.WAITING], detail="; ".join(missing))
            self._wait(GATE_EVERY_S)
        self._go_on(update, Step.DOWNLOADING)

    def _download(self, update: Update, trigger: Trigger) -> None:
        self._in_time(trigger)
        artifact = trigger.artifact
        check_address(artifact.url)
        have = self._partial.stat().st_size if self._partial.exists() else 0
        check_room(self._partial.parent, artifact.size - have)
        rate = self._config.rate_kib_s
        Download(
            artifact,
            self._partial,
            etag=update.etag,
            remember=lambda etag: self._remember(update, etag),
            progress=lambda done: self._progress(trigger, done),
            wait=self._wait,
            rate=rate * KIB if rate else None,
            context=self._around.context_of(artifact.url),
        ).run(lambda: self._late(trigger))
        self._go_on(update, Step.VERIFYING)

    def _verify(self, update: Update, trigger: Trigger) -> None:
        try:
            verify.check_bytes(self._partial, trigger.artifact)
        except verify.CorruptError:
            self._partial.unlink(missing_ok=True)
            if update.fresh_start:
                raise
            # What was taken up after a power cut may hold bytes that never reached the disk: once more, from the start.
            with self._journal.change():
                update.fresh_start, update.etag = True, None
            return self._go_on(update, Step.DOWNLOADING)
        verify.check_signature(trigger.artifact, self._config.public_keys)
        return self._go_on(update, Step.INSTALLING)

    def _install(self, update: Update, trigger: Trigger) -> None:
        self._installer.prepare(trigger.artifact, self._partial)
        self._go_on(update, Step.SWITCHING)

    def _switch(self, update: Update, trigger: Trigger) -> None:
        version = self._installer.prepare(trigger.artifact, self._partial)
        self._installer.switch(version)
        with self._journal.change() as state:
            state.installed = version
            state.kept = [*(one for one in state.kept if one["sha256"] != version["sha256"]), version]
        self._partial.unlink(missing_ok=True)
        self._go_on(update, Step.RESTARTING)

    def _restart(self, update: Update, trigger: Trigger) -> None:
        self._call_restart()
        self._go_on(update, Step.CHECKING)

    def _check(self, update: Update, trigger: Trigger) -> None:
        health = self._config.health
        wrong = stay_well(self._around.health, health.within_s, health.for_s, self._wait)
        if wrong:
            raise UpdateError("UNHEALTHY", "; ".join(wrong))
        self._end(trigger, None)

    def _roll_back(self, update: Update, trigger: Trigger) -> None:
        self._installer.back(update.previous)
        with self._journal.change() as state:
            state.installed = update.previous
        self._go_on(update, Step.RETURNING)

    def _return(self, update: Update, trigger: Trigger) -> None:
        self._call_restart()
        self._go_on(update, Step.RETURNED)

    def _returned(self, update: Update, trigger: Trigger) -> None:
        self._end(trigger, RolledBackError(**(update.failure or UpdateError("INTERRUPTED", INTERRUPTED).as_dict())))

    def _give_up(self, update: Update, trigger: Trigger) -> None:
        raise UpdateError("INTERRUPTED", INTERRUPTED)

    _steps: ClassVar[dict[Step, Callable[[Agent, Update, Trigger], None]]] = {
        Step.WAITING: _wait_for_gate,
        Step.DOWNLOADING: _download,
        Step.VERIFYING: _verify,
        Step.INSTALLING: _install,
        Step.SWITCHING: _switch,
        Step.RESTARTING: _restart,
        Step.CHECKING: _check,
        Step.ROLLING_BACK: _roll_back,
        Step.RETURNING: _return,
        Step.RETURNED: _returned,
        Step.GIVING_UP: _give_up,
    }

    # ── what the steps share ──

    def _go_on(self, update: Update, step: Step) -> None:
        with self._journal.change():
            update.step, update.interruptions = step.value, 0

    def _end(self, trigger: Trigger, error: UpdateError | None) -> None:
        # First, as it may be what leaves no room on the disk for the journal.
        self._partial.unlink(missing_ok=True)
        with self._journal.change() as state:
            outcome = _outcome(trigger.deployment_id, error, state.installed)
            state.outcomes.append(outcome)
            state.update = None
        self._forget_old()
        log.info("the update %s has ended: %s", trigger.deployment_id, outcome["status"])
        self._tell(outcome)

    def _forget_old(self) -> None:
        """The newest `keep` stay, and the one that counts in any case."""
        state = self._journal.state
        counting = state.installed["sha256"] if state.installed else None
        old = [one for one in state.kept[: -self._config.keep] if one["sha256"] != counting]
        if old:
            self._installer.forget(old)
            with self._journal.change() as state:
                state.kept = [one for one in state.kept if one not in old]

    def _call_restart(self) -> None:
        """Whatever version counts now."""
        installed, words = self._journal.state.installed, self._config.install.restart
        if not words:
            return
        told = {} if installed is None else {**environment(installed), "ROSFIT_IMAGE": installed.get("image", "")}
        self._hooks.run(words, told)

    def _report(self, trigger: Trigger, step: Step) -> None:
        if step in WIRE:
            detail = "going back to the version before" if step in (Step.ROLLING_BACK, Step.RETURNING) else None
            size = trigger.artifact.size
            done = self._partial.stat().st_size if self._partial.exists() else 0
            self._reports.progress(trigger.deployment_id, WIRE[step], size=size, done=done, detail=detail)
        if not may_pass_deadline(step):
            self._in_time(trigger)

    def _progress(self, trigger: Trigger, done: int) -> None:
        self._in_time(trigger)
        size = trigger.artifact.size
        self._reports.progress(trigger.deployment_id, WIRE[Step.DOWNLOADING], size=size, done=done)

    def _remember(self, update: Update, etag: str | None) -> None:
        with self._journal.change():
            update.etag = etag

    def _late(self, trigger: Trigger) -> bool:
        return trigger.deadline is not None and time.time() > trigger.deadline

    def _in_time(self, trigger: Trigger) -> None:
        if self._late(trigger):
            raise UpdateError("DEADLINE", "its time ran out before it could be installed")

    def _tell(self, outcome: dict[str, Any]) -> None:
        self._reports.outcome(outcome)
        self._unsettled.append((time.monotonic() + self._around.settle_s, outcome["deployment_id"]))

    def _settle(self) -> None:
        """What was told long enough ago need not be told again at the next start."""
        now = time.monotonic()
        due = {deployment_id for at, deployment_id in self._unsettled if at <= now}
        if not due:
            return
        self._unsettled = [one for one in self._unsettled if one[1] not in due]
        with self._journal.change() as state:
            for outcome in state.outcomes:
                outcome["sent"] = outcome["sent"] or outcome["deployment_id"] in due

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(seconds) if seconds else self._stopping.is_set():
            raise InterruptedByStopError


def _under_way(state: State) -> list[dict[str, Any]]:
    return [state.update.trigger] if state.update else []


def boot_id() -> str:
    """Another one after every start of the machine; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _outcome(deployment_id: str, error: UpdateError | None, version: Version | None) -> dict[str, Any]:
    names = ("artifact_id", "name", "version")
    return {
        "deployment_id": deployment_id,
        "status": "succeeded" if error is None else error.status,
        "error": None if error is None else error.as_dict(),
        "version": None if version is None else {name: version[name] for name in names},
        "sent": False,
    }
