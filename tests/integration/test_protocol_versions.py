"""Clients of every protocol version, over every transport, against a real server process."""

import asyncio
import http.client
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp_types import ElicitResult

from tests.integration.rpc import (
    MODERN,
    HttpPeer,
    StdioPeer,
    descendants,
    environment,
    http_server,
    initialize,
    none_left,
    stdio_server,
    with_meta,
)

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("protocol")]

HANDSHAKES = ["2024-11-05", "2025-06-18", "2025-11-25"]
VERSIONS = [*HANDSHAKES, MODERN]
ACCEPT = {"action": "accept", "content": {"confirm": True}}
DECLINE = {"action": "decline"}
SAMPLE = {"name": "games", "source": "nba://sample", "options": {"seasons": 1, "seed": 1}}
MANY = {"name": "many", "source": "nba://sample", "options": {"seasons": 40, "seed": 1}}
# The person is asked before the name is looked up.
DELETION = {"name": "delete_endpoint", "arguments": {"endpoint": "nowhere"}}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data directory for the tests of this file: migrations run once."""
    return tmp_path_factory.mktemp("protocol")


@pytest.fixture(scope="module")
def base_url(data_dir: Path) -> Iterator[str]:
    with http_server(data_dir, NBA_MCP_HTTP_ROLE="admin") as (url, _):
        yield url


def error_of(answer: dict[str, Any]) -> dict[str, Any]:
    assert answer["result"]["isError"]
    error: dict[str, Any] = json.loads(answer["result"]["content"][0]["text"])["error"]
    return error


def reads_well(listed: dict[str, Any], read: dict[str, Any], failed: dict[str, Any]) -> None:
    tools = {tool["name"]: tool for tool in listed["result"]["tools"]}
    assert len(tools) > 50
    assert tools["get_identity"]["inputSchema"]["type"] == "object"
    assert json.loads(read["result"]["content"][0]["text"])["role"] == "admin"
    assert error_of(failed)["code"] == "not_found"


@pytest.mark.parametrize("version", [*(pytest.param(v, marks=pytest.mark.slow) for v in HANDSHAKES), MODERN])
async def test_stdio_by_hand(data_dir, version):
    asks: dict[str, Any] = {"elicitation": {}}
    async with stdio_server(data_dir) as peer:

        async def request(method: str, params: dict[str, Any] | None = None, can: Any = asks) -> dict[str, Any]:
            return await peer.request(method, with_meta(params or {}, version, can) if version == MODERN else params)

        if version != MODERN:
            answer = await peer.request("initialize", initialize(version, asks))
            assert answer["result"]["protocolVersion"] == version
            assert answer["result"]["serverInfo"]["name"] == "nba-mcp"
            await peer.send({"method": "notifications/initialized"})
        reads_well(
            await request("tools/list"),
            await request("tools/call", {"name": "get_identity", "arguments": {}}),
            await request("tools/call", {"name": "get_job", "arguments": {"job_id": "none"}}),
        )
        for reply, code in ((ACCEPT, "not_found"), (DECLINE, "cancelled")):
            peer.answers["elicitation/create"] = reply
            answer = await request("tools/call", DELETION)
            if version == MODERN:
                answer = await _second_round(request, answer["result"], reply)
            assert error_of(answer)["code"] == code
        await _watch_a_job(peer, request)
        for line in peer.lines:
            assert json.loads(line)["jsonrpc"] == "2.0"


async def _second_round(request: Any, asked: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
    """Answer the questions of a call as the newest version does: by calling again with the answers."""
    assert asked["resultType"] == "input_required"
    (key,) = asked["inputRequests"]
    assert "delete_endpoint" in asked["inputRequests"][key]["params"]["message"]
    answers = {"inputResponses": {key: reply}, "requestState": asked["requestState"]}
    answer: dict[str, Any] = await request("tools/call", DELETION | answers)
    return answer


async def _watch_a_job(peer: StdioPeer | HttpPeer, request: Any) -> None:
    """Start a job with a progress token: notifications with that token come before the answer."""
    call = {"name": "import_dataset", "arguments": SAMPLE | {"wait_seconds": 60}, "_meta": {"progressToken": "p1"}}
    answer = await request("tools/call", call)
    assert not answer["result"].get("isError"), answer
    job = json.loads(answer["result"]["content"][0]["text"])
    assert job["state"] == "succeeded"
    told = [note["params"] for note in peer.notifications if note["method"] == "notifications/progress"]
    assert all(note["progressToken"] == "p1" for note in told)
    assert [note["progress"] for note in told] == sorted(note["progress"] for note in told)


@pytest.mark.parametrize(
    "version", [*(pytest.param(v, marks=pytest.mark.slow) for v in HANDSHAKES[:-1]), *VERSIONS[-2:]]
)
async def test_streamable_http_by_hand(base_url, version):
    async with httpx2.AsyncClient(base_url=base_url, timeout=90) as client:
        peer = HttpPeer(client, version)
        assert (await peer.connect())["result"]["protocolVersion"] == version
        reads_well(
            await peer.request("tools/list"),
            await peer.request("tools/call", {"name": "get_identity", "arguments": {}}),
            await peer.request("tools/call", {"name": "get_job", "arguments": {"job_id": "none"}}),
        )
        refused = error_of(await peer.request("tools/call", DELETION))
        assert refused["code"] == "failed_precondition"
        assert "confirm=true" in refused["hint"]
        confirmed = {"name": "delete_endpoint", "arguments": {"endpoint": "nowhere", "confirm": True}}
        assert error_of(await peer.request("tools/call", confirmed))["code"] == "not_found"
        await _watch_a_job(peer, peer.request)


@pytest.mark.parametrize("mode", ["legacy", pytest.param("auto", marks=pytest.mark.slow), MODERN])
@pytest.mark.parametrize("transport", [pytest.param("stdio", marks=pytest.mark.slow), "http"])
async def test_the_client_of_the_sdk(data_dir, base_url, transport, mode):
    await _converse(_place(data_dir, base_url, transport), mode)


async def test_the_client_of_the_sdk_over_legacy_sse(base_url):
    await _converse(sse_client(f"{base_url}/sse"), "legacy")


def _place(data_dir: Path, base_url: str, transport: str) -> Any:
    if transport == "http":
        return f"{base_url}/mcp"
    return StdioServerParameters(command=sys.executable, args=["-m", "mcp_server", "serve"], env=environment(data_dir))


async def _converse(place: Any, mode: str) -> None:
    questions: list[str] = []
    heard: list[float] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    async def on_progress(progress: float, _total: float | None, _message: str | None) -> None:
        heard.append(progress)

    async with Client(place, mode=mode, elicitation_callback=person, read_timeout_seconds=90) as client:
        assert len((await client.list_tools()).tools) > 50
        identity = await client.call_tool("get_identity", {})
        assert identity.structured_content["role"] == "admin"
        assert (await client.call_tool("get_job", {"job_id": "none"})).is_error
        refused = await client.call_tool("delete_endpoint", {"endpoint": "nowhere"})
        assert json.loads(refused.content[0].text)["error"]["code"] == "not_found"
        assert questions == ["Run delete_endpoint with endpoint = 'nowhere'?"]
        job = await client.call_tool("import_dataset", SAMPLE | {"wait_seconds": 60}, progress_callback=on_progress)
        assert job.structured_content["state"] == "succeeded", job.content
        assert heard == sorted(heard)


@pytest.mark.parametrize("mode", ["legacy", MODERN])
@pytest.mark.slow
async def test_progress_of_a_long_job_is_told(base_url, mode):
    heard: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, _total: float | None, message: str | None) -> None:
        heard.append((progress, message))

    features = {"name": "features", "recipe": "nba_game_features", "inputs": ["many"]}
    async with Client(f"{base_url}/mcp", mode=mode, read_timeout_seconds=90) as client:
        await client.call_tool("import_dataset", MANY | {"wait_seconds": 60})
        for tool, arguments in (("transform_dataset", features), ("describe_dataset", {"dataset": "features"})):
            job = await client.call_tool(tool, arguments | {"wait_seconds": 60}, progress_callback=on_progress)
            assert job.structured_content is not None, job.content
            assert job.structured_content["state"] == "succeeded"
    assert heard
    assert all(0 <= progress <= 1 and message for progress, message in heard)


@pytest.mark.slow
async def test_http_shows_and_allows_a_viewer_only_reading(tmp_path):
    with http_server(tmp_path) as (url, _):
        await _see_what_a_viewer_sees(url)


async def _see_what_a_viewer_sees(url: str) -> None:
    async with Client(f"{url}/mcp") as client:
        listed = (await client.list_tools()).tools
        assert listed
        assert all(tool.annotations.read_only_hint for tool in listed)
        assert "list_audit_events" not in {tool.name for tool in listed}
        for tool in ("deploy_model", "import_dataset", "list_audit_events"):
            answer = await client.call_tool(tool, {"nonsense": 1})
            assert json.loads(answer.content[0].text)["error"]["code"] == "permission_denied"


PING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": initialize("2025-11-25")}
JSON_OR_EVENTS = {"accept": "application/json, text/event-stream"}


async def test_http_refuses_strange_hosts_origins_and_large_bodies(base_url):
    port = base_url.rpartition(":")[2]
    async with httpx2.AsyncClient(base_url=base_url, timeout=60) as client:

        async def status(path: str = "/mcp", **headers: str) -> int:
            if path != "/mcp":
                return (await client.get(path, headers=headers)).status_code
            return (await client.post(path, headers=JSON_OR_EVENTS | headers, json=PING)).status_code

        assert await status() == 200
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", ""):
            assert await status(host=host) in (400, 421), host
            assert await status("/sse", host=host) in (400, 421), host
            assert await status("/health/ready", host=host) in (400, 421), host
        for host in ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "[::1]"):
            assert await status(host=host) == 200, host
            assert await status("/health/live", host=host) == 200, host
        for origin in ("http://evil.example", "null", f"http://localhost.evil.example:{port}"):
            assert await status(origin=origin) == 403, origin
            assert await status("/sse", origin=origin) == 403, origin
        assert await status(origin=f"http://localhost:{port}") == 200
        large = json.dumps(PING | {"params": {"padding": "x" * (4 * 1024**2)}})
        for headers in (JSON_OR_EVENTS, JSON_OR_EVENTS | {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"}):
            sent = await client.post("/mcp", headers=headers | {"content-type": "application/json"}, content=large)
            assert sent.status_code == 413
        assert await status() == 200


def test_a_connection_outlives_a_refusal(base_url):
    """The SDK raises behind some refusals, which must not close the connection under the client's next request."""
    host, _, port = base_url.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for path in ("/sse", "/mcp", "/sse"):
        for _ in range(3):
            connection.request("GET", path, headers={"origin": "http://evil.example"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 403
    connection.close()


@pytest.mark.slow
async def test_health_is_alive_at_once_and_ready_when_open(tmp_path):
    with http_server(tmp_path) as (url, _):
        await _watch_it_open(url)


async def _watch_it_open(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/health/live")).json() == {"status": "alive"}
        seen = []
        for _attempt in range(600):
            ready = await client.get("/health/ready")
            seen.append(ready.status_code)
            if ready.status_code == 200:
                break
            assert ready.status_code == 503
            assert ready.json()["status"] == "starting"
            await asyncio.sleep(0.1)
        assert seen[0] == 503
        assert seen[-1] == 200
        assert ready.json() == {"status": "ready"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_a_binding_that_others_can_reach_is_refused(tmp_path, host):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mcp_server", "serve", "--transport", "http", "--port", "0", "--host", host),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(tmp_path),
    )
    out, err = await process.communicate()
    assert process.returncode == 1
    assert out == b""
    first, hint = err.decode().strip().splitlines()
    assert first.startswith(f"nba-mcp: Refusing to listen on {host}")
    assert "127.0.0.1" in hint


@pytest.mark.slow
async def test_stateless_json_answers_without_a_session_or_events(data_dir):
    with http_server(data_dir, NBA_MCP_HTTP__STATELESS_JSON="true", NBA_MCP_HTTP_ROLE="admin") as (url, _):
        for version in VERSIONS:
            await _ask_without_a_session(url, version)


async def _ask_without_a_session(url: str, version: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        peer = HttpPeer(client, version)
        await peer.connect()
        response = await peer.post("tools/call", {"name": "get_identity", "arguments": {}})
        assert response.headers["content-type"].startswith("application/json")
        assert "mcp-session-id" not in response.headers
        assert json.loads(response.json()["result"]["content"][0]["text"])["role"] == "admin"


async def _started(peer: StdioPeer) -> list[Any]:
    """Shake hands, wait until the server's worker runs a job, and return the processes below the server."""
    await peer.request("initialize", initialize("2025-11-25"))
    await peer.send({"method": "notifications/initialized"})
    await peer.request("tools/call", {"name": "import_dataset", "arguments": SAMPLE | {"wait_seconds": 60}})
    below = descendants(peer.process.pid)
    assert any("worker" in process.cmdline() for process in below)
    return below


@pytest.mark.slow
async def test_a_client_that_leaves_takes_server_and_worker_with_it(tmp_path):
    async with stdio_server(tmp_path) as peer:
        below = await _started(peer)
        peer.process.stdin.close()
        assert await peer.ended() == 0
        assert await none_left(below)


@pytest.mark.slow
async def test_sigterm_lets_a_call_end_and_leaves_no_process(tmp_path):
    async with stdio_server(tmp_path, NBA_MCP_DRAIN_S="20") as peer:
        below = await _started(peer)
        slow = {"name": "import_dataset", "arguments": MANY | {"wait_seconds": 10}}
        await peer.send({"id": "slow", "method": "tools/call", "params": slow})
        await peer.request("tools/call", {"name": "get_identity", "arguments": {}})  # by now the slow one has begun
        peer.process.send_signal(signal.SIGTERM)
        answer = await peer.receive()
        while answer.get("id") != "slow":
            answer = await peer.receive()
        assert json.loads(answer["result"]["content"][0]["text"])["kind"] == "import_dataset"
        assert await peer.ended() == 0
        assert await none_left(below)


@pytest.mark.slow
async def test_sigterm_ends_an_http_server_with_its_worker(tmp_path):
    with http_server(tmp_path, NBA_MCP_HTTP_ROLE="admin") as (url, process_id):
        async with Client(f"{url}/mcp") as client:
            job = await client.call_tool("import_dataset", SAMPLE | {"wait_seconds": 60})
            assert job.structured_content is not None, job.content
            assert job.structured_content["state"] == "succeeded"
        below = descendants(process_id)
        assert below
    assert await none_left(below)
