"""The sources `https://…`: files of hosts that are allowed, fetched from the very address that was checked.

The connection is httpcore's; what is ours is where it may go: a network backend that connects only to the addresses
that were looked up once and checked. No proxy, no cookie and no credential is ever used or passed on.
"""

import contextlib
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urljoin

import httpcore2

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    shown,
)
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings, RemoteSettings, WebSettings
from mcp_server.stores.fetching import Deadline, Saving, read_fetched, room_beside, safe_name, with_origin
from mcp_server.stores.sources.reader import Brought, Listed
from mcp_server.stores.sources.web_addresses import AllowedHosts, Resolve, WebAddress, checked_addresses, look_up

_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_SLICE_S: Final = 0.25  # how often a silent server lets us ask whether the job was cancelled
_PART_BYTES: Final = 1 << 20
_ENDINGS: Final[Mapping[str, str]] = {
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/jsonl": ".jsonl",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.apache.arrow.file": ".arrow",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
}


class WebSources:
    """Reads `https://…`. Thread-safe: it holds nothing that changes."""

    def __init__(
        self, settings: WebSettings, remote: RemoteSettings, limits: LimitSettings, resolve: Resolve | None = None
    ) -> None:
        """Take the settings.

        Args:
            resolve: returns the IP addresses of a host; by default those that the system finds.

        Raises:
            InvalidArgumentError: an entry of the allowed hosts is none.
        """
        self._allowed = AllowedHosts(settings)
        self._ca_file = settings.ca_file
        self._remote = remote
        self._limits = limits
        self._resolve = resolve or (lambda host, port: look_up(host, port, remote.connect_timeout_s))

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Fetch the file at `source` and write its rows to `output`.

        Raises:
            PermissionDeniedError: the address, or one that it leads to, is not allowed, or the host refuses.
            NotFoundError: the host has nothing there.
            UnavailableError: the host is silent or broken.
            ResourceExhaustedError: the file is too large or too slow.
            LifecycleError: as `SourceFiles.bring`.
        """
        asked = self._allowed.judge(source)
        deadline = Deadline.after(self._remote.transfer_timeout_s)
        progress(0.0, f"connecting to {asked.netloc}")
        with room_beside(output) as folder:
            with self._answered(asked, deadline, progress) as (found, answer):
                name = _file_name(asked, found, answer)
                saving = Saving(self._limits, deadline, progress, _length(answer))
                saving.save(_body(answer, name), folder / name)
            brought = read_fetched(folder, name, self._limits, format, options, output, progress)
        details = {
            "etag": _header(answer, "etag"),
            "last_modified": _header(answer, "last-modified"),
            "redirected_to": found.public_url if found != asked else None,
        }
        return with_origin(brought, asked.public_url, details)

    def listed(self) -> Sequence[Listed]:
        """Return the hosts that may be fetched from."""
        return [Listed(f"https://{name}/…", "https") for name in self._allowed.names()]

    @contextlib.contextmanager
    def _answered(
        self, address: WebAddress, deadline: Deadline, progress: Progress
    ) -> Iterator[tuple[WebAddress, httpcore2.Response]]:
        """Yield the answer, redirects followed, and where it came from."""
        for _ in range(_MAX_REDIRECTS + 1):
            addresses = checked_addresses(address, self._resolve)
            backend = _Pinned(addresses, deadline, progress.cancelled, self._remote)
            with (
                _explained(address),
                httpcore2.ConnectionPool(ssl_context=self._trust(), network_backend=backend) as pool,
                pool.stream(
                    "GET",
                    httpcore2.URL(scheme="https", host=address.host, port=address.port, target=address.target),
                    headers=_request_headers(address),
                    extensions={"timeout": {"connect": self._remote.connect_timeout_s}},
                ) as answer,
            ):
                if answer.status not in _REDIRECTS:
                    _check_status(answer, address)
                    yield address, answer
                    return
                target = _header(answer, "location") or ""
            address = self._allowed.judge(urljoin(address.url, target))
        raise UnavailableError(
            f"The host {shown(address.host)} redirects more than {_MAX_REDIRECTS} times.", hint="Give the last address."
        )

    def _trust(self) -> ssl.SSLContext:
        context = httpcore2.default_ssl_context()
        if self._ca_file is not None and self._ca_file != Path():
            try:
                context.load_verify_locations(self._ca_file)
            except (OSError, ssl.SSLError):
                raise FailedPreconditionError(
                    "NBA_MCP_WEB__CA_FILE cannot be read as certificates.", hint="Set it to a PEM file."
                ) from None
        return context


# The connection ------------------------------------------------------------------------------------------------


class _Pinned(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, whatever name it is asked for; the name is for TLS and the request."""

    def __init__(
        self, addresses: Sequence[str], deadline: Deadline, cancelled: Callable[[], bool], remote: RemoteSettings
    ) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._cancelled = cancelled
        self._remote = remote
        self._inner = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        ends_s = time.monotonic() + self._remote.connect_timeout_s
        failure: Exception | None = None
        for address in self._addresses:
            wait_s = min(ends_s - time.monotonic(), self._deadline.left_s)
            if wait_s <= 0:
                break
            try:
                stream = self._inner.connect_tcp(address, port, wait_s, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as refusal:
                failure = refusal
            else:
                return _Watched(stream, self._deadline, self._cancelled, self._remote.read_timeout_s)
        raise failure or httpcore2.ConnectTimeout("no address answered in time")


class _Watched(httpcore2.NetworkStream):
    """A stream that ends with its deadline or its job, however slowly the other side drips."""

    def __init__(
        self, inner: httpcore2.NetworkStream, deadline: Deadline, cancelled: Callable[[], bool], silence_s: float
    ) -> None:
        self._inner = inner
        self._deadline = deadline
        self._cancelled = cancelled
        self._silence_s = silence_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends_s = time.monotonic() + self._silence_s
        while True:
            if self._cancelled():
                raise CancelledError("The job was cancelled.")
            self._deadline.check()
            try:
                return self._inner.read(max_bytes, min(_SLICE_S, self._silence_s))
            except httpcore2.ReadTimeout:
                if time.monotonic() >= ends_s:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._silence_s)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        wait_s = min(self._silence_s, self._deadline.left_s) or _SLICE_S
        inner = self._inner.start_tls(ssl_context, server_hostname, wait_s)
        return _Watched(inner, self._deadline, self._cancelled, self._silence_s)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@contextlib.contextmanager
def _explained(address: WebAddress) -> Iterator[None]:
    """Turn what the connection raises into our errors."""
    host = shown(address.netloc)
    try:
        yield
    except LifecycleError:
        raise
    except httpcore2.TimeoutException as refusal:
        raise UnavailableError(f"{host} did not answer in time.", hint="Try again later.") from refusal
    except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError) as refusal:
        if "CERTIFICATE_VERIFY_FAILED" in str(refusal):
            raise UnavailableError(
                f"{host} shows a certificate that is not trusted for it; nothing was fetched.",
                hint="Check the host's name; NBA_MCP_WEB__CA_FILE names further certificates to trust.",
            ) from refusal
        raise UnavailableError(
            f"{host} cannot be reached, or broke off: {shown(str(refusal), 100)}.",
            hint="Check the address, then try again.",
        ) from refusal


# The answer ----------------------------------------------------------------------------------------------------


def _body(answer: httpcore2.Response, name: str) -> Iterator[bytes]:
    """Return what an answer carries, its transfer's compression undone; a file that is itself a .gz stays one."""
    encoding = (_header(answer, "content-encoding") or "identity").lower()
    if encoding == "identity" or (encoding in ("gzip", "x-gzip") and name.lower().endswith(".gz")):
        return answer.iter_stream()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _inflated(answer.iter_stream())
    raise InvalidArgumentError(
        f"The host sends the file in the encoding {shown(encoding)}, unasked.",
        hint="Only gzip and deflate are undone.",
    )


def _inflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the decompressed bytes in pieces of bounded size, so that a bomb meets the limit before the memory."""
    inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, as its head says
    try:
        for part in parts:
            rest = part
            while rest:
                if inflate.eof:  # another member follows
                    inflate = zlib.decompressobj(wbits=47)
                yield inflate.decompress(rest, _PART_BYTES)
                rest = inflate.unconsumed_tail or inflate.unused_data
        yield inflate.flush()
    except zlib.error:
        raise InvalidArgumentError("The host's compressed answer is damaged.", hint="Try again.") from None
    if not inflate.eof:
        raise UnavailableError("The host's compressed answer is cut off.", hint="Try again.")


def _request_headers(address: WebAddress) -> dict[bytes | str, bytes | str]:
    return {
        "Host": address.netloc,
        "User-Agent": "nba-mcp",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def _header(answer: httpcore2.Response, name: str) -> str | None:
    found = [value for key, value in answer.headers if key.lower() == name.encode()]
    return found[0].decode("latin-1")[:2000] if found else None


def _length(answer: httpcore2.Response) -> int | None:
    text = _header(answer, "content-length") or ""
    return int(text) if text.isascii() and text.isdigit() else None


def _check_status(answer: httpcore2.Response, address: WebAddress) -> None:
    where, status = shown(address.public_url, 200), answer.status
    if status == 200:
        return
    if status in (404, 410):
        raise NotFoundError("source", address.public_url, hint=f"The host answers {status}: check the address.")
    if status in (401, 403, 407, 451):
        raise PermissionDeniedError(
            f"The host refuses {where} with status {status}.", hint="No credentials are sent; give a public address."
        )
    if status in (408, 425, 429) or status >= 500:
        raise UnavailableError(f"The host answers {where} with status {status}.", hint="Try again later.")
    raise InvalidArgumentError(f"The host answers {where} with status {status}, not with a file.", hint="Check it.")


def _file_name(asked: WebAddress, found: WebAddress, answer: httpcore2.Response) -> str:
    """Return a name for the file whose ending says its format: the address's, else one for its media type."""
    from mcp_server.stores.sources.parse import kind_of

    names = [safe_name(unquote(address.path)) for address in (asked, found)]
    for name in names:
        with contextlib.suppress(InvalidArgumentError):
            kind_of(name)
            return name
    media_type = (_header(answer, "content-type") or "").partition(";")[0].strip().lower()
    return names[0] + _ENDINGS.get(media_type, "")
