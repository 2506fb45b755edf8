"""What a client may read beside the tools."""

import base64
import json
from typing import Any

import polars as pl
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, ResourceTemplateReference, TextResourceContents

from mcp_server.app import App
from mcp_server.engine.plots import histogram
from mcp_server.engine.reports import Report, Section
from mcp_server.runtime.identity import SYSTEM
from mcp_server.tools import resources
from mcp_server.tools.resources import ResourceSpec
from tests.tools.conftest import ServerOf

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("era", ["legacy", "2026-07-28"])


@pytest.fixture(scope="module")
def report_id(app: App) -> str:
    picture = histogram([1.0, 2.0, 2.0], title="Points")
    return app.reports.save(Report("Title", "Said.", [Section("Plot", "Text.", image_png=picture)]), "test", "games")


@pytest.fixture(scope="module", autouse=True)
def suite(app: App) -> None:
    app.suites.save("games", {"expectations": [], "meta": {}}, SYSTEM)
    app.suites.save("gamble", {"expectations": [], "meta": {}}, SYSTEM)


async def read(server: Any, uri: str, era: str = "2026-07-28") -> Any:
    async with Client(server, mode=era) as client:
        (content,) = (await client.read_resource(uri)).contents
        return content


async def refusal(server: Any, uri: str) -> dict[str, Any]:
    async with Client(server) as client:
        with pytest.raises(MCPError) as refused:
            await client.read_resource(uri)
    error: dict[str, Any] = refused.value.error.data["error"]
    assert error["message"] in refused.value.error.message
    return error


async def test_every_template_of_the_contract_is_listed(server_of: ServerOf):
    async with Client(server_of()) as client:
        listed = (await client.list_resource_templates()).resource_templates
    assert {template.uri_template: template.mime_type for template in listed} == {
        "dataset://{name}": "application/json",
        "dataset://{name}/journal": "application/json",
        "dataset://{name}/journal/parquet": "application/vnd.apache.parquet",
        "suite://{name}": "application/json",
        "model://{name}/{version}/card": "text/markdown",
        "report://{id}": "text/html",
        "report://{id}/image": "image/png",
    }


@ERAS
async def test_a_viewer_reads_reports_and_their_pictures(server_of: ServerOf, report_id, app, era):
    page = await read(server_of(role="viewer"), f"report://{report_id}", era)
    assert isinstance(page, TextResourceContents)
    assert page.mime_type == "text/html"
    assert page.text == app.reports.html(report_id)
    picture = await read(server_of(role="viewer"), f"report://{report_id}/image", era)
    assert isinstance(picture, BlobResourceContents)
    assert picture.mime_type == "image/png"
    assert base64.b64decode(picture.blob) == app.reports.image(report_id)


@ERAS
async def test_a_viewer_reads_what_cleaning_changed(server_of: ServerOf, app, era):
    frame = pl.DataFrame({"team": [" BOS", "LAL"]})
    app.datasets.write("teams", frame, source="a test", lineage={}, caller=SYSTEM)
    result = app.cleaning.clean_dataset(caller=SYSTEM, dataset="teams", name="teams-clean", steps=[{"action": "trim"}])
    head = json.loads((await read(server_of(role="viewer"), result.journal_uri, era)).text)
    assert head["rows"] == [[0, "trim", 0, "team", " BOS", "BOS"]]
    whole = await read(server_of(role="viewer"), f"{result.journal_uri}/parquet", era)
    assert isinstance(whole, BlobResourceContents)
    assert [list(row) for row in pl.read_parquet(base64.b64decode(whole.blob)).rows()] == head["rows"]
    assert (await refusal(server_of(), "dataset://teams/journal"))["code"] == "failed_precondition"


async def test_a_suite_is_read_as_great_expectations_json(server_of: ServerOf):
    for name in ("games", "games@1"):
        document = json.loads((await read(server_of(), f"suite://{name}")).text)
        assert document == {"name": "games", "expectations": [], "meta": {}}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("dataset://gmaes", "gmaes"),
        ("suite://gmaes", "gmaes"),
        ("suite://games@9", "games@9"),
        ("model://nobody/1.0.0/card", "nobody"),
        ("report://0123456789abcdef", "0123456789abcdef"),
        ("report://0123456789abcdef/image", "0123456789abcdef"),
        ("secret://x", "secret://x"),
        ("dataset://games/../../etc", "games/../../etc"),
    ],
)
async def test_what_is_not_there_is_said_to_be_not_there(server_of: ServerOf, uri, said):
    error = await refusal(server_of(), uri)
    assert error["code"] == "not_found"
    assert said in error["message"]


async def test_an_unknown_suite_comes_with_near_names(server_of: ServerOf):
    assert "games" in (await refusal(server_of(), "suite://gmaes"))["hint"]


@pytest.mark.parametrize("uri", ["dataset://..%2F..%2Fetc%2Fpasswd", "suite://A B", "model://x/latest/card"])
async def test_what_is_no_address_is_refused(server_of: ServerOf, uri):
    assert (await refusal(server_of(), uri))["code"] in ("invalid_argument", "not_found")


async def test_the_gate_stands_before_resources_too(server_of: ServerOf, app, monkeypatch):
    closed = ResourceSpec("suite://{name}", resources.read_suite, "Suite", "application/json", role="admin")
    monkeypatch.setattr("mcp_server.server.RESOURCES", (closed,))
    assert (await refusal(server_of(role="ml_engineer"), "suite://games"))["code"] == "permission_denied"
    found, _ = app.audit.page(actor=None, tool="resources/read", since=None, limit=1, cursor=None)
    assert (found[0].outcome, found[0].arguments) == ("permission_denied", {"uri": "suite://games"})
    assert (await read(server_of(), "suite://games")).text


@ERAS
async def test_names_are_completed(server_of: ServerOf, era):
    async with Client(server_of(), mode=era) as client:
        found = await client.complete(ResourceTemplateReference(uri="suite://{name}"), {"name": "name", "value": "gam"})
        assert found.completion.values == ["gamble", "games"]
        found = await client.complete(ResourceTemplateReference(uri="suite://{name}"), {"name": "name", "value": "mes"})
        assert found.completion.values == ["games"]
        nothing = await client.complete(ResourceTemplateReference(uri="report://{id}"), {"name": "id", "value": ""})
        assert nothing.completion.values == []
