"""Files fetched over https, from a real server with a certificate of a test authority."""

import gzip
import json
import threading
import time
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mcp_server.errors import (
    CancelledError,
    FailedPreconditionError,
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from mcp_server.runtime.progress import NoProgress
from mcp_server.settings import LimitSettings, RemoteSettings, WebSettings
from mcp_server.stores.sources.reader import Brought
from mcp_server.stores.sources.web import WebSources
from tests.tls_server import TlsServer, run_counting_listener, run_tls_server

CSV = b"team,points\nBOS,101\nLAL,99\n"
HOST = "data.test"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    with run_tls_server(tmp_path_factory.mktemp("tls"), HOST, "other.test", "127.0.0.1") as server:
        yield server


@pytest.fixture
def server(tls: TlsServer) -> TlsServer:
    tls.answers.clear()
    tls.requests.clear()
    return tls


class World:
    """A reader of one server, with what it may do."""

    def __init__(self, server: TlsServer, folder: Path, **settings: Any) -> None:
        self.server = server
        self.folder = folder
        self.looked_up: list[str] = []
        self.addresses = {HOST: ["127.0.0.1"], "other.test": ["127.0.0.1"], "127.0.0.1": ["127.0.0.1"]}
        self.private = [f"{HOST}:{server.port}", f"127.0.0.1:{server.port}"]
        self.remote = RemoteSettings(connect_timeout_s=1, read_timeout_s=1)
        self.limits = LimitSettings(**settings)
        self.ca_file: Path | None = server.ca_file

    def url(self, path: str, host: str = HOST) -> str:
        return f"https://{host}:{self.server.port}{path}"

    def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return self.addresses[host]

    def reader(self) -> WebSources:
        settings = WebSettings(private_hosts=tuple(self.private), ca_file=self.ca_file)
        return WebSources(settings, self.remote, self.limits, self.resolve)

    def bring(self, url: str, format: str | None = None, progress: Any = None, **options: Any) -> Brought:
        return self.reader().bring(url, format, options, self.output, progress or NoProgress())

    @property
    def output(self) -> Path:
        return self.folder / "out.parquet"

    def rows(self) -> list[dict[str, Any]]:
        return pl.read_parquet(self.output).to_dicts()

    def refused(self, url: str) -> LifecycleError:
        with pytest.raises(LifecycleError) as refusal:
            self.bring(url)
        assert not self.output.exists()
        assert list(self.folder.glob("fetched-*")) == []
        return refusal.value


@pytest.fixture
def world(server: TlsServer, tmp_path: Path) -> World:
    return World(server, tmp_path)


def test_a_file_is_fetched_and_read(world: World) -> None:
    world.server.serve("/games.csv", CSV, etag='"abc"', last_modified="Mon, 01 Jan 2024 00:00:00 GMT")
    brought = world.bring(world.url("/games.csv?key=hunter2"))
    assert world.rows() == [{"team": "BOS", "points": 101}, {"team": "LAL", "points": 99}]
    assert brought.source == world.url("/games.csv?key=…")
    assert brought.details["etag"] == '"abc"'
    assert brought.details["format"] == "csv"
    assert "hunter2" not in repr(brought)
    (path, headers) = world.server.requests[0]
    assert path == "/games.csv?key=hunter2"
    assert headers["host"] == f"{HOST}:{world.server.port}"
    assert "cookie" not in headers
    assert "authorization" not in headers


def test_an_address_that_is_an_ip_needs_a_certificate_for_it(world: World) -> None:
    world.server.serve("/games.csv", CSV)
    world.bring(world.url("/games.csv", host="127.0.0.1"))
    assert len(world.rows()) == 2


def test_the_media_type_says_the_format_where_the_address_does_not(world: World) -> None:
    world.server.serve("/download", b'{"a": 1}\n{"a": 2}\n', content_type="application/x-ndjson; charset=utf-8")
    world.bring(world.url("/download?id=7"))
    assert world.rows() == [{"a": 1}, {"a": 2}]


def test_the_argument_says_the_format_where_nothing_else_does(world: World) -> None:
    world.server.serve("/download", CSV)
    world.bring(world.url("/download"), format="csv")
    assert len(world.rows()) == 2


@pytest.mark.parametrize(
    ("path", "body", "encoding"),
    [
        ("/a.csv", gzip.compress(CSV, mtime=0), "gzip"),
        ("/a.csv", gzip.compress(CSV[:12], mtime=0) + gzip.compress(CSV[12:], mtime=0), "gzip"),
        ("/a.csv", zlib.compress(CSV), "deflate"),
        ("/a.csv.gz", gzip.compress(CSV, mtime=0), "identity"),
        ("/a.csv.gz", gzip.compress(CSV, mtime=0), "x-gzip"),
    ],
)
def test_compression_is_undone_once(world: World, path: str, body: bytes, encoding: str) -> None:
    world.server.serve(path, body, content_encoding=encoding)
    world.bring(world.url(path))
    assert [row["points"] for row in world.rows()] == [101, 99]


def test_a_bomb_meets_the_limit(server: TlsServer, tmp_path: Path) -> None:
    world = World(server, tmp_path, max_file_bytes=1_000_000)
    world.server.serve("/a.csv", gzip.compress(bytes(50_000_000)), content_encoding="gzip")
    assert isinstance(world.refused(world.url("/a.csv")), ResourceExhaustedError)


def test_an_answer_that_is_too_large_is_not_begun(server: TlsServer, tmp_path: Path) -> None:
    world = World(server, tmp_path, max_file_bytes=20)
    world.server.serve("/a.csv", CSV)
    assert "27 bytes" in world.refused(world.url("/a.csv")).message


def test_a_damaged_or_unknown_encoding_is_refused(world: World) -> None:
    world.server.serve("/a.csv", b"no gzip", content_encoding="gzip")
    assert isinstance(world.refused(world.url("/a.csv")), InvalidArgumentError)
    world.server.serve("/b.csv", gzip.compress(CSV)[:-9], content_encoding="gzip")
    assert isinstance(world.refused(world.url("/b.csv")), UnavailableError)
    world.server.serve("/c.csv", CSV, content_encoding="br")
    assert isinstance(world.refused(world.url("/c.csv")), InvalidArgumentError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (410, NotFoundError), (401, PermissionDeniedError), (403, PermissionDeniedError),
     (429, UnavailableError), (503, UnavailableError), (204, InvalidArgumentError)],
)  # fmt: skip
def test_a_status_that_is_no_file_is_explained(world: World, status: int, kind: type[LifecycleError]) -> None:
    world.server.serve("/a.csv", b"", status=status)
    assert isinstance(world.refused(world.url("/a.csv?sig=hunter2")), kind)


# Redirects -----------------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_and_named(world: World) -> None:
    world.server.serve("/old.csv", b"", status=302, location="/new/?token=hunter2", set_cookie="a=b")
    world.server.serve("/new/", CSV)
    brought = world.bring(world.url("/old.csv"))
    assert len(world.rows()) == 2
    assert brought.details["redirected_to"] == world.url("/new/?token=…")
    assert "cookie" not in world.server.requests[1][1]


@pytest.mark.parametrize(
    "location",
    ["https://other.test:{port}/x.csv", "http://data.test:{port}/x.csv", "//169.254.169.254/x", "file:///etc/passwd",
     "https://u:p@data.test:{port}/x.csv", "https://localhost:{port}/x.csv"],
)  # fmt: skip
def test_a_redirect_to_what_is_not_allowed_is_denied(world: World, location: str) -> None:
    world.server.serve("/old.csv", b"", status=301, location=location.format(port=world.server.port))
    assert isinstance(world.refused(world.url("/old.csv")), PermissionDeniedError)
    assert len(world.server.requests) == 1


def test_a_redirect_is_looked_up_and_checked_again(world: World) -> None:
    world.server.serve("/old.csv", b"", status=307, location="/new.csv")
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    world.resolve = lambda host, port: next(answers)  # type: ignore[method-assign]
    assert isinstance(world.refused(world.url("/old.csv")), PermissionDeniedError)
    assert len(world.server.requests) == 1


def test_redirects_end(world: World) -> None:
    world.server.serve("/round.csv", b"", status=302, location="/round.csv")
    assert isinstance(world.refused(world.url("/round.csv")), UnavailableError)
    assert len(world.server.requests) == 6


# The connection ------------------------------------------------------------------------------------------------


def test_the_address_that_was_checked_is_the_one_connected_to(world: World) -> None:
    world.server.serve("/games.csv", CSV)
    answers = iter([["127.0.0.1"]])  # a second look-up would end the test
    world.resolve = lambda host, port: next(answers)  # type: ignore[method-assign]
    world.bring(world.url("/games.csv"))
    assert len(world.rows()) == 2


def test_a_second_address_is_tried_where_the_first_is_silent(world: World) -> None:
    world.server.serve("/games.csv", CSV)
    world.addresses[HOST] = ["127.0.0.2", "127.0.0.1"]
    world.bring(world.url("/games.csv"))
    assert len(world.rows()) == 2


def test_nothing_connects_to_a_public_host_that_resolves_to_this_machine(tmp_path: Path) -> None:
    with run_counting_listener() as listener:
        settings = WebSettings(allowed_hosts=(f"{HOST}:{listener.port}",))
        reader = WebSources(settings, RemoteSettings(), LimitSettings(), lambda host, port: ["127.0.0.1"])
        with pytest.raises(PermissionDeniedError):
            reader.bring(f"https://{HOST}:{listener.port}/x.csv", None, {}, tmp_path / "out", NoProgress())
    assert listener.n_connections == 0


def test_a_certificate_for_another_name_is_refused(world: World) -> None:
    world.addresses["wrong.test"] = ["127.0.0.1"]
    world.private.append(f"wrong.test:{world.server.port}")
    assert "certificate" in world.refused(world.url("/games.csv", host="wrong.test")).message
    assert world.server.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(world: World) -> None:
    world.ca_file = None
    assert "certificate" in world.refused(world.url("/games.csv")).message


def test_a_file_of_certificates_that_is_none_is_named(world: World, tmp_path: Path) -> None:
    world.ca_file = tmp_path / "none.pem"
    assert isinstance(world.refused(world.url("/games.csv")), FailedPreconditionError)


def test_a_proxy_of_the_environment_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.server.serve("/games.csv", CSV)
    with run_counting_listener() as listener:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
        world.bring(world.url("/games.csv"))
    assert listener.n_connections == 0


def test_a_host_that_is_down_is_unavailable_at_once(world: World) -> None:
    world.private.append(f"{HOST}:1")
    started = time.monotonic()
    assert isinstance(world.refused(f"https://{HOST}:1/a.csv"), UnavailableError)
    assert time.monotonic() - started < 3


def test_a_host_that_accepts_and_says_nothing_is_unavailable_in_time(world: World) -> None:
    with run_counting_listener(hold=True) as listener:
        world.private.append(f"{HOST}:{listener.port}")
        started = time.monotonic()
        assert isinstance(world.refused(f"https://{HOST}:{listener.port}/a.csv"), UnavailableError)
        assert time.monotonic() - started < 3
    assert listener.n_connections == 1


def test_a_host_that_thinks_before_it_answers_is_waited_for(world: World) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        for part in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: %d\r\n\r\n" % len(CSV), CSV[:9], CSV[9:]):
            threading.Event().wait(0.4)
            handler.wfile.write(part)

    world.server.answers["/a.csv"] = slow
    world.bring(world.url("/a.csv"))
    assert len(world.rows()) == 2


def test_an_answer_that_breaks_off_is_unavailable(world: World) -> None:
    world.server.serve("/a.csv", CSV, content_length="1000")
    assert isinstance(world.refused(world.url("/a.csv")), UnavailableError)


def _dripping(released: threading.Event) -> Any:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not released.wait(0.05):
            handler.wfile.write(b"a,b\n")

    return answer


def test_a_host_that_drips_meets_the_deadline(world: World) -> None:
    released = threading.Event()
    world.server.answers["/a.csv"] = _dripping(released)
    world.remote = RemoteSettings(transfer_timeout_s=0.5)
    started = time.monotonic()
    assert isinstance(world.refused(world.url("/a.csv")), ResourceExhaustedError)
    released.set()
    assert time.monotonic() - started < 3


def test_a_silent_transfer_ends_when_the_job_is_cancelled(world: World) -> None:
    released = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        released.wait(20)

    world.server.answers["/a.csv"] = silent
    world.remote = RemoteSettings(read_timeout_s=30)

    class Cancelled(NoProgress):
        def cancelled(self) -> bool:
            return bool(world.server.requests)  # the request has arrived

    started = time.monotonic()
    with pytest.raises(CancelledError):
        world.bring(world.url("/a.csv"), progress=Cancelled())
    released.set()
    assert time.monotonic() - started < 3


# Off -----------------------------------------------------------------------------------------------------------


def test_without_allowed_hosts_nothing_is_looked_up(tmp_path: Path) -> None:
    looked_up: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return []

    reader = WebSources(WebSettings(), RemoteSettings(), LimitSettings(), resolve)
    with pytest.raises(PermissionDeniedError, match="not allowed") as refusal:
        reader.bring("https://example.org/a.csv?sig=hunter2", None, {}, tmp_path / "out", NoProgress())
    assert looked_up == []
    assert "hunter2" not in json.dumps(refusal.value.to_document())
    assert reader.listed() == []


def test_allowed_hosts_are_listed(world: World) -> None:
    world.private = [HOST]
    assert [each.source for each in world.reader().listed()] == [f"https://{HOST}/…"]
