"""The report of a profile: a page that is whole, self-contained, small and harmless; text for assistants that fits."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mcp_server.errors import InvalidArgumentError
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from tests.pages import check_page, live_markdown
from tests.services.data_world import DataWorld, make_world

ANNA = Caller("anna", "admin")
HOSTILE = [
    "<script>alert(1)</script>",
    "![x](https://evil.example/a.png)",
    '"><img src=x onerror=alert(1)>',
    "[go](javascript:alert(1))",
    "a\u202eb\u200bc\x1b[31md\U000e0041",
    "x" * 5000,
    "</style><link rel=stylesheet href=//evil.example>",
    "{{ 7 * 7 }} ${7*7}",
]


@pytest.fixture
def world(sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path) -> DataWorld:
    root = tmp_path / "root"
    root.mkdir()
    return make_world(sqlite_database, artifacts, clock, root)


def described(world: DataWorld, frame: pl.DataFrame, name: str = "table") -> str:
    """Store a table, describe it, and return its report's id."""
    world.datasets.write(name, frame, source="a test", lineage={}, caller=ANNA)
    return world.service.describe_dataset(dataset=name).report_uri.removeprefix("report://")


def league(n: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    points = rng.integers(80, 130, n)
    return pl.DataFrame(
        {
            "game_id": [f"G{i:05d}" for i in range(n)],
            "day": pl.Series(np.arange(n)).cast(pl.Int32).cast(pl.Date),
            "team": rng.choice(["Bos", "BOS", "LAL"], n),
            "points": points,
            "half": points / 2 + 1,
            "attendance": pl.Series(rng.normal(17_000, 2_000, n)).set(pl.Series(rng.random(n) < 0.2), None),
            "home_win": points > 104,
            "when": ["2024-01-31"] * (n // 2) + ["01/31/2024"] * (n - n // 2),
        }
    )


def test_the_page_of_a_profile_is_whole_and_fetches_nothing(world: DataWorld) -> None:
    page = check_page(world.reports.html(described(world, league())))
    assert "Column: points" in page.text
    assert "mixed dates" in page.text
    assert "Dates in 2 formats" in page.text
    assert "Equal to 0.5 × 'points' + 1 in every row." in page.text
    assert len(page.named("svg")) >= 3
    assert not page.named("img")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_values_and_names_stay_text(world: DataWorld, hostile: str) -> None:
    n = 30
    frame = pl.DataFrame({hostile[:150]: [hostile] * n, "value": [hostile, "b", None] * 10, "x": range(n)})
    report_id = described(world, frame)
    page = check_page(world.reports.html(report_id))
    assert max(len(word) for word in page.text.split()) <= 260
    text = world.service.get_report(report_id=report_id).text
    assert not live_markdown(text)
    assert not set(text) & {"\x1b", "\u202e", "\u200b", "\U000e0041"}


def test_bad_files_of_the_injection_kind_make_harmless_reports(world: DataWorld, shared_data: Path) -> None:
    manifest = json.loads((shared_data / "bad_inputs" / "manifest.json").read_text())
    cases = [case for case in manifest["files"] if case["file"].startswith("inject/") and case["outcome"] == "ok"]
    assert len(cases) > 5
    for number, case in enumerate(cases):
        (world.root / f"case{number}.csv").write_bytes((shared_data / "bad_inputs" / case["file"]).read_bytes())
        world.service.import_dataset(caller=ANNA, name=f"case{number}", source=f"case{number}.csv")
        result = world.service.describe_dataset(dataset=f"case{number}", detail="full")
        check_page(world.reports.html(result.report_uri.removeprefix("report://")))
        text = world.service.get_report(report_id=result.report_uri).model_dump_json() + result.model_dump_json()
        for forbidden in case.get("must_not_in_text", []):
            assert forbidden not in text
        assert "\\u001b" not in text


@pytest.mark.slow
def test_the_report_of_two_thousand_columns_stays_small(world: DataWorld) -> None:
    rng = np.random.default_rng(0)
    names = [f"a rather long name of a column, number {i}" for i in range(2000)]
    frame = pl.DataFrame({name: rng.normal(size=30) if i % 2 else [f"v{j % 7}" for j in range(30)]
                          for i, name in enumerate(names)})  # fmt: skip
    report_id = described(world, frame)
    page = world.reports.html(report_id)
    assert len(page.encode()) < 5_000_000
    check_page(page)
    text = world.service.get_report(report_id=report_id)
    assert len(text.model_dump_json()) < 16_000
    assert text.truncated
    assert "more" in text.sections[-1]


def test_equal_data_makes_equal_pages(world: DataWorld) -> None:
    first = world.reports.html(described(world, league()))
    assert world.reports.html(described(world, league())) == first


def test_the_picture_is_small_and_drawn_when_asked_for(world: DataWorld, tmp_path: Path) -> None:
    report_id = described(world, league())
    assert not list((tmp_path / "artifacts").rglob("*.png"))
    picture = world.reports.image(report_id)
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert len(picture) <= 200_000


def test_a_section_is_found_by_its_columns_name_in_any_capitals(world: DataWorld) -> None:
    report_id = described(world, league())
    section = world.service.get_report(report_id=report_id, section="POINTS")
    assert section.text.startswith("## Column: points")
    assert "distinct 50" in section.text
    assert "Rows from each lower edge" in section.text
    assert not section.truncated
    with pytest.raises(InvalidArgumentError, match="no section 'pionts'"):
        world.service.get_report(report_id=report_id, section="pionts")


def test_a_long_report_ends_between_sections_and_says_what_follows(world: DataWorld) -> None:
    rng = np.random.default_rng(0)
    report_id = described(world, pl.DataFrame({f"measure_{i}": rng.normal(size=60) for i in range(60)}))
    whole = world.service.get_report(report_id=report_id)
    assert whole.truncated
    assert len(whole.model_dump_json()) < 16_000
    assert "sections follow: read one with section=" in whole.text
    assert whole.text.startswith("## Summary")


def test_a_result_has_warnings_before_columns_and_says_what_is_sampled(world: DataWorld) -> None:
    world.datasets.write("table", league(), source="a test", lineage={}, caller=ANNA)
    document = world.service.describe_dataset(dataset="table").model_dump()
    order = list(document)
    assert order.index("warnings") < order.index("columns")
    assert document["warnings"][0]["code"] in ("possible_leak", "mixed_dates")
    assert document["notes"] == []
    day = next(column for column in document["columns"] if column["name"] == "day")
    assert (day["min"], day["max"]) == ("1970-01-01", "1971-02-04")
    assert day["quantiles"]["0.5"].startswith("1970-07-2")


def test_a_damaged_file_is_said_to_be_damaged(world: DataWorld) -> None:
    from mcp_server.errors import FailedPreconditionError

    version = world.datasets.write("table", league(), source="a test", lineage={}, caller=ANNA)
    version.path.write_bytes(version.path.read_bytes()[:200] + b"x" * 300)
    with pytest.raises(FailedPreconditionError, match="damaged"):
        world.service.describe_dataset(dataset="table")
