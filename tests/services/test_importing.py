"""Which reader a source goes to."""

from pathlib import Path

import pytest

from mcp_server.errors import InvalidArgumentError, PermissionDeniedError
from mcp_server.runtime.clock import ManualClock
from mcp_server.runtime.progress import NoProgress
from mcp_server.services.importing import Importing
from mcp_server.services.nba_sources import NbaSources
from mcp_server.settings import LimitSettings, NbaSettings
from mcp_server.stores.sources.files import SourceFiles


@pytest.fixture
def importing(tmp_path: Path) -> Importing:
    sources = NbaSources(settings=NbaSettings(), limits=LimitSettings(), clock=ManualClock(), cache=tmp_path / "cache")
    return Importing(SourceFiles([tmp_path.resolve()], LimitSettings()), {"nba": sources})


def test_a_scheme_that_nobody_reads_is_denied_and_the_known_ones_are_named(
    importing: Importing, tmp_path: Path
) -> None:
    with pytest.raises(PermissionDeniedError) as refusal:
        importing.bring("gopher://x/y", None, {}, tmp_path / "out.parquet", NoProgress())
    assert "nba://" in (refusal.value.hint or "")


def test_an_unknown_nba_source_is_invalid_in_any_spelling_of_the_scheme(importing: Importing, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        importing.bring("NBA://nonsense", None, {}, tmp_path / "out.parquet", NoProgress())


def test_what_is_listed_beside_files_can_be_brought_in(importing: Importing, tmp_path: Path) -> None:
    listed = next(each for each in importing.listed() if each.kind == "simulator")
    output = tmp_path / "out.parquet"
    brought = importing.bring(listed.source, None, {"seasons": 1}, output, NoProgress())
    assert output.is_file()
    assert brought.options == {"seasons": 1, "seed": 0}
