"""Ways of installing. `prepare` touches nothing that runs; `switch` and `back` may be repeated after a power cut."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rosfit_bridge.config_ota import Install
from rosfit_bridge.ota.errors import UpdateError
from rosfit_bridge.ota.hooks import Hooks
from rosfit_bridge.ota.journal import sync_folder
from rosfit_bridge.ota.trigger import Artifact
from rosfit_bridge.ota.unpack import unpack

Version = dict[str, Any]
MANIFEST = ".rosfit-version.json"
# For the journal, and for everything else that has to write while an update goes on.
RESERVE = 1024 * 1024


class Installer(Protocol):
    """A version is `{artifact_id, name, version, sha256}`, with `file` where the artifact itself is kept."""

    def prepare(self, artifact: Artifact, file: Path) -> Version:
        """Put the new version beside the present one."""
        ...

    def switch(self, version: Version) -> None:
        """Make it the one that counts."""
        ...

    def back(self, previous: Version | None) -> None:
        """Make the previous one count again; None when nothing was installed before."""
        ...

    def installed(self, believed: Version | None) -> Version | None:
        """What really counts now."""
        ...

    def forget(self, versions: list[Version]) -> None:
        """Remove versions that are no longer kept."""
        ...


def make_installer(config: Install, folder: Path, hooks: Hooks) -> Installer:
    if config.method == "slots":
        return Slots(config, folder, hooks)
    if config.method == "image":
        return Kept(folder, _image_loader(config, hooks))
    words = ("dpkg", "--install") if config.method == "deb" else config.command
    return Kept(folder, _handover(words, hooks))


def describe(artifact: Artifact) -> Version:
    names = ("artifact_id", "name", "version", "sha256")
    return {name: getattr(artifact, name) for name in names}


def environment(version: Version) -> dict[str, str]:
    """What a hook is told of the version it is called for."""
    names = {"artifact_id": "ROSFIT_ARTIFACT_ID", "name": "ROSFIT_NAME", "version": "ROSFIT_VERSION"}
    return {variable: str(version[name]) for name, variable in names.items()}


class Slots:
    """Each version in a folder of its own; `current` is a symbolic link to the one that counts."""

    def __init__(self, config: Install, folder: Path, hooks: Hooks) -> None:
        self._config, self._hooks = config, hooks
        self._versions = folder / "versions"
        self._current = folder / "current"
        self._versions.mkdir(parents=True, exist_ok=True)

    def prepare(self, artifact: Artifact, file: Path) -> Version:
        version = describe(artifact)
        slot = self._slot(version)
        if _manifest(slot) == version:
            return version
        partial = slot.with_name(f".{slot.name}.new")
        shutil.rmtree(partial, ignore_errors=True)
        check_room(self._versions, file.stat().st_size)
        try:
            unpack(file, partial, _plain_name(artifact))
            if self._config.hook:
                self._hooks.run(self._config.hook, {**environment(version), "ROSFIT_SLOT": str(partial)}, cwd=partial)
        except (UpdateError, OSError):
            shutil.rmtree(partial, ignore_errors=True)
            raise
        (partial / MANIFEST).write_text(json.dumps(version))
        os.sync()  # every file of it, before the folder has its name
        shutil.rmtree(slot, ignore_errors=True)
        partial.rename(slot)
        sync_folder(self._versions)
        return version

    def switch(self, version: Version) -> None:
        fresh = self._current.with_name(".current.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._slot(version).relative_to(self._current.parent))
        fresh.replace(self._current)
        sync_folder(self._current.parent)

    def back(self, previous: Version | None) -> None:
        if previous is not None:
            return self.switch(previous)
        self._current.unlink(missing_ok=True)
        return sync_folder(self._current.parent)

    def installed(self, believed: Version | None) -> Version | None:
        return _manifest(self._current)

    def forget(self, versions: list[Version]) -> None:
        for version in versions:
            shutil.rmtree(self._slot(version), ignore_errors=True)

    def _slot(self, version: Version) -> Path:
        return self._versions / f"{version['artifact_id']}-{version['sha256'][:12]}"


class Kept:
    """The artifact is handed to a program; those of the last versions are kept, to be handed over again."""

    def __init__(self, folder: Path, hand_over: Callable[[Version], None]) -> None:
        self._files = folder / "artifacts"
        self._files.mkdir(parents=True, exist_ok=True)
        self._hand_over = hand_over

    def prepare(self, artifact: Artifact, file: Path) -> Version:
        kept = self._files / f"{artifact.artifact_id}-{artifact.sha256[:12]}{Path(artifact.name).suffix}"
        if not kept.exists():
            partial = kept.with_name(f".{kept.name}.new")
            check_room(self._files, file.stat().st_size)
            try:
                shutil.copyfile(file, partial)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
            os.sync()
            partial.rename(kept)
            sync_folder(self._files)
        return {**describe(artifact), "file": str(kept)}

    def switch(self, version: Version) -> None:
        self._hand_over(version)

    def back(self, previous: Version | None) -> None:
        if previous is None:
            raise UpdateError("NO_PREVIOUS", "there is no earlier version here that could be installed again")
        self._hand_over(previous)

    def installed(self, believed: Version | None) -> Version | None:
        return believed

    def forget(self, versions: list[Version]) -> None:
        for version in versions:
            Path(version["file"]).unlink(missing_ok=True)


def _handover(words: tuple[str, ...], hooks: Hooks) -> Callable[[Version], None]:
    def hand_over(version: Version) -> None:
        hooks.run([*words, version["file"]], {**environment(version), "ROSFIT_ARTIFACT": version["file"]})

    return hand_over


def _image_loader(config: Install, hooks: Hooks) -> Callable[[Version], None]:
    """`ROSFIT_IMAGE` of the restart command is what the runtime says it has loaded."""

    def load(version: Version) -> None:
        said = hooks.run([config.runtime, "load", "--input", version["file"]], environment(version))
        loaded = [line.split(":", 1)[1].strip() for line in said.splitlines() if line.startswith("Loaded image")]
        version["image"] = loaded[-1] if loaded else ""

    return load


def _manifest(slot: Path) -> Version | None:
    try:
        found = json.loads((slot / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _plain_name(artifact: Artifact) -> str:
    """A file that is no archive keeps its name, without what could lead elsewhere."""
    name = Path(artifact.name).name
    return name if name.strip(".") else "artifact"


def check_room(folder: Path, wanted: int) -> None:
    """Raises UpdateError when so many bytes would leave nothing for the rest of the robot."""
    free = shutil.disk_usage(folder).free
    if free < wanted + RESERVE:
        raise UpdateError("DISK", f"{folder} has {free} bytes left; {wanted} are needed, and {RESERVE} stay free")


__all__ = ["Installer", "Kept", "Slots", "Version", "check_room", "describe", "environment", "make_installer"]
