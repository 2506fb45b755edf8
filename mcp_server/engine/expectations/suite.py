"""A suite of expectations as data: Great Expectations 1.x JSON, read strictly and written back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal, cast, get_args

from mcp_server.engine.expectations.arguments import resolve_arguments
from mcp_server.engine.expectations.catalogue import FOREIGN, NATIVE
from mcp_server.engine.expectations.patterns import BacktrackingPattern
from mcp_server.errors import InvalidArgumentError, shown

Severity = Literal["critical", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)

MAX_EXPECTATIONS: Final = 1000
_MAX_DOCUMENT_CHARACTERS: Final = 1_000_000
_FIELDS: Final = {"type", "kwargs", "meta", "severity"}
# What Great Expectations keeps beside; we keep it too, unread.
_KEPT_FIELDS: Final = {
    "id", "notes", "description", "rendered_content", "expectation_context", "success_on_last_run", "ge_cloud_id",
}  # fmt: skip
_IGNORED_ARGUMENTS: Final = {"batch_id", "result_format", "catch_exceptions", "include_config"}
_SWITCHED_OFF: Final = {
    "windows",
    "auto",
    "profiler_config",
    "parse_strings_as_datetimes",
    "allow_cross_type_comparisons",
}
_SUITE_FIELDS: Final = {
    "name", "expectation_suite_name", "expectations", "meta", "notes", "id", "suite_parameters",
    "evaluation_parameters", "data_asset_type", "ge_cloud_id",
}  # fmt: skip
_READ_FIELDS: Final = {"name", "expectation_suite_name", "expectations", "meta", "notes"}


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation.

    Attributes:
        type: its name in Great Expectations.
        kwargs: its arguments, as given.
        severity: how bad a failure is.
        meta: free notes; `suggest_suite` leaves its evidence here.
        position: its place in the suite, counted from 0.
        extra: further fields of Great Expectations, such as `id`, `notes` and `rendered_content`, kept unread.
        arguments: the arguments checked, with defaults filled in; empty for types the native engine lacks.
    """

    type: str
    kwargs: Mapping[str, Any]
    severity: Severity = "critical"
    meta: Mapping[str, Any] = field(default_factory=dict)
    position: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_native(self) -> bool:
        """True when the native engine runs this type."""
        return self.type in NATIVE

    @property
    def backtracks(self) -> bool:
        """True when a pattern of it may take for ever: it is judged only in a process that can be killed."""
        patterns = [self.arguments.get("regex"), *(self.arguments.get("regex_list") or ())]
        return any(isinstance(pattern, BacktrackingPattern) for pattern in patterns)

    def to_document(self) -> dict[str, Any]:
        """Return Great Expectations' JSON."""
        return {
            "type": self.type,
            "kwargs": dict(self.kwargs),
            "meta": dict(self.meta),
            "severity": self.severity,
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class Suite:
    """A named list of expectations.

    Attributes:
        notes: a text, or a list of them.
        extra: further fields of Great Expectations, such as `id`, kept unread.
        n_old: expectations that were written in the manner of Great Expectations 0.x.
    """

    name: str
    expectations: tuple[Expectation, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: Any = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    n_old: int = 0

    def to_document(self) -> dict[str, Any]:
        """Return Great Expectations' JSON."""
        return {
            "name": self.name,
            "expectations": [expectation.to_document() for expectation in self.expectations],
            "meta": dict(self.meta),
            "notes": self.notes,
            **self.extra,
        }

    @property
    def foreign_types(self) -> tuple[str, ...]:
        """The types in it that the native engine does not run."""
        return tuple(sorted({each.type for each in self.expectations if not each.is_native}))


def parse_suite(document: Mapping[str, Any], name: str | None = None) -> Suite:
    """Read a suite of Great Expectations (1.x, or the names of 0.x) from its JSON object.

    Args:
        document: `{"name", "expectations": [...], "meta", "notes"}`.
        name: what to call it instead of the name inside.

    Raises:
        InvalidArgumentError: names the field, or the expectation by index and type, and what is wrong with it.
    """
    unknown = sorted(set(document) - _SUITE_FIELDS)
    if unknown:
        raise InvalidArgumentError(
            f"A suite has no field {shown(unknown[0])}.",
            hint='A suite is {"name": …, "expectations": [{"type", "kwargs", "meta", "severity"}], "meta": {…}}.',
        )
    parameters = document.get("suite_parameters") or document.get("evaluation_parameters")
    if parameters:
        raise InvalidArgumentError(
            "Suite parameters are not supported.", hint="Write the values into the expectations' kwargs."
        )
    found = document.get("expectations")
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise InvalidArgumentError("A suite's 'expectations' must be a list.", hint="Give a list, even if empty.")
    called = name or document.get("name") or document.get("expectation_suite_name") or "suite"
    return Suite(
        name=str(called),
        expectations=parse_expectations(found),
        meta=_mapping(document.get("meta"), "The suite's meta"),
        notes=_notes(document.get("notes")),
        extra={name: value for name, value in document.items() if name not in _READ_FIELDS},
        n_old=sum(isinstance(each, Mapping) and "expectation_type" in each for each in found),
    )


def _notes(value: Any) -> Any:
    texts = value if isinstance(value, list) else [value]
    if value is None or all(isinstance(each, str) for each in texts):
        return value
    raise InvalidArgumentError(f"A suite's notes must be text, not {shown(value)}.", hint="Give a text, or a list.")


def parse_expectations(documents: Sequence[Any]) -> tuple[Expectation, ...]:
    """Read and check a list of expectations.

    Raises:
        InvalidArgumentError: as `parse_suite`.
    """
    if len(documents) > MAX_EXPECTATIONS:
        raise InvalidArgumentError(
            f"{len(documents)} expectations are too many for one suite; at most {MAX_EXPECTATIONS} are taken.",
            hint="Split it into several suites.",
        )
    if len(json.dumps(documents, default=str)) > _MAX_DOCUMENT_CHARACTERS:
        raise InvalidArgumentError(
            f"The suite is longer than {_MAX_DOCUMENT_CHARACTERS:,} characters.",
            hint="Shorten its value sets, or split it.",
        )
    return tuple(_parse_expectation(position, document) for position, document in enumerate(documents))


def _parse_expectation(position: int, document: Any) -> Expectation:
    where = f"expectations[{position}]"
    if not isinstance(document, Mapping):
        raise InvalidArgumentError(
            f"{where} must be an object with type and kwargs, not {shown(document)}.",
            hint='For example {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}}.',
            details={"index": position},
        )
    fields = {("type" if key == "expectation_type" else key): value for key, value in document.items()}
    unknown = sorted(str(key) for key in set(fields) - _FIELDS - _KEPT_FIELDS)
    if unknown:
        raise InvalidArgumentError(
            f"{where} has an unknown field {shown(unknown[0])}.",
            hint=f"{_near(unknown[0], _FIELDS)}Fields are type, kwargs, meta and severity.",
            details={"index": position},
        )
    name = _known_type(fields.get("type"), where, position)
    kwargs = {
        key: value
        for key, value in _mapping(fields.get("kwargs"), f"{where} ({name}): kwargs").items()
        if key not in _IGNORED_ARGUMENTS and not (key in _SWITCHED_OFF and not value)
    }
    return Expectation(
        type=name,
        kwargs=kwargs,
        severity=_severity(fields.get("severity"), f"{where} ({name})"),
        meta=_mapping(fields.get("meta"), f"{where} ({name}): meta"),
        position=position,
        extra={name: value for name, value in fields.items() if name in _KEPT_FIELDS},
        arguments=resolve_arguments(NATIVE[name], kwargs, position) if name in NATIVE else {},
    )


def _known_type(name: Any, where: str, position: int) -> str:
    if isinstance(name, str) and (name in NATIVE or name in FOREIGN):
        return name
    raise InvalidArgumentError(
        f"{where}: there is no expectation type {shown(name)}." if name else f"{where} has no type.",
        hint=f"{_near(str(name), [*NATIVE, *FOREIGN])}Types are named as in Great Expectations 1.x.",
        details={"index": position, "type": str(name)[:200]},
    )


def _severity(value: Any, where: str) -> Severity:
    if value is None:
        return "critical"
    if value in SEVERITIES:
        return cast(Severity, value)
    raise InvalidArgumentError(f"{where}: severity {shown(value)} is not known.", hint="Use critical, warning or info.")


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise InvalidArgumentError(f"{what} must be an object, not {shown(value)}.", hint="Give a JSON object.")


def _near(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"Close names: {', '.join(close)}. " if close else ""
