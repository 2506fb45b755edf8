"""A data service on real stores in a temporary folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mcp_server.runtime.clock import ManualClock
from mcp_server.services.cleaning import CleaningService
from mcp_server.services.data import DataService
from mcp_server.services.importing import Importing
from mcp_server.services.nba_sources import NbaSources
from mcp_server.settings import LimitSettings, NbaSettings, RemoteSettings, S3Settings
from mcp_server.stores.artifacts import ArtifactStore
from mcp_server.stores.database import Database
from mcp_server.stores.datasets import DatasetStore
from mcp_server.stores.exports import Exports
from mcp_server.stores.queries import DatasetQueries
from mcp_server.stores.reports import ReportStore
from mcp_server.stores.s3 import Buckets
from mcp_server.stores.sources.files import SourceFiles
from mcp_server.stores.sources.reader import SourceReader


@dataclass
class DataWorld:
    """The service, its stores, and the folder that sources lie in."""

    service: DataService
    cleaning: CleaningService
    datasets: DatasetStore
    reports: ReportStore
    root: Path
    users: list[str] = field(default_factory=list)

    def users_of(self, refs: Sequence[str]) -> list[str]:
        return self.users


def make_world(
    database: Database,
    artifacts: ArtifactStore,
    clock: ManualClock,
    root: Path,
    nba_com: NbaSettings | None = None,
    remote: Mapping[str, SourceReader] | None = None,
    buckets: Buckets | None = None,
) -> DataWorld:
    """Join the parts; `root` is where sources may lie, `remote` reads those that are no files, by scheme."""
    limits = LimitSettings()
    datasets = DatasetStore(database, artifacts, clock)
    reports = ReportStore(database, artifacts, clock)
    users: list[str] = []
    sources = SourceFiles([root.resolve()], limits)
    nba = NbaSources(settings=nba_com or NbaSettings(), limits=limits, clock=clock, cache=root / "cache")
    service = DataService(
        datasets=datasets,
        artifacts=artifacts,
        reports=reports,
        sources=sources,
        importing=Importing(sources, {"nba": nba, **(remote or {})}),
        exports=Exports(sources, buckets or Buckets(S3Settings(), RemoteSettings()), artifacts),
        queries=DatasetQueries(datasets, artifacts, limits),
        users_of=lambda refs: list(users),
    )
    return DataWorld(service, CleaningService(datasets=datasets, artifacts=artifacts), datasets, reports, root, users)
