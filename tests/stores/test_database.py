"""The database: migrations, transactions, and errors in words."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_server.errors import FailedPreconditionError, UnavailableError
from mcp_server.runtime.clock import ManualClock
from mcp_server.settings import DatabaseSettings
from mcp_server.stores import schema
from mcp_server.stores.database import Database


def _suite(clock: ManualClock, name: str = "games") -> dict[str, object]:
    return {
        "name": name,
        "version": 1,
        "document": {"expectations": []},
        "content_hash": "0" * 64,
        "created_at": clock.now(),
        "created_by": "tests",
    }


def test_the_migrations_make_the_tables_that_the_schema_describes(database):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert differences == []


def test_migrating_twice_changes_nothing(database):
    database.migrate()
    database.ping()


def test_tables_of_the_first_version_are_brought_forward_with_their_rows(database, clock):
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        assert "dataset_numbers" not in sa.inspect(connection).get_table_names()
        connection.execute(sa.insert(schema.suites).values(_suite(clock)))

    database.migrate()

    with database.read() as connection:
        assert "dataset_numbers" in sa.inspect(connection).get_table_names()
        assert connection.execute(sa.select(schema.suites.c.name)).scalars().all() == ["games"]


def test_a_newer_schema_is_refused_with_both_versions_named(database):
    with database.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(FailedPreconditionError, match="9999") as refusal:
        database.migrate()

    assert re.search(r"knows up to 0\d{3}", refusal.value.message)


def test_a_transaction_that_fails_leaves_nothing_behind(database, clock):
    def fail_half_way() -> None:
        with database.begin() as connection:
            connection.execute(sa.insert(schema.suites).values(_suite(clock)))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()

    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(schema.suites)).scalar_one() == 0


def test_times_come_back_aware_and_in_utc(database, clock):
    with database.begin() as connection:
        connection.execute(sa.insert(schema.suites).values(_suite(clock)))

    with database.read() as connection:
        stored = connection.execute(sa.select(schema.suites.c.created_at)).scalar_one()

    assert stored == clock.now()
    assert stored.utcoffset().total_seconds() == 0


def test_a_lock_that_is_not_released_is_unavailable_not_a_crash(tmp_path, clock):
    url = f"sqlite:///{tmp_path / 'locked.db'}"
    holder, waiter = Database(url), Database(url, DatabaseSettings(busy_timeout_s=0.05))
    holder.migrate()

    with holder.begin(), pytest.raises(UnavailableError, match="lock"), waiter.begin():
        pass

    with waiter.begin() as connection:
        connection.execute(sa.insert(schema.suites).values(_suite(clock)))
    holder.close()
    waiter.close()


def test_a_database_that_is_not_there_is_unavailable():
    database = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing", DatabaseSettings(connect_timeout_s=1))

    with pytest.raises(UnavailableError, match="does not answer"):
        database.ping()
    database.close()


def test_a_process_waits_for_its_turn_longer_than_a_statement_may_take(database):
    if database.is_sqlite:
        pytest.skip("processes take turns at an SQLite file by a lock beside it")
    hasty = Database(database.url.render_as_string(hide_password=False), DatabaseSettings(statement_timeout_s=0.05))
    waiting = "wait_event = 'advisory' AND clock_timestamp() - query_start > '0.3s'"

    def has_waited():
        with database.read() as connection:
            return connection.execute(sa.text(f"SELECT 1 FROM pg_stat_activity WHERE {waiting}")).scalar() == 1

    def take():
        with hasty.turn(77, "somewhere"):
            pass

    with ThreadPoolExecutor(1) as pool:
        with database.turn(77, "somewhere"):
            second = pool.submit(take)
            while not has_waited():
                assert not second.done()
        second.result(timeout=30)
    with pytest.raises(UnavailableError), hasty.begin() as connection:
        connection.execute(sa.text("SELECT pg_sleep(5)"))  # for other statements its own limit holds again
    hasty.close()
