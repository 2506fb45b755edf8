"""A real server whose data comes from a database, a bucket and a host, and goes back to the bucket."""

import json
from pathlib import Path

import psycopg
import pytest

from mcp_server.errors import PermissionDeniedError, UnavailableError
from tests.integration.client import serving
from tests.postgres import PostgresCluster
from tests.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server
from tests.tls_server import run_tls_server


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_table_goes_from_a_database_to_a_bucket_and_back(
    tmp_path: Path, postgres: PostgresCluster, s3_server: S3Server
) -> None:
    (tmp_path / "root").mkdir()
    with postgres.new_database() as url, run_tls_server(tmp_path, "127.0.0.1") as web:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE scores AS SELECT g AS id, 'team ' || g % 30 AS team FROM generate_series(1, 999) g"
            )
        web.serve("/scores.csv", b"id,team\n1,team 1\n")
        host = f"127.0.0.1:{web.port}"
        settings = {
            "NBA_MCP_CONNECTIONS__STATS": url.replace("postgres@", "postgres:hunter2@"),
            "NBA_MCP_CONNECTIONS__DOWN": "postgresql://me:hunter2@127.0.0.1:1/x",
            "NBA_MCP_S3__BUCKETS": json.dumps([BUCKET]),
            "NBA_MCP_S3__ENDPOINT_URL": s3_server.endpoint_url,
            "NBA_MCP_S3__ACCESS_KEY_ID": ACCESS_KEY,
            "NBA_MCP_S3__SECRET_ACCESS_KEY": SECRET_KEY,
            "NBA_MCP_WEB__PRIVATE_HOSTS": json.dumps([host]),
            "NBA_MCP_WEB__CA_FILE": str(web.ca_file),
        }
        target = f"s3://{BUCKET}/integration/scores.parquet"
        async with serving(tmp_path / "state", tmp_path / "root", settings) as assistant:
            listed = {item["source"] for item in (await assistant.call("list_sources"))["items"]}
            assert {"sql://stats/scores", "sql://down", f"s3://{BUCKET}/…", f"https://{host}/…"} <= listed

            scores = await assistant.do("import_dataset", name="scores", source="sql://stats/scores")
            assert scores["rows"] == 999
            exported = await assistant.call("export_dataset", dataset="scores", target=target, format="parquet")
            assert exported["rows"] == 999
            back = await assistant.do("import_dataset", name="back", source=target)
            assert back["content_hash"] == scores["content_hash"]
            fetched = await assistant.do("import_dataset", name="web", source=f"https://{host}/scores.csv?key=hunter2")
            assert fetched["rows"] == 1

            down = await assistant.refusal("import_dataset", name="x", source="sql://down/scores")
            assert isinstance(down, UnavailableError)
            elsewhere = await assistant.refusal("import_dataset", name="x", source="https://example.org/x.csv")
            assert isinstance(elsewhere, PermissionDeniedError)
            events = await assistant.call("list_audit_events")
            lists = [await assistant.call(tool) for tool in ("list_datasets", "list_sources")]
        assert "hunter2" not in json.dumps([events, lists, scores, fetched])
    kept = [path.read_bytes() for path in (tmp_path / "state").rglob("nba_mcp.db*")]
    assert kept
    assert not any(SECRET_KEY.encode() in data for data in kept)
