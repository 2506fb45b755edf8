import inspect

import pytest

from mcp_server.services.cleaning import CleaningService
from mcp_server.services.data import DataService
from mcp_server.tools.calling import ToolSpec
from mcp_server.tools.data import TOOLS

_BOUNDARY = {"ctx", "plot", "wait_seconds", "confirm", "confirmed"}


def test_the_contract_names_these_tools() -> None:
    assert {spec.name: (spec.job, spec.role) for spec in TOOLS} == {
        "import_dataset": (True, "data_scientist"),
        "list_datasets": (False, "viewer"),
        "describe_dataset": (True, "viewer"),
        "query_data": (False, "viewer"),
        "transform_dataset": (True, "data_scientist"),
        "clean_dataset": (True, "data_scientist"),
        "export_dataset": (False, "data_scientist"),
        "list_sources": (False, "viewer"),
        "get_report": (False, "viewer"),
        "delete_dataset": (False, "admin"),
    }


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_the_service_takes_what_the_tool_takes(spec: ToolSpec) -> None:
    service = CleaningService if spec.name == "clean_dataset" else DataService
    taken = set(inspect.signature(getattr(service, spec.name)).parameters)
    assert set(inspect.signature(spec.function).parameters) - _BOUNDARY <= taken
    assert not spec.job or "progress" in taken


@pytest.mark.parametrize("spec", TOOLS, ids=lambda spec: spec.name)
def test_words_for_the_caller_are_short(spec: ToolSpec) -> None:
    assert 0 < len(inspect.getdoc(spec.function) or "") <= 300
