import json
from typing import Any

import polars as pl
import pytest
from pydantic import TypeAdapter

from mcp_server.errors import CancelledError, InvalidArgumentError, NotFoundError
from mcp_server.results.validation import IntegrityRule
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.runtime.progress import NoProgress
from mcp_server.services.integrity import Integrity
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore

ANA = Caller("ana", "data_scientist")
GAMES = pl.DataFrame(
    {
        "game_id": [f"{20150000 + i}LAL" for i in range(60)],
        "home_points": [80 + i % 40 for i in range(60)],
        "away_points": [79 + i % 40 for i in range(60)],
        "home": ["LAL", "BOS", "CHI"] * 20,
    }
)


@pytest.fixture
def datasets(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock) -> DatasetStore:
    store = DatasetStore(sqlite_database, artifacts, clock)
    teams = pl.DataFrame({"team": ["LAL", "BOS"], "number": [1, 2]})
    for name, frame in (("games", GAMES), ("teams", teams)):
        store.write(name, frame, source="test", lineage={}, caller=ANA)
    return store


def _check(datasets: DatasetStore, dataset: str = "games", progress: Any = None, **asked: Any) -> Any:
    arguments = {"primary_key": None, "foreign_keys": [], "rules": []} | asked
    return Integrity(datasets).check(dataset=dataset, progress=progress or NoProgress(), **arguments)


def test_failures_come_first(datasets: DatasetStore):
    result = _check(
        datasets,
        primary_key="game_id",
        foreign_keys=[{"column": "home", "references": "teams.team"}],
        rules=[{"column": "home_points", "op": ">", "other_column": "away_points"}],
    )

    assert not result.success
    kinds = ["foreign_key", "primary_key_missing", "primary_key_duplicate", "rule"]
    assert [each.kind for each in result.checks] == kinds
    assert (result.checks[0].violations, result.checks[0].groups, result.failed) == (20, 1, 1)
    assert result.checks[0].examples == [{"home": "CHI", "rows": 20, "row_numbers": [2, 5, 8, 11, 14]}]
    assert "1 of 4 checks fail" in result.summary


def test_every_kind_of_rule_is_checked(datasets: DatasetStore):
    rules = [
        {"kind": "functional_dependency", "determinant": "home", "dependent": "home_points"},
        {"kind": "ordered", "column": "game_id", "by": "home", "strict": True},
        {"kind": "gaps", "column": "home_points", "every": 1},
        {"kind": "near_duplicates", "except": ["game_id"]},
        {"kind": "near_duplicates"},
        {"kind": "sum", "columns": ["home_points", "away_points"], "op": ">", "value": 158},
        {"column": "home_points", "op": "not null", "when": {"column": "home", "op": "in", "value": ["LAL"]}},
    ]

    result = _check(datasets, rules=rules)

    failed = {each.kind: each.violations for each in result.checks if not each.success}
    assert failed == {"functional_dependency": 60}
    assert len(result.checks) == 7


def test_rules_come_as_models_too(datasets: DatasetStore):
    rule = TypeAdapter(IntegrityRule).validate_python({"kind": "near_duplicates", "except": "game_id"})

    assert _check(datasets, rules=[rule]).success


def test_an_answer_stays_small_and_keeps_its_failures(datasets: DatasetStore):
    wide = pl.DataFrame({"text": ["x" * 5_000 + str(i) for i in range(50)], "n": [1] * 50})
    datasets.write("wide", wide, source="test", lineage={}, caller=ANA)
    rules = [{"column": "text", "op": "==", "value": f"{i}"} for i in range(100)] + [
        {"column": "n", "op": "==", "value": 1}
    ] * 100

    result = _check(datasets, "wide", rules=rules)

    assert len(result.model_dump_json()) < 16_000
    assert (result.failed, len(result.checks) + result.checks_left_out) == (100, 200)
    assert not result.checks[0].success


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "nothing to check"),
        ({"primary_key": "gameid"}, "primary_key: .*no column"),
        ({"foreign_keys": [{"column": "home"}]}, r"foreign_keys\[0\].references"),
        ({"foreign_keys": [{"column": "home", "references": "teams"}]}, r"foreign_keys\[0\]"),
        ({"foreign_keys": [{"column": "home", "references": "teams.number"}]}, "String against Int64"),
        ({"foreign_keys": [{"column": ["home", "game_id"], "references": "teams.team"}]}, "pairs 2 columns with 1"),
        ({"rules": [{"column": "home_points", "op": "~", "value": 1}]}, r"rules\[0\].op"),
        ({"rules": [{"column": "home_points", "op": ">"}]}, r"rules\[0\].*neither"),
        ({"rules": [{"column": "home_points", "op": ">", "value": 1, "other_column": "home"}]}, "both"),
        ({"rules": [{"column": "home_points", "op": "in", "value": 1}]}, r"rules\[0\]"),
        ({"rules": [{"column": "home_points", "op": ">", "value": [1]}]}, r"rules\[0\]"),
        ({"rules": [{"column": "home_points", "op": "is null", "value": 1}]}, "neither value"),
        ({"rules": [{"column": "home", "op": "!=", "value": "a"}, {"column": "hme", "op": "not null"}]}, r"rules\[1\]"),
        ({"rules": [{"op": "==", "value": 1}]}, "needs column"),
        ({"rules": [{"kind": "gaps"}]}, "needs column"),
        ({"rules": [{"kind": "gaps", "column": "home_points", "every": "1d"}]}, "every is '1d'"),
        ({"rules": [{"kind": "ordered", "column": "home", "op": "<"}]}, "does not take op"),
        ({"rules": [{"kind": "sum", "columns": ["home_points"], "op": "in", "value": [1]}]}, "A sum"),
        ({"rules": [{"kind": "functional_dependency", "determinant": "home"}]}, "needs dependent"),
        ({"rules": [{"kind": "near_duplicates", "except": list(GAMES.columns)}]}, "No column is left"),
        ({"rules": [{"kind": "uniq", "column": "home"}]}, r"rules\[0\].kind"),
        ({"rules": [{"column": "home", "op": "==", "value": "a", "code": "1"}]}, r"rules\[0\].code"),
        ({"rules": [{"column": "home", "op": "matches", "value": "a{1000}{1000}"}]}, "no pattern"),
    ],
)  # fmt: skip
def test_what_cannot_be_checked_is_refused_by_its_place(datasets: DatasetStore, asked: dict[str, Any], words: str):
    with pytest.raises(InvalidArgumentError, match=words) as refusal:
        _check(datasets, **asked)
    assert len(json.dumps(refusal.value.to_document())) < 2_000


def test_an_unknown_parent_is_not_found(datasets: DatasetStore):
    with pytest.raises(NotFoundError, match="team"):
        _check(datasets, foreign_keys=[{"column": "home", "references": "team.team"}])


def test_a_false_value_is_compared_with(datasets: DatasetStore):
    datasets.write("flags", pl.DataFrame({"f": [True, False]}), source="test", lineage={}, caller=ANA)

    result = _check(datasets, "flags", rules=[{"column": "f", "op": "==", "value": False}])

    assert result.checks[0].examples == [{"row": 0, "f": True}]


def test_a_cancelled_check_stops(datasets: DatasetStore):
    class Cancelled(NoProgress):
        def __call__(self, fraction: float, message: str = "") -> None:
            raise CancelledError("The job was cancelled.")

    with pytest.raises(CancelledError):
        _check(datasets, primary_key="game_id", progress=Cancelled())
