"""Runs the server over stdio or HTTP, and stops it in order: calls first, then the worker, then the stores."""

import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import anyio
from mcp.server import MCPServer

from mcp_server.errors import FailedPreconditionError
from mcp_server.opening import Opening
from mcp_server.settings import HttpSettings, Settings

if TYPE_CHECKING:
    from mcp_server.app import App

LOG_FORMAT = "%(levelname)s %(name)s %(message)s"
logger = logging.getLogger(__name__)  # structlog would cost the start 60 ms; it comes with the app

_DRAIN_POLL_S = 0.02
_LAST_ANSWERS_S = 0.1  # a call has ended a moment before its answer is written
_KEEP_ALIVE_S = 75  # who asks on a connection in the moment in which it is closed sees a reset: let that be seldom


def _open(settings: Settings) -> Opening:
    def open_server_app() -> "App":
        from mcp_server.app import open_app
        from mcp_server.logs import configure_logs
        from mcp_server.tools.registry import JOB_KINDS, ROLES_BY_TOOL

        configure_logs(settings.log_level)
        return open_app(
            settings,
            roles_by_tool=ROLES_BY_TOOL,
            job_kinds=JOB_KINDS,
            child_modules=(
                "mcp_server.stores.locked_sql",
                "mcp_server.stores.locked_sql_warm",
                "mcp_server.stores.sources.parse",
                "mcp_server.engine.expectations.backtracking_run",
            ),
            with_worker=settings.worker.embedded,
        )

    return Opening(settings, open_server_app)


def _collect_from_now_on() -> None:
    """Let the garbage collector work again; what is there by now stays, and is not looked through any more."""
    gc.freeze()
    gc.enable()


def serve_stdio(settings: Settings) -> None:
    """Serve one client over standard input and output, until it closes them or a signal asks us to stop."""
    from mcp_server.server import build_server

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=LOG_FORMAT)
    opening = _open(settings)
    try:
        server = build_server(opening)
        _collect_from_now_on()
        anyio.run(_run_stdio, server, opening)
    finally:
        opening.close()


async def _run_stdio(server: MCPServer[Opening], opening: Opening) -> None:
    async with anyio.create_task_group() as tasks:

        async def stop_on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for received in signals:
                    logger.info("stopping signal=%s", received.name)
                    await _drain(opening)
                    tasks.cancel_scope.cancel()
                    _leave(opening)

        tasks.start_soon(stop_on_signal)
        await server.run_stdio_async()
        tasks.cancel_scope.cancel()


async def _drain(opening: Opening) -> None:
    deadline = time.monotonic() + opening.settings.drain_s
    while opening.figures.in_flight and time.monotonic() < deadline:
        await anyio.sleep(_DRAIN_POLL_S)
    await anyio.sleep(_LAST_ANSWERS_S)


def _leave(opening: Opening) -> None:
    """End the process: a thread of the SDK still waits in a read of standard input that nothing interrupts."""
    opening.close()
    sys.stderr.flush()
    os._exit(0)


def _closing_already(_number: int, _frame: object) -> None:
    """Take the signal that uvicorn raises again once it has stopped: the default would end us before we have closed."""


def _listen(settings: HttpSettings) -> socket.socket:
    """Return the listening socket.

    Raises:
        FailedPreconditionError: the address is taken, or not one of this machine.
    """
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, settings.port), family=family, backlog=2048)
    except OSError as refusal:
        raise FailedPreconditionError(
            f"Cannot listen on {host} port {settings.port}: {refusal.strerror}.",
            hint="Choose another with --port, or --port 0 for a free one.",
        ) from refusal


def serve_http(settings: Settings) -> None:
    """Serve many clients over HTTP.

    Raises:
        FailedPreconditionError: the address is beyond loopback, or taken.
    """
    import uvicorn

    from mcp_server.http import build_http_app, require_safe_binding
    from mcp_server.server import build_server

    require_safe_binding(settings.http)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=LOG_FORMAT)
    opening = _open(settings)
    application = build_http_app(build_server(opening), opening)
    _collect_from_now_on()
    config = uvicorn.Config(
        application,
        host=settings.http.host,
        port=settings.http.port,
        log_level="warning",
        timeout_graceful_shutdown=max(1, int(settings.drain_s)),
        timeout_keep_alive=_KEEP_ALIVE_S,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    listener = _listen(settings.http)
    host, port = listener.getsockname()[:2]
    shown_host = f"[{host}]" if ":" in host else host
    print(f"nba-mcp serves http://{shown_host}:{port}/mcp (legacy SSE at /sse)", file=sys.stderr)  # noqa: T201
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _closing_already)
    try:
        server.run(sockets=[listener])
    finally:
        opening.close()
