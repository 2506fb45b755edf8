"""check_integrity and delete_dataset as an assistant calls them."""

import polars as pl
import pytest
from mcp import Client

from mcp_server.app import App
from mcp_server.runtime.identity import Caller
from tests.tools.conftest import ServerOf

ANNA = Caller("anna", "admin")


@pytest.mark.anyio
async def test_every_kind_of_check_goes_through_the_tool(app: App, server_of: ServerOf):
    teams = pl.DataFrame({"team": ["BOS", "LAL"], "season": [2015, 2015]})
    games = pl.DataFrame(
        {"id": [1, 2, 2], "team": ["BOS", "LAL", "LAL"], "season": [2015, 2015, 2016], "pts": [9, 8, 8]}
    )
    for name, frame in (("teams", teams), ("games", games)):
        app.datasets.write(name, frame, source="a test", lineage={}, caller=ANNA)
    arguments = {
        "dataset": "games",
        "primary_key": ["id"],
        "foreign_keys": [{"column": ["team", "season"], "references": ["teams.team", "teams.season"]}],
        "rules": [
            {"column": "pts", "op": ">", "value": 8, "when": {"column": "team", "op": "==", "value": "BOS"}},
            {"kind": "near_duplicates", "except": ["season"]},
            {"kind": "gaps", "column": "season", "every": 1},
            {"kind": "sum", "columns": ["pts", "id"], "op": "==", "value": 10},
        ],
    }

    async with Client(server_of()) as client:
        answer = await client.call_tool("check_integrity", arguments)

    assert answer.structured_content is not None
    result = answer.structured_content["result"]
    assert {each["kind"]: each["violations"] for each in result["checks"]} == {
        "primary_key_missing": 0,
        "primary_key_duplicate": 2,
        "foreign_key": 1,
        "rule": 0,
        "near_duplicates": 2,
        "gaps": 0,
        "sum": 0,
    }
    assert result["checks"][0]["examples"][0]["row_numbers"] == [1, 2]


@pytest.mark.anyio
async def test_a_rule_that_cannot_be_checked_is_named_to_the_assistant(app: App, server_of: ServerOf):
    app.datasets.write("flat", pl.DataFrame({"a": [1]}), source="a test", lineage={}, caller=ANNA)
    rules = [{"column": "a", "op": "==", "value": 1}, {"column": "b", "op": "==", "value": 1}]

    async with Client(server_of()) as client:
        answer = await client.call_tool("check_integrity", {"dataset": "flat", "rules": rules})

    assert answer.is_error
    assert "rules[1]: Dataset flat@1 has no column" in str(answer.content[0])


@pytest.mark.anyio
async def test_a_dataset_that_a_schedule_names_is_kept(app: App, server_of: ServerOf):
    app.datasets.write("nightly", pl.DataFrame({"a": [1]}), source="a test", lineage={}, caller=ANNA)
    app.jobs.save_schedule("every-night", "0 3 * * *", "describe_dataset", {"dataset": "nightly"}, ANNA)

    async with Client(server_of()) as client:
        kept = await client.call_tool("delete_dataset", {"dataset": "nightly", "confirm": True})
        app.jobs.delete_schedule("every-night")
        gone = await client.call_tool("delete_dataset", {"dataset": "nightly", "confirm": True})

    assert kept.is_error
    assert "schedule every-night" in str(kept.content[0])
    assert gone.structured_content is not None
    assert gone.structured_content["deleted"] == ["nightly@1"]
