"""`rosfit serve`"""

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import click
import uvloop

from rosfit.cli.options import with_server_settings
from rosfit.infra.embedded.ports import check_port_free, resolve
from rosfit.infra.tls import check_exposure
from rosfit.kernel.loops import end
from rosfit.settings import Settings
from rosfit.supervisor import Supervisor

# After a SIGTERM the application has this long to finish; with the servers' stop it stays under 10 s.
DRAIN_S = 3.0


@click.command()
@with_server_settings
@click.option("--demo", is_flag=True, help="Add simulated robots.")
def serve(settings: Settings, demo: bool) -> None:
    """Run RosFit: web server, ingest and, unless settings name others, its own broker and databases."""
    check_exposure(settings, resolve(settings.host))
    if settings.port:
        check_port_free(resolve(settings.host), settings.port, "port")
    uvloop.run(_run(settings, demo))


async def _run(settings: Settings, demo: bool) -> None:
    """Serve until the application ends or a signal asks for it; a start that is under way is cut short."""
    stop, serving = asyncio.Event(), asyncio.Event()
    with _signals_set(stop):
        work = asyncio.create_task(_serve(settings, demo, serving, stop))
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not work.done() and serving.is_set():
            await asyncio.wait({work}, timeout=DRAIN_S)
        await end({work})
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _serve(settings: Settings, demo: bool, serving: asyncio.Event, stop: asyncio.Event) -> None:
    # Imported here: it brings the web framework, which `rosfit serve --help` does not need.
    from rosfit.app import serve as serve_app

    async with Supervisor(settings) as endpoints:
        serving.set()
        await serve_app(settings, endpoints, demo=demo, stop=stop)


@contextlib.contextmanager
def _signals_set(event: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
