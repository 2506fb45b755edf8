"""Tables and queries of real databases, PostgreSQL and SQLite."""

import datetime as dt
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from pydantic import SecretStr

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
from mcp_server.settings import LimitSettings, RemoteSettings
from mcp_server.stores.sources.connections import Connections
from mcp_server.stores.sources.reader import Brought
from mcp_server.stores.sources.sql import SqlSources
from tests.postgres import PostgresCluster
from tests.tls_server import run_counting_listener


class World:
    """A reader of the connection `games`, and a way to write to the same database."""

    def __init__(self, url: str, folder: Path, **limits: Any) -> None:
        self.urls = {"games": url}
        self.folder = folder
        self.remote = RemoteSettings(connect_timeout_s=1, read_timeout_s=5, statement_timeout_s=5)
        self.limits = LimitSettings(**limits)

    @property
    def is_sqlite(self) -> bool:
        return self.urls["games"].startswith("sqlite")

    @property
    def output(self) -> Path:
        return self.folder / "out.parquet"

    def execute(self, *statements: str) -> None:
        url = self.urls["games"]
        if self.is_sqlite:
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                for statement in statements:
                    connection.execute(statement)
            connection.close()
            return
        with psycopg.connect(url, autocommit=True) as server:
            for statement in statements:
                server.execute(statement.encode())

    def reader(self) -> SqlSources:
        secrets = {name: SecretStr(url) for name, url in self.urls.items()}
        return SqlSources(Connections(secrets, self.remote), self.remote, self.limits)

    def bring(self, source: str, progress: Any = None, **options: Any) -> Brought:
        return self.reader().bring(source, None, options, self.output, progress or NoProgress())

    def query(self, sql: str, **options: Any) -> pl.DataFrame:
        self.bring(f"sql://games?query={sql}", **options)
        return pl.read_parquet(self.output)

    def table(self, name: str, **options: Any) -> pl.DataFrame:
        self.bring(f"sql://games/{name}", **options)
        return pl.read_parquet(self.output)

    def refused(self, source: str, **options: Any) -> LifecycleError:
        with pytest.raises(LifecycleError) as refusal:
            self.bring(source, **options)
        assert "hunter2" not in json.dumps(refusal.value.to_document())
        assert list(self.folder.iterdir()) == []
        return refusal.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


@pytest.fixture
def sqlite(tmp_path: Path, folder: Path) -> World:
    world = World(f"sqlite:///{tmp_path / 'odd name#.db'}", folder)
    world.execute(
        "CREATE TABLE scores (team TEXT, points INTEGER)", "INSERT INTO scores VALUES ('BOS', 101), ('LAL', 99)"
    )
    return world


@pytest.fixture(scope="module")
def server_url(postgres: PostgresCluster) -> Iterator[str]:
    with postgres.new_database() as url:
        yield url


@pytest.fixture
def server(server_url: str, folder: Path) -> World:
    world = World(server_url, folder)
    world.execute(
        "DROP SCHEMA IF EXISTS public, mart CASCADE",
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
        "CREATE TABLE scores (team text, points int)",
        "INSERT INTO scores VALUES ('BOS', 101), ('LAL', 99)",
    )
    return world


@pytest.fixture(params=["sqlite", "server"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


SCORES = [{"team": "BOS", "points": 101}, {"team": "LAL", "points": 99}]


# Tables and queries --------------------------------------------------------------------------------------------


def test_a_table_is_read(world: World) -> None:
    brought = world.bring("SQL://GAMES/scores")
    assert pl.read_parquet(world.output).to_dicts() == SCORES
    assert brought.source == "sql://games/scores"
    assert brought.details["connection"] == "games"


@pytest.mark.parametrize(
    "query",
    ["SELECT * FROM scores ORDER BY points DESC", "select * from scores order by points desc;",
     "-- all\n/* of */ (SELECT * FROM scores) ORDER BY points DESC", "WITH s AS (SELECT * FROM scores) SELECT * FROM s",
     "SELECT%20*%20FROM%20scores", "SELECT+*+FROM+scores"],
)  # fmt: skip
def test_a_query_is_read(world: World, query: str) -> None:
    if world.is_sqlite and "(SELECT" in query and query.startswith("--"):
        query = query.replace("(", "").replace(")", "")  # SQLite has no SELECT in brackets
    assert world.query(query).to_dicts() == SCORES


def test_a_query_is_taken_as_it_stands(world: World) -> None:
    row = world.query("SELECT 7 % 4 AS \"a%b\", ':x' AS colon, '100%' AS percent, '?' AS mark").to_dicts()
    assert row == [{"a%b": 3, "colon": ":x", "percent": "100%", "mark": "?"}]


def test_the_lineage_has_the_query(world: World) -> None:
    brought = world.bring("sql://games?query=SELECT team FROM scores")
    assert brought.details["query"] == "SELECT team FROM scores"
    assert brought.source == "sql://games?query=SELECT team FROM scores"


def test_odd_names_of_tables_and_columns_are_quoted(world: World) -> None:
    world.execute('CREATE TABLE "odd ""name"" 100%; x" ("a b" text, "select" text)')
    world.execute("""INSERT INTO "odd ""name"" 100%; x" VALUES ('1', '2')""")
    assert world.table('odd "name" 100%; x').to_dicts() == [{"a b": "1", "select": "2"}]
    assert world.table("odd%20%22name%22%20100%25;%20x").to_dicts() == [{"a b": "1", "select": "2"}]


def test_views_are_read(world: World) -> None:
    world.execute("CREATE VIEW best AS SELECT * FROM scores WHERE points > 100")
    assert world.table("best").to_dicts() == SCORES[:1]


def test_tables_of_other_schemas_are_read_and_materialized_views_too(server: World) -> None:
    server.execute("CREATE SCHEMA mart", "CREATE TABLE mart.teams AS SELECT 'BOS' AS team")
    server.execute("CREATE MATERIALIZED VIEW mart.best AS SELECT 1 AS x")
    assert server.table("mart.teams").to_dicts() == [{"team": "BOS"}]
    assert server.table("mart.best").to_dicts() == [{"x": 1}]
    assert server.table("public.scores").to_dicts() == SCORES


@pytest.mark.parametrize("name", ["score", "Scores", "socres"])
def test_a_table_that_is_not_there_carries_near_ones(world: World, name: str) -> None:
    refusal = world.refused(f"sql://games/{name}")
    assert isinstance(refusal, NotFoundError)
    assert "sql://games/scores" in refusal.hint


@pytest.mark.parametrize(
    "name",
    ["models' OR '1'='1", "information_schema.tables", "models UNION SELECT * FROM users", "pg_catalog.pg_shadow",
     "scores; DROP TABLE scores", 'scores" --', "sqlite_master", "pg_authid", "scores?where=1=1", "../scores"],
)  # fmt: skip
def test_only_names_of_tables_are_tables(world: World, name: str) -> None:
    assert isinstance(world.refused(f"sql://games/{name}"), NotFoundError)
    assert world.table("scores").to_dicts() == SCORES


@pytest.mark.parametrize("source", ["sql://", "sql://games", "sql://games/", "sql://games?query=", "sql:games/x"])
def test_what_names_nothing_is_refused(world: World, source: str) -> None:
    assert isinstance(world.refused(source), InvalidArgumentError)


def test_an_unknown_connection_carries_near_ones(world: World) -> None:
    refusal = world.refused("sql://game/scores")
    assert isinstance(refusal, NotFoundError)
    assert "games" in refusal.hint


def test_options_that_there_are_not_are_refused(world: World) -> None:
    assert isinstance(world.refused("sql://games/scores", header=True), InvalidArgumentError)
    assert isinstance(world.refused("sql://games/scores", decimals="exact"), InvalidArgumentError)


def test_no_rows_and_repeated_names_are_refused(world: World) -> None:
    assert "0 rows" in world.refused("sql://games?query=SELECT * FROM scores WHERE points > 1000").message
    refusal = world.refused("sql://games?query=SELECT points, points FROM scores")
    assert "occurs 2 times" in refusal.message
    assert "AS" in refusal.hint


def test_a_wrong_query_is_quoted_with_its_place(server: World) -> None:
    refusal = server.refused("sql://games?query=SELECT point FROM scores")
    assert isinstance(refusal, InvalidArgumentError)
    assert refusal.message.endswith("'column \"point\" does not exist' at character 8.")
    assert "scores.points" in refusal.hint


# Types ---------------------------------------------------------------------------------------------------------


def test_the_types_of_postgresql_come_exactly(server: World) -> None:
    server.execute(
        "CREATE TABLE t (big bigint, small smallint, yes bool, x float8, day date, at timestamp, moment timestamptz, "
        "clock time, word text, code char(3), id uuid, doc jsonb, list int[], span interval, absent int)",
        "INSERT INTO t VALUES (9007199254740993, -1, true, 0.1, '2015-06-16', '2015-06-16 21:00:00.25', "
        "'2015-06-16 21:00:00-04', '21:00', E'é\\n', '001', '00000000-0000-0000-0000-000000000001', "
        "'{\"a\": 1.10}', '{1,2}', '1 day', NULL), (" + ", ".join(["NULL"] * 15) + ")",
    )
    frame = server.table("t")
    assert frame.row(0, named=True) == {
        "big": 9007199254740993, "small": -1, "yes": True, "x": 0.1, "day": dt.date(2015, 6, 16),
        "at": dt.datetime(2015, 6, 16, 21, 0, 0, 250_000), "moment": dt.datetime(2015, 6, 17, 1, tzinfo=dt.UTC),
        "clock": dt.time(21), "word": "é\n", "code": "001", "id": "00000000-0000-0000-0000-000000000001",
        "doc": '{"a": 1.10}', "list": "{1,2}", "span": "1 day", "absent": None,
    }  # fmt: skip
    assert frame.row(1) == (None,) * 15
    assert frame.schema["absent"] == pl.Int64
    kept = server.bring("sql://games/t").findings
    assert [(finding.column, finding.code) for finding in kept] == [
        (name, "kept_as_text") for name in ("doc", "list", "span")
    ]


def test_decimals_are_whole_numbers_floats_or_text(server: World) -> None:
    sql = (
        "SELECT * FROM (VALUES (1.10::numeric(9,2), 3::numeric, 123456789012345678901::numeric, 0.3333333333333333333)"
        ", "
        "(NULL, NULL, NULL, 2.5)) AS t(price, whole, huge, long)"
    )
    brought = server.bring(f"sql://games?query={sql}")
    frame = pl.read_parquet(server.output)
    assert frame.schema == {"price": pl.Float64, "whole": pl.Int64, "huge": pl.String, "long": pl.Float64}
    assert frame.row(0) == (1.1, 3, "123456789012345678901", 1 / 3)
    assert [(finding.column, finding.code) for finding in brought.findings] == [
        ("price", "decimal_as_float"), ("huge", "long_numbers"), ("long", "decimal_as_float"),
    ]  # fmt: skip
    assert "1 have more than 15 digits" in brought.findings[2].message
    assert server.query(sql, decimals="text").row(0) == ("1.10", "3", "123456789012345678901", "0.3333333333333333333")


def test_what_is_no_number_is_missing_and_infinity_stays(server: World) -> None:
    frame = server.query("SELECT 'NaN'::numeric AS a, 'NaN'::float8 AS b, '-Infinity'::numeric AS c")
    assert frame.row(0) == (None, None, float("-inf"))


def test_a_time_beyond_the_calendar_is_refused(server: World) -> None:
    refusal = server.refused("sql://games?query=SELECT 'infinity'::timestamp AS t")
    assert isinstance(refusal, InvalidArgumentError)
    assert "cast to text" in refusal.hint


def test_a_column_without_values_or_type_is_text(world: World) -> None:
    assert world.query("SELECT NULL AS x").schema == {"x": pl.String}


def test_bytes_are_refused(world: World) -> None:
    sql = "SELECT x'00' AS b" if world.is_sqlite else "SELECT '\\x00'::bytea AS b"
    assert "'b' holds bytes" in world.refused(f"sql://games?query={sql}").message


def test_a_type_is_that_of_all_batches(world: World) -> None:
    """The first 5,000 rows are null or whole; what comes late decides."""
    numbers = (
        "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 6000) "
        "SELECT i, CASE WHEN i > 5000 THEN 0.5 END AS late, "
        "CASE WHEN i > 5900 THEN i + 0.25 ELSE i END AS wider, CASE WHEN i > 3000 THEN 'x' END AS word FROM g"
    )
    frame = world.query(numbers)
    assert frame.schema == {"i": pl.Int64, "late": pl.Float64, "wider": pl.Float64, "word": pl.String}
    assert frame["i"].to_list() == list(range(1, 6001))
    assert frame["late"].sum() == 500.0
    assert frame["wider"].sum() == sum(range(1, 6001)) + 25.0
    assert frame["word"].count() == 3000


def test_mixed_values_of_sqlite_are_text_and_said(sqlite: World) -> None:
    sqlite.execute(
        "CREATE TABLE t (v, w)", "INSERT INTO t VALUES (1, 1), ('x', 2.5), (NULL, NULL), (2.5, 9007199254740992)"
    )
    brought = sqlite.bring("sql://games/t")
    frame = pl.read_parquet(sqlite.output)
    assert frame["v"].to_list() == ["1", "x", None, "2.5"]
    assert frame["w"].to_list() == [1.0, 2.5, None, 9007199254740992.0]
    assert [(finding.column, finding.code) for finding in brought.findings] == [("v", "mixed_types")]


def test_the_declared_types_of_sqlite_hold_where_every_value_fits(sqlite: World) -> None:
    sqlite.execute(
        "CREATE TABLE t (day DATE, at DATETIME, iso TIMESTAMP, yes BOOLEAN, odd DATE, two BOOLEAN, code TEXT)",
        "INSERT INTO t VALUES ('2015-06-16', '2015-06-16 21:00:00.25', '2015-06-16T21:00:00', 1, 'soon', 2, '001'),"
        "(NULL, '2015-06-16 21:00:00', NULL, 0, '2015-06-16', 1, '1')",
    )
    frame = sqlite.table("t")
    assert frame.row(0) == (
        dt.date(2015, 6, 16), dt.datetime(2015, 6, 16, 21, 0, 0, 250_000), dt.datetime(2015, 6, 16, 21), True, "soon",
        2, "001",
    )  # fmt: skip


def test_many_rows_come_whole_and_in_order(world: World) -> None:
    n_rows = 120_000
    sql = (
        f"WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {n_rows}) "
        "SELECT i, 'team ' || (i % 30) AS team FROM g"
    )
    frame = world.query(sql)
    assert frame["i"].to_list() == list(range(1, n_rows + 1))
    assert frame["team"].n_unique() == 30


# Limits --------------------------------------------------------------------------------------------------------


def test_cells_columns_and_rows_have_limits(world: World) -> None:
    world.limits = LimitSettings(max_field_bytes=1000, max_columns=3, max_file_bytes=2000)
    long = "hex(zeroblob(1000))" if world.is_sqlite else "repeat('x', 2000)"
    assert isinstance(world.refused(f"sql://games?query=SELECT {long} AS x"), ResourceExhaustedError)
    assert isinstance(world.refused("sql://games?query=SELECT 1 a, 2 b, 3 c, 4 d"), ResourceExhaustedError)
    random = "hex(randomblob(100))" if world.is_sqlite else "md5(random()::text)"
    many = f"WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 3000) SELECT {random} AS x FROM g"
    assert isinstance(world.refused(f"sql://games?query={many}"), ResourceExhaustedError)


ENDLESS = "WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g) SELECT count(*) AS n FROM g"


def test_a_statement_that_does_not_end_is_stopped(world: World) -> None:
    world.remote = RemoteSettings(statement_timeout_s=0.5)
    started = time.monotonic()
    refusal = world.refused(f"sql://games?query={ENDLESS}")
    assert isinstance(refusal, ResourceExhaustedError)
    assert "STATEMENT_TIMEOUT_S" in refusal.hint
    assert time.monotonic() - started < 4


def test_a_transfer_that_does_not_end_is_stopped(world: World) -> None:
    world.remote = RemoteSettings(transfer_timeout_s=0.5)
    refusal = world.refused(
        "sql://games?query=WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g) SELECT i FROM g"
    )
    assert isinstance(refusal, ResourceExhaustedError)
    assert "TRANSFER_TIMEOUT_S" in refusal.hint


def test_a_statement_ends_when_its_job_is_cancelled(world: World) -> None:
    class Cancelled(NoProgress):
        def cancelled(self) -> bool:
            return True

    started = time.monotonic()
    with pytest.raises(CancelledError):
        world.bring(f"sql://games?query={ENDLESS}", progress=Cancelled())
    assert time.monotonic() - started < 4
    assert list(world.folder.iterdir()) == []


# Only reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM scores", "DROP TABLE scores", "UPDATE scores SET points = 0", "INSERT INTO scores VALUES ('x', 1)",
        "SELECT 1; DELETE FROM scores", "SELECT 1 AS x; COMMIT; DELETE FROM scores", "/* */ DELETE FROM scores",
        "WITH x AS (SELECT 1) DELETE FROM scores", "BEGIN", "COMMIT", "PRAGMA query_only=OFF",
        "EXPLAIN DELETE FROM scores",
        "ATTACH 'x.db' AS x", "VACUUM INTO 'x.db'", "CREATE TABLE x (y int)", "",
    ],
)  # fmt: skip
def test_nothing_but_one_select_is_run(world: World, query: str) -> None:
    refusal = world.refused(f"sql://games?query={query}")
    assert refusal.code in ("permission_denied", "invalid_argument")
    assert world.table("scores").to_dicts() == SCORES


@pytest.mark.parametrize(
    "query",
    [
        "COPY scores TO PROGRAM 'touch /tmp/x'", "SELECT pg_sleep(10)",
        "SELECT * FROM scores WHERE points=(SELECT pg_sleep(10))",
        "SELECT pg_read_file('/etc/passwd')", "SELECT \"pg_read_file\"('/etc/passwd')",
        "SELECT U&\"\\0070g_read_file\"('/etc/passwd')",
        "SELECT pg_ls_dir('/')", "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM dblink('dbname=x', 'SELECT 1') AS t(x int)",
        "SELECT query_to_xml('SELECT pg_read_file(''/etc/passwd'')', true, true, '')",
        "SELECT set_config('role', 'postgres', true)",
        "SELECT pg_terminate_backend(1)", "SELECT rolpassword FROM pg_authid", "SELECT * FROM pg_shadow",
        "WITH x AS (DELETE FROM scores RETURNING *) SELECT * FROM x", "SELECT * INTO stolen FROM scores",
        "SELECT * FROM scores FOR UPDATE", "SELECT nextval('s')",
    ],
)  # fmt: skip
def test_postgresql_gives_tables_and_nothing_else_even_to_a_superuser(server: World, query: str) -> None:
    server.execute("CREATE SEQUENCE s")
    started = time.monotonic()
    refusal = server.refused(f"sql://games?query={query}")
    assert refusal.code in ("permission_denied", "invalid_argument")
    assert "root:" not in refusal.message
    assert time.monotonic() - started < 3
    assert server.table("scores").to_dicts() == SCORES


def test_a_superusers_rights_are_dropped_behind_the_words(server: World) -> None:
    """A function that is not on the list of words, and reads a file."""
    server.execute(
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT pg_read_file(''/etc/passwd'')'",
        "ALTER TABLE scores ENABLE ROW LEVEL SECURITY",
    )
    refusal = server.refused("sql://games?query=SELECT f() AS x")
    assert isinstance(refusal, PermissionDeniedError)
    assert "permission denied for function pg_read_file" in refusal.message
    hidden = server.refused("sql://games?query=SELECT * FROM scores")
    assert "row-level security" in hidden.message  # rather than no rows


def test_a_role_without_rights_is_denied(server: World) -> None:
    server.execute("CREATE ROLE guest_of_a_test LOGIN PASSWORD 'hunter2'")
    try:
        server.urls["guest"] = server.urls["games"].replace("postgres@", "guest_of_a_test:hunter2@")
        assert isinstance(server.refused("sql://guest?query=SELECT * FROM scores"), PermissionDeniedError)
        assert isinstance(server.refused("sql://guest/scores"), PermissionDeniedError)
    finally:
        server.execute("DROP ROLE guest_of_a_test")


@pytest.mark.parametrize(
    "query",
    ["SELECT readfile('/etc/passwd')", "SELECT load_extension('x')", "SELECT writefile('x', 'y')",
     "SELECT * FROM pragma_database_list", "SELECT randomblob(1000000000)", "SELECT zeroblob(1000000000)",
     "SELECT printf('%.1000000000c', 'x')", "SELECT fts3_tokenizer('x')"],
)  # fmt: skip
def test_sqlite_gives_tables_and_nothing_else(sqlite: World, query: str) -> None:
    refusal = sqlite.refused(f"sql://games?query={query}")
    assert refusal.code in ("permission_denied", "invalid_argument", "resource_exhausted")
    assert "root:" not in refusal.message


def test_a_database_in_wal_mode_is_read_while_another_writes(sqlite: World) -> None:
    path = sqlite.urls["games"].removeprefix("sqlite:///")
    with sqlite3.connect(path, isolation_level=None) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO scores VALUES ('NYK', 1)")
        assert sqlite.table("scores").to_dicts() == SCORES
        writer.execute("ROLLBACK")
    writer.close()


# Connections ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/x", UnavailableError),
        ("postgresql://me:hunter2@no-such-host.invalid/x", UnavailableError),
        ("postgresql://me:hunter2@127.0.0.1:1/x?nonsense=1", UnavailableError),
        ("postgresql://me:hun@ter2@127.0.0.1:hunter2/x", FailedPreconditionError),
        ("mysql://me:hunter2@127.0.0.1/x", FailedPreconditionError),
        ("hunter2", FailedPreconditionError),
        ("sqlite:////nowhere/hunter2.db", UnavailableError),
        ("sqlite://", UnavailableError),
    ],
)
def test_a_connection_that_cannot_be_made_is_told_without_its_url(
    folder: Path, url: str, kind: type[LifecycleError]
) -> None:
    world = World(url, folder)
    started = time.monotonic()
    refusal = world.refused("sql://games/scores")
    assert isinstance(refusal, kind)
    assert "me:" not in refusal.message
    (listed,) = world.reader().listed()
    assert listed.source == "sql://games"
    assert "hunter2" not in repr(listed)
    assert time.monotonic() - started < 6


def test_a_server_that_accepts_and_says_nothing_is_unavailable_in_time(folder: Path) -> None:
    with run_counting_listener(hold=True) as listener:
        world = World(f"postgresql://me@127.0.0.1:{listener.port}/x", folder)
        started = time.monotonic()
        assert isinstance(world.refused("sql://games/scores"), UnavailableError)
        assert time.monotonic() - started < 4


def test_a_server_that_hangs_in_the_middle_is_cut(server: World) -> None:
    server.remote = RemoteSettings(statement_timeout_s=0.5)
    stopped: list[int] = []

    class Stopping(NoProgress):
        def __call__(self, fraction: float, message: str = "") -> None:
            if message.startswith("read ") and not stopped:
                with psycopg.connect(server.urls["games"]) as other:
                    rows = other.execute(
                        "SELECT pid FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    ).fetchall()
                stopped.extend(int(pid) for (pid,) in rows)
                for pid in stopped:
                    os.kill(pid, signal.SIGSTOP)

    started = time.monotonic()
    try:
        with pytest.raises(LifecycleError) as refusal:
            server.bring("sql://games?query=SELECT i FROM generate_series(1, 100000) AS g(i)", progress=Stopping())
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert refusal.value.code in ("resource_exhausted", "unavailable")
    assert time.monotonic() - started < 10
    assert stopped


def test_a_file_that_is_no_database_is_told(sqlite: World) -> None:
    Path(sqlite.urls["games"].removeprefix("sqlite:///")).write_bytes(b"no database at all" * 100)
    assert isinstance(sqlite.refused("sql://games/scores"), FailedPreconditionError)


def test_tables_are_listed_each_once_and_cut(world: World) -> None:
    world.execute(*(f"CREATE TABLE t{i:02d} (x int)" for i in range(30)))
    listed = world.reader().listed()
    assert [each.source for each in listed[:3]] == [
        "sql://games?query=SELECT …",
        "sql://games/scores",
        "sql://games/t00",
    ]
    assert len(listed) == 21
    assert re.fullmatch(r"sql table of 31", listed[1].kind)


def test_a_secret_is_in_no_repr(world: World) -> None:
    world.urls["other"] = "postgresql://me:hunter2@127.0.0.1:1/x"
    reader = world.reader()
    assert "hunter2" not in repr(reader) + repr(vars(reader)) + repr(vars(vars(reader)["_connections"]))
