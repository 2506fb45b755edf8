"""Files of text, imported and validated by the services, against what Great Expectations made of them in pandas."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.identity import Caller
from mcp_server.services.validation import ValidationService
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.suites import SuiteStore
from tests.services.data_world import make_world

ANA = Caller("ana", "data_scientist")


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> dict[str, Any]:
    path = shared_data / "truth" / "gx_cases.json"
    if not path.is_file():
        pytest.skip("the results of Great Expectations are not here")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_imported_files_are_judged_as_great_expectations_judged_them(
    truth: dict[str, Any], sqlite_database: Database, artifacts: ArtifactStore, clock: ManualClock, tmp_path: Path
):
    (tmp_path / "in").mkdir()
    world = make_world(sqlite_database, artifacts, clock, tmp_path / "in")
    suites = SuiteStore(sqlite_database, clock)
    service = ValidationService(datasets=world.datasets, suites=suites, reports=world.reports)
    differences: dict[str, Any] = {}
    for name, text in truth["csv"].items():
        cases = [case for case in truth["cases"] if case["csv"] == name]
        (tmp_path / "in" / f"{name}.csv").write_text(text)
        if text.count("\n") == 1:
            continue  # a file without rows is refused
        world.service.import_dataset(caller=ANA, name=name.lower(), source=f"{name}.csv")
        expectations = [{"type": each["type"], "kwargs": each["kwargs"]} for each in cases]
        service.save_suite(caller=ANA, name="suite", expectations=expectations)
        result = service.validate_dataset(dataset=name.lower(), suite="suite", detail="full")
        for case in cases:
            found = next(
                each for each in result.results if (each.type, each.kwargs) == (case["type"], case["kwargs"])
            ).model_dump()
            wanted = {"success": case["success"], **case["result"]}
            wanted.pop("unexpected_percent_nonmissing", None)
            found = {key: found[key] for key in wanted}
            if found != wanted:
                differences[case["name"]] = (found, wanted)

    assert differences == {}
