import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from mcp_server.errors import (
    InvalidArgumentError,
    LifecycleError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from mcp_server.runtime.child import prepare_children
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import SYSTEM
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.queries import DatasetQueries

GAMES = pl.DataFrame(
    {"id": [1, 2, 3, 4], "team": ["BOS", "LAL", "BOS", None], "points": [101.5, 99.0, 87.25, float("nan")]}
)
TEAMS = pl.DataFrame({"team": ["BOS", "LAL"], "city": ["Boston", "Los Angeles"]})


@pytest.fixture(scope="module", autouse=True)
def _children() -> None:
    prepare_children(["mcp_server.stores.locked_sql", "mcp_server.stores.locked_sql_warm"])


@pytest.fixture
def datasets(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock) -> DatasetStore:
    store = DatasetStore(sqlite_database, artifacts, clock)
    for name, frame in (("games", GAMES.head(2)), ("games", GAMES), ("nba-teams", TEAMS)):
        store.write(name, frame, source="a test", lineage={}, caller=SYSTEM)
    return store


@pytest.fixture
def queries(datasets: DatasetStore, artifacts: ArtifactStore) -> DatasetQueries:
    return DatasetQueries(datasets, artifacts, LimitSettings(query_timeout_s=2.0))


def test_a_select_returns_plain_rows(queries: DatasetQueries) -> None:
    answer = queries.select("SELECT id, team, points FROM games ORDER BY id", limit=3)
    assert answer.columns == ["id", "team", "points"]
    assert answer.dtypes == ["Int64", "String", "Float64"]
    assert answer.rows == [[1, "BOS", 101.5], [2, "LAL", 99.0], [3, "BOS", 87.25]]
    assert answer.truncated
    assert queries.select("SELECT points FROM games WHERE id = 4", 10).rows == [[None]]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ('SELECT city, count(*) n FROM games g JOIN "nba-teams" t USING (team) GROUP BY city ORDER BY n DESC',
         [["Boston", 2], ["Los Angeles", 1]]),
        ("SELECT id, row_number() OVER (PARTITION BY team ORDER BY id) r FROM games QUALIFY r = 2", [[3, 2]]),
        ("WITH best AS (SELECT max(points) p FROM games WHERE NOT isnan(points)) SELECT p FROM best", [[101.5]]),
        ("PIVOT (FROM games WHERE team IS NOT NULL) ON team USING count(*) ORDER BY id LIMIT 1", [[1, 101.5, 1, 0]]),
        ('SELECT count(*) FROM "games@1"', [[2]]),
        ('SELECT count(*) FROM games JOIN "games@1" USING (id)', [[2]]),
        ("SELECT n FROM (PIVOT games ON team USING count(*) GROUP BY id) t(id, n, m) ORDER BY id LIMIT 1", [[1]]),
        ("UNPIVOT (SELECT id, points, points AS p FROM games LIMIT 1) ON points, p INTO NAME k VALUE v",
         [[1, "points", 101.5], [1, "p", 101.5]]),
        ("SELECT team, count(*) FROM games GROUP BY GROUPING SETS ((team), ()) ORDER BY 2 DESC LIMIT 1", [[None, 4]]),
        ("SELECT t.x FROM (VALUES (5)) g(n) ASOF JOIN (VALUES (1, 'a'), (4, 'b')) t(n, x) ON g.n >= t.n", [["b"]]),
        ("SELECT list(id ORDER BY id), histogram(team) FROM games", [[[1, 2, 3, 4], {"BOS": 2, "LAL": 1}]]),
        ("SELECT sum(id) s, avg(id) a FROM games", [[10, 2.5]]),
        ("SELECT 1 a, 2 a", [[1, 2]]),
        ("SELECT TIMESTAMPTZ '2024-01-02 03:04:05+00' t, DATE '2024-01-02' d, 1.5::DECIMAL(9,2) e",
         [["2024-01-02T03:04:05+00:00", "2024-01-02", 1.5]]),
        ("SELECT 9007199254740993 big, [1, 2] l, {'a': 1} s", [["9007199254740993", [1, 2], {"a": 1}]]),
        ("SELECT chr(27) || 'x' || chr(8238) || 'y' AS t", [[" xy"]]),
        ("DESCRIBE games", None),
        ("-- a comment\nSELECT count(*) FROM GAMES;", [[4]]),
    ],
)  # fmt: skip
def test_plain_analytics_work(queries: DatasetQueries, sql: str, rows: list[list[object]] | None) -> None:
    answer = queries.select(sql, 10)
    assert rows is None or answer.rows == rows


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "ATTACH '/tmp/x.db'",
        "ATTACH ':memory:' AS m",
        "EXPORT DATABASE '/tmp/x'",
        "COPY games TO '/tmp/nba-mcp-escaped.csv'",
        "COPY games FROM '/etc/passwd'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "CREATE TABLE t AS SELECT 1",
        "CREATE SECRET s (TYPE http)",
        "DROP VIEW games",
        "INSERT INTO games VALUES (1)",
        "DELETE FROM games",
        "UPDATE games SET id = 2",
        "CALL pragma_version()",
        "CHECKPOINT",
        "USE memory",
        "UPDATE EXTENSIONS",
        "EXPLAIN ANALYZE SELECT * FROM games",
        "PREPARE p AS SELECT 1",
        "/* SELECT */ COPY games TO '/tmp/nba-mcp-escaped.csv'",
        "SELECT current_setting('temp_directory')",
        "SELECT \"CURRENT_SETTING\" /* a */ ('temp_directory')",
        "SELECT * FROM duckdb_settings()",
        "SELECT sql FROM duckdb_views() WHERE view_name = 'games'",
        "SELECT view_definition FROM information_schema.views",
        "SELECT definition FROM pg_views",
        "SELECT * FROM pg_catalog.pg_views",
        "FROM sqlite_master",
        "SELECT * FROM query('SELECT current_setting(''temp_directory'')')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT * FROM sqlite_scan('/tmp/x', 'y')",
        "SELECT * FROM pandas_scan(1)",
        "SELECT getenv('HOME')",
        "SELECT sleep_ms(60000)",
        "SELECT 1 WHERE 1 = (SELECT pg_sleep(60))",
        "PIVOT (FROM '/etc/passwd') ON x",
        "SELECT * FROM 's3://bucket/a.parquet'",
        "SELECT st_read('x')",
    ],
)
def test_what_reaches_outside_or_writes_is_denied(queries: DatasetQueries, sql: str) -> None:
    with pytest.raises(PermissionDeniedError):
        queries.select(sql, 10)
    assert not Path("/tmp/nba-mcp-escaped.csv").exists()


def test_names_of_the_system_may_be_columns_and_text(datasets: DatasetStore, queries: DatasetQueries) -> None:
    frame = pl.DataFrame({"pg_points": [1], "pg_type": ["a"], "query": [2]})
    datasets.write("guards", frame, source="a test", lineage={}, caller=SYSTEM)
    sql = "SELECT pg_points, pg_type, query, 'read_csv(1) duckdb_settings()' AS t FROM guards -- pg_views"
    assert queries.select(sql, 1).rows == [[1, "a", 2, "read_csv(1) duckdb_settings()"]]


def test_show_tables_lists_the_datasets(queries: DatasetQueries) -> None:
    assert queries.select("show tables", 10).rows == [["games"], ["nba-teams"]]


@pytest.mark.parametrize(
    ("expression", "dtype", "cell"),
    [
        ("INTERVAL '3 months 2 days 5 seconds'", "Interval", "3 months 2 days 00:00:05"),
        ("12345678901234567890.125::DECIMAL(38,3)", "Decimal", "12345678901234567890.125"),
        ("170141183460469231731687303715884105727::HUGEINT", "Int128", "170141183460469231731687303715884105727"),
        ("340282366920938463463374607431768211455::UHUGEINT", "UInt128", "340282366920938463463374607431768211455"),
        ("TIMESTAMP '2024-01-02 03:04:05.5'", "Datetime", "2024-01-02T03:04:05.5"),
        ("TIMESTAMPTZ '2024-01-02 03:04:05+02'", "Datetime[UTC]", "2024-01-02T01:04:05+00:00"),
        ("'infinity'::TIMESTAMP", "Datetime", "infinity"),
        ("DATE '20240-01-01'", "Date", "20240-01-01"),
        ("TIME '01:02:03.5'", "Time", "01:02:03.5"),
        ("'\\xAA\\x00a'::BLOB", "Binary", "3 bytes: aa0061"),
        ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID", "UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("'a'::ENUM('a', 'b')", "Enum", "a"),
        ("{'a': 1, 'b': {'c': INTERVAL 1 DAY}}", "Struct", {"a": 1, "b": {"c": "1 day"}}),
        ("MAP {'k': 'nan'::DOUBLE}", "Map", {"k": None}),
        ("range(23)", "List", [*range(20), "… 3 more"]),
        ("[1, 2]::INT[2]", "Array", [1, 2]),
        ("'0101'::BIT", "Bit", "0101"),
        ("'{\"a\": 1}'::JSON", "String", '{"a": 1}'),
        ("union_value(x := 1)", "Union", {"x": 1}),
        ("NULL", "Null", None),
        ("'inf'::DOUBLE", "Float64", None),
        ("repeat('x', 5000)", "String", "x" * 199 + "…"),
    ],
)
def test_a_column_of_any_type_is_shown(queries: DatasetQueries, expression: str, dtype: str, cell: object) -> None:
    answer = queries.select(f"SELECT {expression} AS c", 1)
    assert (answer.dtypes, answer.rows) == ([dtype], [[cell]])


def test_near_columns_and_quotes_are_told(queries: DatasetQueries) -> None:
    for sql, hint in (
        ("SELECT pionts FROM games", "Close columns: 'points'."),
        ("SELECT g.teem FROM games g", "'team'"),
        ("SELECT count(*) FROM games@1", 'Put the name in double quotes: "games@1".'),
        ("SELECT count(*) FROM nba-teams", '"nba-teams"'),
    ):
        with pytest.raises(InvalidArgumentError) as refusal:
            queries.select(sql, 1)
        assert hint in refusal.value.hint


def test_python_variables_are_out_of_reach(queries: DatasetQueries) -> None:
    with pytest.raises(NotFoundError):
        queries.select("SELECT * FROM arguments", 10)


def test_errors_quote_line_and_caret_without_paths(queries: DatasetQueries, artifacts: ArtifactStore) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        queries.select("SELECT id,\n  pionts FROM games", 10)
    assert "LINE 2:   pionts FROM games\n          ^" in refusal.value.message
    for sql in ("SELECT id::DATE FROM games", "SELECT team::INT FROM games", "SELEC 1", "SELECT 1; SELECT 2", ""):
        with pytest.raises(InvalidArgumentError) as refusal:
            queries.select(sql, 10)
        assert str(artifacts.where("x").parent.parent) not in str(refusal.value.to_document())


def test_an_error_while_it_runs_names_the_line_of_the_callers_sql(queries: DatasetQueries) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        queries.select("SELECT\n  CAST(x AS INT)\nFROM (VALUES ('a')) t(x)", 10)
    assert "LINE 2:   CAST(x AS INT)\n          ^^^" in refusal.value.message
    with pytest.raises(InvalidArgumentError, match="%m/%d/%Y"):
        queries.select("SELECT strptime('1946-11-01', '%m/%d/%Y')", 10)


def test_an_unknown_table_is_not_found_with_near_names(queries: DatasetQueries) -> None:
    with pytest.raises(NotFoundError, match="No dataset named 'gmaes'") as refusal:
        queries.select("SELECT * FROM gmaes", 10)
    assert "games" in refusal.value.hint
    assert "^" in refusal.value.details["engine_message"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c WHERE a.range * b.range = c.range + 7",
        pytest.param("SELECT max(len(range(100000000)))", marks=pytest.mark.slow),
        pytest.param("SELECT length(repeat('x', 3000000000))", marks=pytest.mark.slow),
        "SELECT list(repeat('x', 1000)) FROM range(10000000)",
    ],
)
def test_time_and_memory_are_bounded(queries: DatasetQueries, sql: str) -> None:
    started = time.monotonic()
    with pytest.raises(ResourceExhaustedError):
        queries.select(sql, 10)
    assert time.monotonic() - started < 10


def test_a_long_query_draws_nothing_on_the_output(queries: DatasetQueries, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ResourceExhaustedError):
        queries.select("SELECT count(*) FROM range(100000) a, range(100000) b, range(100000) c", 10)
    captured = capfd.readouterr()
    assert captured.out == ""


def test_queries_at_once_take_turns(queries: DatasetQueries) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: queries.select(f"SELECT {i} + count(*) FROM games", 1).rows, range(8)))
    assert answers == [[[i + 4]] for i in range(8)]


def test_materialise_writes_all_rows_and_names_what_was_read(queries: DatasetQueries, tmp_path: Path) -> None:
    made = queries.materialise("SELECT team, count(*) n FROM games GROUP BY team ORDER BY n, team", tmp_path / "out")
    assert ([version.ref for version in made.read], made.ordered) == (["games@2"], True)
    assert pl.read_parquet(tmp_path / "out").rows() == [("LAL", 1), (None, 1), ("BOS", 2)]


def test_a_name_that_is_no_table_of_the_statement_was_not_read(queries: DatasetQueries, tmp_path: Path) -> None:
    sql = """SELECT 'games' AS kind, t.team FROM "nba-teams" t JOIN "nba-teams" u USING (team)"""
    assert [version.ref for version in queries.materialise(sql, tmp_path / "out").read] == ["nba-teams@1"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 a, 2 a",
        "SELECT [1, 2] a",
        "SELECT INTERVAL 1 DAY a",
        "SELECT 'a'::BLOB a",
        "SELECT {'x': 1} a",
        "SELECT 'infinity'::DATE a",
        "SELECT TIMESTAMP '20240-01-01' a",
        "SELECT 170141183460469231731687303715884105727 a",
    ],
)
def test_materialise_refuses_what_is_no_plain_table(queries: DatasetQueries, tmp_path: Path, sql: str) -> None:
    with pytest.raises(LifecycleError) as refusal:
        queries.materialise(sql, tmp_path / "out")
    assert refusal.value.code == "invalid_argument"
    assert refusal.value.hint


def test_an_answer_without_an_order_is_told(queries: DatasetQueries, tmp_path: Path) -> None:
    for sql, ordered in (
        ("SELECT * FROM (SELECT * FROM games ORDER BY id)", False),
        ("SELECT team, count(*) FROM games GROUP BY team", False),
        ("WITH g AS (FROM games) SELECT * FROM g ORDER BY id LIMIT 2", True),
        ("SELECT id FROM games UNION ALL SELECT id FROM games ORDER BY 1", True),
        ("PIVOT (FROM games WHERE team IS NOT NULL) ON team USING count(*)", True),
    ):
        assert queries.materialise(sql, tmp_path / "out").ordered is ordered, sql


def test_a_transform_has_a_time_of_its_own(datasets: DatasetStore, artifacts: ArtifactStore, tmp_path: Path) -> None:
    queries = DatasetQueries(datasets, artifacts, LimitSettings(query_timeout_s=30, transform_timeout_s=1))
    with pytest.raises(ResourceExhaustedError, match="1 s") as refusal:
        queries.materialise("SELECT a.range FROM range(1000000) a, range(1000000) b", tmp_path / "out")
    assert "TRANSFORM_TIMEOUT_S" in refusal.value.hint
    assert not (tmp_path / "out").exists()


def test_materialise_brings_types_to_those_of_datasets(queries: DatasetQueries, tmp_path: Path) -> None:
    sql = """SELECT sum(id) AS s, 1.5::DECIMAL(9,2) AS d, 7::DECIMAL(9,0) AS w, 'a'::ENUM('a') AS e, NULL AS n,
             uuid() IS NOT NULL AS b, TIMESTAMPTZ '2024-01-02 03:04:05+02' AS t, DATE '0001-01-01' AS first,
             'nan'::DOUBLE AS x, TIMESTAMP_NS '2024-01-02 03:04:05.123456' AS ns FROM games"""
    queries.materialise(sql, tmp_path / "out")
    written = pl.read_parquet(tmp_path / "out")
    assert [str(dtype) for dtype in written.dtypes] == [
        "Int64", "Float64", "Int64", "String", "String", "Boolean", "Datetime(time_unit='us', time_zone='UTC')", "Date",
        "Float64", "Datetime(time_unit='us', time_zone=None)",
    ]  # fmt: skip
    assert written.row(0)[:6] == (10, 1.5, 7, "a", None, True)
    assert written["x"].item() is None


def test_materialise_refuses_more_rows_than_the_limit(
    datasets: DatasetStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    queries = DatasetQueries(datasets, artifacts, LimitSettings(transform_max_rows=3))
    with pytest.raises(ResourceExhaustedError, match="more than 3 rows"):
        queries.materialise("SELECT * FROM games", tmp_path / "out")
