"""The HTTP front end: streamable HTTP at /mcp, legacy SSE at /sse, and /health for load balancers, in one process."""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.errors import FailedPreconditionError, LifecycleError
from mcp_server.opening import Opening
from mcp_server.settings import HttpSettings

_FIRST_REFUSAL = 400
_PATIENCE_S = 2.0  # with a client that does not send what it announced
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def is_loopback(host: str) -> bool:
    """Return True when only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_safe_binding(settings: HttpSettings) -> None:
    """Refuse to listen where others can reach us.

    Raises:
        FailedPreconditionError: the address is beyond loopback, and there is no authentication to keep others out.
    """
    if not is_loopback(settings.host):
        raise FailedPreconditionError(
            f"Refusing to listen on {settings.host}: it is beyond loopback, and callers are not authenticated.",
            hint="Bind 127.0.0.1 and put an authenticating proxy before it.",
        )


def transport_security(settings: HttpSettings) -> TransportSecuritySettings:
    """Return the Host and Origin headers that are accepted; never none checked."""
    names = [*_LOOPBACK_NAMES, *settings.allowed_hosts]
    own_origins = [f"http://{name}" for name in _LOOPBACK_NAMES]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[form for origin in own_origins for form in (origin, f"{origin}:*")]
        + list(settings.allowed_origins),
    )


def build_http_app(server: MCPServer[Opening], opening: Opening) -> Starlette:
    """Return the ASGI application."""
    settings = opening.settings.http
    security = transport_security(settings)
    streamable = server.streamable_http_app(
        json_response=settings.stateless_json,
        stateless_http=settings.stateless_json,
        max_request_body_size=settings.max_body_bytes,
        transport_security=security,
        host=settings.host,
    )
    legacy = server.sse_app(
        max_request_body_size=settings.max_body_bytes, transport_security=security, host=settings.host
    )

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        opening.start_soon()
        async with server.session_manager.run():
            yield

    async def live(_request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def ready(_request: Request) -> JSONResponse:
        app = opening.if_open()
        if app is None:
            return JSONResponse({"status": "starting"}, status_code=503)
        try:
            await anyio.to_thread.run_sync(app.database.ping)
        except LifecycleError as failure:
            return JSONResponse({"status": "unready", "message": failure.message}, status_code=503)
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            *streamable.routes,
            *legacy.routes,
        ],
        middleware=[
            Middleware(ReadBeforeRefusing, max_bytes=4 * settings.max_body_bytes),
            Middleware(TrustedHostMiddleware, allowed_hosts=[*_host_names(settings)], www_redirect=False),
        ],
        lifespan=lifespan,
    )


class ReadBeforeRefusing:
    """Reads what is left of a request before a refusal is answered: else a client may see a reset, not the answer.

    A refusal that is answered is the end of a request: the SDK's SSE endpoint raises behind it, and the web server
    would log a bug and close a connection that the client may use again.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        """Wrap `app`; of a body larger than `max_bytes` the rest stays unread."""
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI asks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        more, refused, answered = True, False, False

        async def receive_and_note() -> Message:
            nonlocal more
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_after_reading(message: Message) -> None:
            nonlocal refused, answered
            if message["type"] == "http.response.start" and message["status"] >= _FIRST_REFUSAL:
                refused, n_bytes = True, 0
                with anyio.move_on_after(_PATIENCE_S):
                    while more and n_bytes < self._max_bytes:
                        n_bytes += len((await receive_and_note()).get("body", b""))
            await send(message)
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive_and_note, send_after_reading)
        except ValueError:
            if not (refused and answered):
                raise


def _host_names(settings: HttpSettings) -> list[str]:
    """Return Host names without ports, as Starlette compares them."""
    return [*_LOOPBACK_NAMES, "[", *(host.split(":")[0] for host in settings.allowed_hosts)]
