"""A caller's SQL over datasets, each a table of its name; run in a child process, see `locked_sql`."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mcp_server.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from mcp_server.runtime.child import never_cancelled, run_in_child
from mcp_server.settings import LimitSettings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.datasets import DatasetStore, DatasetVersion

_MAX_SQL_LENGTH = 100_000
_MAX_TABLES = 200  # that SHOW TABLES lists
_SHOW_TABLES = re.compile(r"\s*SHOW\s+(ALL\s+)?TABLES\b", re.IGNORECASE)
_KILL_AFTER_S = 5.0  # beyond the time of the query: to start, and to hand over
_MAX_AT_ONCE = 4  # in this process
_LONGEST_WAIT_S = 10.0
_CHILD_BASE_BYTES = 768 * 1024**2  # Python, the libraries, and the result on its way out


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The first rows of an answer, as plain JSON values."""

    columns: Sequence[str]
    dtypes: Sequence[str]
    rows: Sequence[Sequence[Any]]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A table that was written: the dataset versions that were read, and whether the SQL puts its rows in order."""

    read: Sequence[DatasetVersion]
    ordered: bool


class DatasetQueries:
    """Runs SELECT statements over datasets, each a table of its name (`games`, or `"games@2"`). Thread-safe."""

    def __init__(self, datasets: DatasetStore, artifacts: ArtifactStore, limits: LimitSettings) -> None:
        self._datasets = datasets
        self._artifacts = artifacts
        self._limits = limits
        self._turns = threading.BoundedSemaphore(_MAX_AT_ONCE)

    def select(self, sql: str, limit: int) -> QueryRows:
        """Return the first `limit` rows of `sql`.

        Raises:
            InvalidArgumentError: it is no valid statement; quotes the engine with line and caret.
            NotFoundError: it names a dataset that does not exist.
            PermissionDeniedError: it is no SELECT, or reaches outside the datasets.
            ResourceExhaustedError: it takes more memory or time than its limits.
            UnavailableError: too many other queries run.
        """
        answer = self._run(sql, self._tables(sql), {"max_rows": limit}, "query_timeout_s")
        return QueryRows(answer["columns"], answer["dtypes"], answer["rows"], answer["truncated"])

    def materialise(self, sql: str, output: Path, cancelled: Callable[[], bool] = never_cancelled) -> Made:
        """Write all rows of `sql` to `output` as Parquet.

        Raises:
            As `select`; and ResourceExhaustedError beyond the limit of rows.
        """
        tables = self._tables(sql)
        request = {"output": str(output), "max_rows": self._limits.transform_max_rows}
        answer = self._run(sql, tables, request, "transform_timeout_s", cancelled)
        read = {tables[name].ref: tables[name] for name in answer["read"]}
        return Made(list(read.values()), answer["ordered"])

    def _tables(self, sql: str) -> dict[str, DatasetVersion]:
        """Return the datasets whose names occur in the SQL, by table name; one that is not used does no harm."""
        if len(sql) > _MAX_SQL_LENGTH:
            raise InvalidArgumentError(
                f"The SQL has {len(sql):,} characters; the limit is {_MAX_SQL_LENGTH:,}.", hint="Shorten it."
            )
        words = set(re.findall(r"[a-z][a-z0-9_-]*(?:@[0-9]+)?", sql.lower()))
        words |= {part for word in words for part in re.findall(r"[a-z][a-z0-9_]*", word)}
        if _SHOW_TABLES.match(sql):
            return {version.name: version for version in self._datasets.latest(_MAX_TABLES)}
        known = set(self._datasets.names())
        found = {word for word in words if word.partition("@")[0] in known}
        return {word: self._datasets.resolve(word) for word in sorted(found)}

    def _run(
        self,
        sql: str,
        tables: Mapping[str, DatasetVersion],
        request: dict[str, Any],
        timeout: Literal["query_timeout_s", "transform_timeout_s"],
        cancelled: Callable[[], bool] = never_cancelled,
    ) -> Any:
        limits = self._limits
        timeout_s: float = getattr(limits, timeout)
        setting = f"NBA_MCP_LIMITS__{timeout.upper()}"
        with self._turn(), self._artifacts.temporary_folder() as spill:
            arguments = {
                "sql": sql,
                "tables": {name: str(version.path) for name, version in tables.items()},
                "columns": {name: [column.name for column in version.columns] for name, version in tables.items()},
                "known": self._datasets.names(),
                "memory_bytes": limits.query_memory_bytes,
                "timeout_s": timeout_s,
                "timeout_setting": setting,
                "spill": str(spill),
            }
            try:
                return run_in_child(
                    "mcp_server.stores.locked_sql:run_query",
                    arguments | request,
                    memory_bytes=limits.query_memory_bytes + _CHILD_BASE_BYTES,
                    timeout_s=timeout_s + _KILL_AFTER_S,
                    cancelled=cancelled,
                )
            except ResourceExhaustedError as refusal:
                raise _of_the_query(refusal, limits, timeout_s, setting) from refusal

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until few enough other queries run: each is a process with memory of its own."""
        if not self._turns.acquire(timeout=_LONGEST_WAIT_S):
            raise UnavailableError(
                f"{_MAX_AT_ONCE} queries are running and none ended in {_LONGEST_WAIT_S:g} s.", hint="Try again."
            )
        try:
            yield
        finally:
            self._turns.release()


def _of_the_query(
    refusal: ResourceExhaustedError, limits: LimitSettings, timeout_s: float, setting: str
) -> ResourceExhaustedError:
    """Return the error in the words of queries, where the child was killed before it could say so itself."""
    if "NBA_MCP_LIMITS__" in refusal.hint and "CHILD" not in refusal.hint:
        return refusal
    return ResourceExhaustedError(
        f"The query took more than its limits of {timeout_s:g} s and "
        f"{limits.query_memory_bytes // 1024**2} MiB of memory and was stopped.",
        hint=f"Filter or aggregate, or raise {setting} or NBA_MCP_LIMITS__QUERY_MEMORY_BYTES.",
        details={"reason": refusal.message},
    )
