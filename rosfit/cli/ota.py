"""`rosfit ota`"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from rosfit.accounts import audit
from rosfit.cli.beside import run_beside, work_beside
from rosfit.cli.options import json_option, print_json, with_settings
from rosfit.cli.user import OPERATOR
from rosfit.fleet.models import EVERYWHERE
from rosfit.infra.objects import open_objects
from rosfit.kernel.work import Work
from rosfit.ota import artifacts, keys, service, viewing
from rosfit.ota.models import Artifact, Deployment, DeviceDeployment, NewArtifact, NewDeployment
from rosfit.settings import Settings
from rosfit.supervisor import Endpoints

T = TypeVar("T")

PIECE = 1 << 20
WATCH_EVERY_S = 1.0
# Nothing more happens by itself; a paused one may go on.
ENDED = frozenset({"aborted", "finished", "rolled_back"})


@click.group()
def ota() -> None:
    """Updates: artifacts, and deployments that bring them to robots."""


@ota.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", required=True)
@click.option("--version", required=True)
@click.option("--types", "device_types", required=True, help="Device types, with commas between them.")
@click.option("--notes", "release_notes", default="", help="Release notes.")
@with_settings
@json_option
def upload(settings: Settings, as_json: bool, file: Path, device_types: str, **fields: str) -> None:
    """Store FILE as an artifact, signed with RosFit's key."""
    types = [part.strip() for part in device_types.split(",") if part.strip()]
    new = _read({**fields, "device_types": types}, NewArtifact)
    found = asyncio.run(_upload(settings, file, new))
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        click.echo(f"{found.artifact_id}  {found.name} {found.version}  {found.size} bytes  sha256 {found.sha256}")


async def _upload(settings: Settings, file: Path, new: NewArtifact) -> Artifact:
    def open_work() -> AbstractAsyncContextManager[Work]:
        return work_beside(settings)

    objects = open_objects(Endpoints.discover(settings).objects)
    incoming = await artifacts.Incoming.begin(open_work, objects)
    size = (await asyncio.to_thread(file.stat)).st_size
    try:
        with (
            click.progressbar(length=size, label=file.name, file=sys.stderr) as bar,
            file.open("rb") as source,
        ):
            while piece := await asyncio.to_thread(source.read, PIECE):
                await incoming.write(piece)
                bar.update(len(piece))
        stored = await incoming.finish(file.name)
    except BaseException:
        await incoming.discard(open_work)
        raise
    async with artifacts.swept_if_refused(open_work, stored), open_work() as work:
        artifact, is_new = await artifacts.create(work, new, stored, OPERATOR)
        if is_new:
            await audit.record(
                work, OPERATOR, "artifact.upload", artifact.artifact_id, after=msgspec.to_builtins(artifact)
            )
        return artifact


@ota.command("artifacts")
@with_settings
@json_option
def list_artifacts(settings: Settings, as_json: bool) -> None:
    """The newest fifty artifacts."""

    async def step(work: Work) -> list[Artifact]:
        return (await artifacts.find(work, None, None, None, 50)).items

    found = run_beside(settings, step)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(f"{one.artifact_id}  {one.name:<24} {one.version:<14} {one.size:>12}  {','.join(one.device_types)}")


@ota.command("keys")
@with_settings
@json_option
def list_keys(settings: Settings, as_json: bool) -> None:
    """Public keys that signatures are checked with; robots want them as PEM."""
    found = run_beside(settings, keys.listing)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    for one in found:
        state = "retired" if one.retired_at else "signs" if one.signs else "trusted"
        click.echo(f"# {one.key_id}  {one.name}  {state}\n{_pem(one.public_key)}", nl=False)


def _pem(public_key: str) -> str:
    """SubjectPublicKeyInfo of Ed25519: a fixed head before the 32 bytes (RFC 8410)."""
    head = bytes.fromhex("302a300506032b6570032100")
    body = base64.b64encode(head + base64.b64decode(public_key)).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


@ota.command()
@click.argument("artifact_id", metavar="ARTIFACT")
@click.option("--device", "device_ids", multiple=True, metavar="ID", help="May be given several times.")
@click.option("--group")
@click.option("--tag")
@click.option("--query", help="As in the fleet's search.")
@click.option("--waves", default="100", show_default=True, help="Rising percentages that end at 100: 10,50,100.")
@click.option("--rules", default="{}", help='More rules as JSON: {"failure_threshold": 5, "on_failure": "rollback"}.')
@click.option("--preview", is_flag=True, help="Only say whom it would reach.")
@click.option("--draft", is_flag=True, help="Do not start it yet.")
@with_settings
@json_option
def deploy(
    settings: Settings,
    as_json: bool,
    artifact_id: str,
    device_ids: tuple[str, ...],
    group: str | None,
    tag: str | None,
    query: str | None,
    waves: str,
    rules: str,
    preview: bool,
    draft: bool,
) -> None:
    """Bring ARTIFACT to robots, in waves."""
    ways = {"device_ids": list(device_ids) or None, "group": group, "tag": tag, "query": query}
    target = {name: value for name, value in ways.items() if value}
    new = _read({"artifact_id": artifact_id, "target": target, "waves": _waves(waves), **_object(rules)}, NewDeployment)
    if preview:
        print_json(msgspec.to_builtins(run_beside(settings, lambda work: service.preview(work, new, EVERYWHERE))))
        return

    async def step(work: Work) -> Deployment:
        deployment_id = await service.create(work, new, OPERATOR)
        await audit.record(work, OPERATOR, "deployment.create", deployment_id, after=msgspec.to_builtins(new))
        if draft:
            return await viewing.get(work, deployment_id)
        return await _told(work, "start", service.start(work, deployment_id, OPERATOR, _notice))

    _show(run_beside(settings, step), as_json)


@ota.command()
@click.argument("deployment_id", metavar="DEPLOYMENT", required=False)
@with_settings
@json_option
def status(settings: Settings, as_json: bool, deployment_id: str | None) -> None:
    """One deployment with its robots, or the newest twenty."""

    async def step(work: Work) -> tuple[list[Deployment], list[DeviceDeployment]]:
        if deployment_id is None:
            return (await viewing.find(work, None, None, None, 20)).items, []
        deployment = await viewing.get(work, deployment_id)
        return [deployment], (await viewing.devices(work, deployment, None, limit=200)).items

    found, devices = run_beside(settings, step)
    if as_json:
        told: Any = msgspec.to_builtins(found)
        print_json(told if deployment_id is None else {**told[0], "devices": msgspec.to_builtins(devices)})
        return
    for one in found:
        _show(one, False)
    for device in devices:
        why = device.error.message if device.error else device.detail or device.waiting_for or ""
        click.echo(f"    {device.device_id:<24} {device.status:<12} wave {device.wave}  {why}")


@ota.command()
@click.argument("deployment_id", metavar="DEPLOYMENT")
@with_settings
@json_option
def watch(settings: Settings, as_json: bool, deployment_id: str) -> int:
    """Follow a deployment to its end; exit code 1 unless it finishes with every robot updated."""
    deployment = asyncio.run(_watch(settings, deployment_id))
    _show(deployment, as_json)
    return int(deployment.status != "finished" or deployment.counts.get("succeeded", 0) < deployment.total)


async def _watch(settings: Settings, deployment_id: str) -> Deployment:
    deployment = await _get(settings, deployment_id)
    with click.progressbar(length=max(deployment.total, 1), label=deployment_id, file=sys.stderr) as bar:
        done = 0
        while True:
            finished = sum(wave.finished for wave in deployment.wave_progress)
            bar.update(finished - done)
            done = finished
            if deployment.status in ENDED:
                return deployment
            await asyncio.sleep(WATCH_EVERY_S)
            deployment = await _get(settings, deployment_id)


async def _get(settings: Settings, deployment_id: str) -> Deployment:
    async with work_beside(settings) as work:
        return await viewing.get(work, deployment_id)


def _verb(name: str, call: Callable[[Work, str], Awaitable[Deployment]], text: str) -> None:
    """`rosfit ota pause DEPLOYMENT` and the like."""

    @ota.command(name, help=text)
    @click.argument("deployment_id", metavar="DEPLOYMENT")
    @with_settings
    @json_option
    def verb(settings: Settings, as_json: bool, deployment_id: str) -> None:
        _show(run_beside(settings, lambda work: _told(work, name, call(work, deployment_id))), as_json)


async def _told(work: Work, action: str, done: Awaitable[Deployment]) -> Deployment:
    deployment = await done
    told = {"status": deployment.status, "total": deployment.total}
    await audit.record(work, OPERATOR, f"deployment.{action}", deployment.deployment_id, after=told)
    return deployment


async def _notice(work: Work, action: str, deployment_id: str, told: dict[str, Any]) -> None:
    await audit.record(work, OPERATOR, action, deployment_id, after=told)


_verb("start", lambda work, one: service.start(work, one, OPERATOR, _notice), "Begin a draft.")
_verb("pause", lambda work, one: service.pause(work, one, OPERATOR), "Start no new robot; those under way finish.")
_verb("resume", lambda work, one: service.resume(work, one, _notice), "Go on; failures so far are accepted.")
_verb("abort", lambda work, one: service.abort(work, one, OPERATOR), "Cancel those that wait.")
_verb("rollback", lambda work, one: service.rollback(work, one, OPERATOR), "Send updated robots back to what they had.")
_verb("retry", lambda work, one: service.retry_failed(work, one, OPERATOR, _notice), "Again, for those that failed.")


def _show(one: Deployment, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(one))
        return
    counts = ", ".join(f"{count} {status}" for status, count in one.counts.items() if count)
    reason = f"  ({one.status_reason})" if one.status_reason else ""
    what = f"{one.deployment_id}  {one.name} {one.version}  {one.status}{reason}"
    click.echo(f"{what}  {one.total} robots: {counts or 'none yet'}")


def _waves(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--waves: {error}") from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--rules is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise click.UsageError("--rules is a JSON object")
    return value


def _read(values: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
