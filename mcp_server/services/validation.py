"""Validation: suites kept as versions, datasets judged by them, keys and rules checked."""

import hashlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mcp_server import __version__
from mcp_server.engine.expectations.catalogue import NATIVE
from mcp_server.engine.expectations.checks import Outcome, outcome_of
from mcp_server.engine.expectations.evaluation import evaluate
from mcp_server.engine.expectations.suggestion import suggest
from mcp_server.engine.expectations.suite import Expectation, Suite, parse_expectations, parse_suite
from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError, shown
from mcp_server.results.validation import (
    ForeignKey,
    IntegrityResult,
    IntegrityRule,
    SuiteItem,
    SuitePage,
    SuiteResult,
    SuiteSuggestion,
    ValidationResult,
)
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress, Progress
from mcp_server.services.integrity import Integrity
from mcp_server.services.paging import after_of, cursor_of
from mcp_server.services.validation_wording import (
    expectation_records,
    validation_result,
    validation_sentence,
)
from mcp_server.stores.datasets import DatasetStore, DatasetVersion
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.suites import SuiteStore, SuiteVersion

Engine = Literal["native", "gx"]
Detail = Literal["summary", "full"]

_GIB = 1024**3
_GX_RUN = "mcp_server.engine.expectations.great_expectations_run:run"
_GX_TIMEOUT_S = 900.0
_BACKTRACKING_RUN = "mcp_server.engine.expectations.backtracking_run:run"
_PATTERN_TIMEOUT_S = 60.0  # it limits its own processor time to much less


class ValidationService:
    """Saves and suggests suites, judges datasets, checks integrity. Thread-safe."""

    def __init__(
        self,
        *,
        datasets: DatasetStore,
        suites: SuiteStore,
        reports: ReportStore,
        child_memory_bytes: int = 4 * _GIB,
    ) -> None:
        self._child_memory_bytes = child_memory_bytes
        self._datasets = datasets
        self._suites = suites
        self._reports = reports

    def save_suite(
        self,
        *,
        caller: Caller,
        name: str,
        expectations: Sequence[Mapping[str, Any]] | None = None,
        gx_suite: Mapping[str, Any] | None = None,
        description: str | None = None,
    ) -> SuiteResult:
        """Check a suite and store it; content equal to the latest version's makes no new one.

        Raises:
            InvalidArgumentError: both or neither of `expectations` and `gx_suite` are given, or an expectation
                cannot be used; the message names it.
        """
        if (expectations is None) == (gx_suite is None):
            raise InvalidArgumentError(
                "A suite needs either expectations or gx_suite, and not both.",
                hint="Pass expectations=[{type, kwargs}], or a whole Great Expectations suite as gx_suite.",
            )
        document: Mapping[str, Any] = gx_suite if gx_suite is not None else {"expectations": expectations}
        suite = parse_suite(document, name)
        if description is not None:
            suite = replace(suite, notes=description)
        saved = self._suites.save(name, suite.to_document(), caller)
        count = len(suite.expectations)
        return SuiteResult(
            summary=f"Suite {saved.ref} holds {count} expectation{_s(count)}.{_remarks(suite)}",
            name=saved.name,
            version=saved.version,
            expectations=expectation_records(suite.expectations),
            count=count,
        )

    def suggest_suite(
        self, *, caller: Caller, dataset: str, name: str | None = None, progress: Progress | None = None
    ) -> SuiteSuggestion:
        """Derive a suite from a dataset; it holds on that dataset. Saved when a name is given.

        Raises:
            NotFoundError: the dataset does not exist.
        """
        tell = progress or NoProgress()
        version = self._datasets.resolve(dataset)
        tell(0.1, f"Looking at {version.rows:,} rows of {version.ref}")
        found = suggest(self._datasets.scan(version.ref))
        tell(0.9, f"{len(found)} expectations hold")
        meta = {"derived_from": {"dataset": version.ref, "content_hash": version.content_hash}}
        suite = Suite(name or "suggested", found, meta, notes=f"Suggested from {version.ref}.")
        saved = self._suites.save(name, suite.to_document(), caller) if name is not None else None
        kept = f"saved as suite {saved.ref}" if saved else "not saved: pass a name to keep them"
        columns = len({each.kwargs["column"] for each in found if "column" in each.kwargs})
        return SuiteSuggestion(
            summary=f"{len(found)} expectations on {columns} columns hold on all of {version.ref}; {kept}.",
            dataset=version.ref,
            name=saved.name if saved else None,
            version=saved.version if saved else None,
            expectations=expectation_records(found),
            count=len(found),
        )

    def list_suites(self, *, limit: int = 50, cursor: str | None = None) -> SuitePage:
        """List the latest version of each suite, by name.

        Raises:
            InvalidArgumentError: no list gave this cursor.
        """
        found = self._suites.latest(limit + 1, after=after_of(cursor))
        page = found[:limit]
        items = [
            SuiteItem(
                name=suite.name,
                version=suite.version,
                expectations=suite.n_expectations,
                description=_as_text(suite.document.get("notes")),
            )
            for suite in page
        ]
        more = len(found) > limit
        return SuitePage(
            summary=f"{len(items)} suite{_s(len(items))}{', more follow' if more else ''}.",
            items=items,
            next_cursor=cursor_of(page[-1].name) if more else None,
        )

    def validate_dataset(
        self,
        *,
        dataset: str,
        suite: str,
        engine: Engine = "native",
        detail: Detail = "summary",
        progress: Progress | None = None,
    ) -> ValidationResult:
        """Judge a dataset by a suite, save the report, and return the result, failures first.

        The native engine leaves types that only Great Expectations has to it. A validation repeated on an unchanged
        dataset and suite, by whatever process, is answered by what was kept.

        Raises:
            NotFoundError: the dataset or the suite does not exist.
            FailedPreconditionError: Great Expectations is needed and not installed.
            ResourceExhaustedError: Great Expectations, or a pattern with look-around, took too much memory or time.
        """
        tell = progress or NoProgress()
        version, kept = self._datasets.resolve(dataset), self._suites.resolve(suite)
        key = _key(version, kept, engine, detail)
        answer = self._reports.kept_answer(key)
        if answer is not None:
            return ValidationResult.model_validate(answer)
        expectations = parse_expectations(kept.document["expectations"])
        tell(0.1, f"Checking {len(expectations)} expectations on {version.rows:,} rows")
        judged = self._judged(version, expectations, engine, tell)
        tell(0.8, "Writing the report")
        result = self._reported(version, kept, engine, judged, detail)
        self._reports.keep_answer(key, result.report_uri.removeprefix("report://"), result.model_dump(mode="json"))
        return result

    def cached_validation(
        self, dataset: str, suite: str, engine: Engine = "native", detail: Detail = "summary"
    ) -> ValidationResult | None:
        """Return what `validate_dataset` would answer without work, None when it has to be judged. Milliseconds.

        Raises:
            NotFoundError: the dataset or the suite does not exist.
        """
        version, kept = self._datasets.resolve(dataset), self._suites.resolve(suite)
        answer = self._reports.kept_answer(_key(version, kept, engine, detail))
        return None if answer is None else ValidationResult.model_validate(answer)

    def foreign_types(self, suite: str) -> set[str]:
        """Return the types of a suite that only Great Expectations judges.

        Raises:
            NotFoundError: the suite does not exist.
        """
        types = {str(each["type"]) for each in self._suites.resolve(suite).document["expectations"]}
        return types - set(NATIVE)

    def passes(self, dataset: str, suite: str) -> tuple[bool, str, str]:
        """Return whether a dataset meets a suite, a sentence on it, and the suite's version; training asks it first."""
        result = self.validate_dataset(dataset=dataset, suite=suite)
        return result.success, result.summary, result.suite

    def check_integrity(
        self,
        *,
        dataset: str,
        primary_key: str | Sequence[str] | None = None,
        foreign_keys: Sequence[Mapping[str, Any] | ForeignKey] = (),
        rules: Sequence[Mapping[str, Any] | IntegrityRule] = (),
        progress: Progress | None = None,
    ) -> IntegrityResult:
        """Check keys and rules of a dataset; failures first.

        Raises:
            NotFoundError: the dataset, or one that a foreign key references, does not exist.
            InvalidArgumentError: nothing is asked, a column does not exist, or types cannot be compared.
        """
        return Integrity(self._datasets).check(
            dataset=dataset,
            primary_key=primary_key,
            foreign_keys=foreign_keys,
            rules=rules,
            progress=progress or NoProgress(),
        )

    def _judged(
        self, version: DatasetVersion, expectations: Sequence[Expectation], engine: Engine, tell: Progress
    ) -> list[tuple[Expectation, Outcome]]:
        """Judge each expectation by the engine that runs it, in the suite's order."""
        left = [each for each in expectations if engine == "gx" or not each.is_native]
        own = [each for each in expectations if engine == "native" and each.is_native and not each.backtracks]
        guarded = [each for each in expectations if engine == "native" and each.backtracks]
        if left:
            _require_great_expectations(left, engine)
        done = f"Checking {version.rows:,} rows"
        _, judged = evaluate(
            self._datasets.scan(version.ref), own, progress=lambda share: tell(0.1 + 0.2 * share, done)
        )
        found = {each.expectation.position: each.outcome for each in judged}
        for each in guarded:
            tell(0.3, f"Matching the pattern of expectations[{each.position}] in a process of its own")
            found[each.position] = self._by_backtracking(version, each, tell.cancelled)
        if left:
            tell(0.4, f"Great Expectations checks {len(left)} expectations in a process of its own")
            outcomes = self._by_great_expectations(version, left, tell.cancelled)
            found |= {each.position: outcome for each, outcome in zip(left, outcomes, strict=True)}
        return [(each, found[each.position]) for each in expectations]

    def _by_backtracking(
        self, version: DatasetVersion, expectation: Expectation, cancelled: Callable[[], bool]
    ) -> Outcome:
        try:
            answer = run_in_child(
                _BACKTRACKING_RUN,
                {"path": str(version.path), "rows": version.rows, "expectation": expectation.to_document()},
                memory_bytes=self._child_memory_bytes,
                timeout_s=_PATTERN_TIMEOUT_S,
                cancelled=cancelled,
            )
        except ResourceExhaustedError as limit:
            pattern = shown(expectation.kwargs.get("regex") or expectation.kwargs.get("regex_list"))
            raise ResourceExhaustedError(
                f"expectations[{expectation.position}] ({expectation.type}): the pattern {pattern} took too "
                f"long or too much memory on {version.ref} and was stopped.",
                hint="Write it without look-around and backreferences: then it runs in linear time.",
                details={"index": expectation.position, "limit": limit.message},
            ) from None
        return outcome_of(answer)

    def _by_great_expectations(
        self, version: DatasetVersion, expectations: Sequence[Expectation], cancelled: Callable[[], bool]
    ) -> list[Outcome]:
        with tempfile.TemporaryDirectory(prefix="nba-mcp-gx-") as folder:
            answer = run_in_child(
                _GX_RUN,
                {
                    "path": str(version.path),
                    "expectations": [{"type": each.type, "kwargs": dict(each.kwargs)} for each in expectations],
                    "temporary": folder,
                },
                memory_bytes=self._child_memory_bytes,
                timeout_s=_GX_TIMEOUT_S,
                cancelled=cancelled,
            )
        return [outcome_of(document) for document in answer["outcomes"]]

    def _reported(
        self,
        version: DatasetVersion,
        suite: SuiteVersion,
        engine: Engine,
        judged: Sequence[tuple[Expectation, Outcome]],
        detail: Detail,
    ) -> ValidationResult:
        from mcp_server.services.validation_report import validation_report

        rows = version.rows
        summary = validation_sentence(version.ref, suite.ref, rows, judged)
        report = validation_report(dataset=version.ref, suite=suite.ref, rows=rows, judged=judged, summary=summary)
        report_id = self._reports.save(report, "validate_dataset", version.ref)
        return validation_result(
            dataset=version.ref,
            suite=suite.ref,
            engine=engine,
            rows=rows,
            judged=judged,
            report_uri=f"report://{report_id}",
            full=detail == "full",
        )


def _key(version: DatasetVersion, suite: SuiteVersion, engine: Engine, detail: Detail) -> str:
    """Return the hash of all that an answer depends on; another release of ours may judge or word it otherwise."""
    parts = [__version__, version.ref, version.content_hash, suite.ref, suite.content_hash, engine, detail]
    return hashlib.sha256(json.dumps(["validate_dataset", *parts]).encode()).hexdigest()


def _require_great_expectations(expectations: Sequence[Expectation], engine: Engine) -> None:
    if importlib.util.find_spec("great_expectations") is not None:
        return
    types = sorted({each.type for each in expectations})
    needed = "engine='gx'" if engine == "gx" else ", ".join(types)
    raise FailedPreconditionError(
        f"Great Expectations is not installed here, and {needed} needs it.",
        hint="Install the extra: pip install 'nba-mcp[gx]'. engine='native' is equal on the types it has.",
        details={"extra": "gx", "types": [] if engine == "gx" else types},
    )


def _remarks(suite: Suite) -> str:
    old, foreign = suite.n_old, suite.foreign_types
    read = f" {old} written as in Great Expectations 0.x (expectation_type) were read as 1.x (type)." if old else ""
    return read + (f" Great Expectations itself will judge {', '.join(foreign)}." if foreign else "")


def _as_text(notes: Any) -> str | None:
    return " ".join(notes) if isinstance(notes, list) else notes


def _s(count: int) -> str:
    return "" if count == 1 else "s"
