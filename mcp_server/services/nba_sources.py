"""The sources `nba://…`: games that a simulator makes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mcp_server.errors import FailedPreconditionError, InvalidArgumentError, shown
from mcp_server.runtime.progress import Progress
from mcp_server.stores.parquet import write_parquet
from mcp_server.stores.sources_reader import Brought, Listed, require_options

SAMPLE: Final = "nba://sample"
_LATER: Final = ("nba://games", "nba://teams", "nba://players", "nba://schedule")
_SAMPLE_SEASONS: Final = 3


class NbaSources:
    """Reads `nba://…`. Thread-safe: it holds nothing that changes."""

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the games of `source` to `output`.

        Raises:
            InvalidArgumentError: there is no such source, or an option is wrong.
            FailedPreconditionError: the source is not supported yet.
        """
        if source == SAMPLE:
            return self._sample(options, output, progress)
        if source.startswith(_LATER):
            raise FailedPreconditionError(f"{shown(source)} is not supported yet.", hint=f"Supported today: {SAMPLE}.")
        raise InvalidArgumentError(f"There is no source {shown(source)}.", hint=f"Supported today: {SAMPLE}.")

    def listed(self) -> Sequence[Listed]:
        """Return what is always there."""
        return [Listed(SAMPLE, "simulator")]

    def _sample(self, options: Mapping[str, Any], output: Path, progress: Progress) -> Brought:
        from mcp_server.nba.simulator import simulate_seasons

        require_options(SAMPLE, {"seasons": int, "seed": int}, options)
        seasons, seed = options.get("seasons", _SAMPLE_SEASONS), options.get("seed", 0)
        progress(0.1, f"simulating {seasons} seasons")
        write_parquet(simulate_seasons(seasons, seed), output)
        return Brought(
            source=SAMPLE,
            opening=f"Simulated {seasons} seasons as",
            notes=[f"Simulated games that never happened: {seasons} seasons from seed {seed}."],
            options={"seasons": seasons, "seed": seed},
        )
