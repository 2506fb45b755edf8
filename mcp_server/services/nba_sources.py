"""The sources `nba://…`: games that a simulator makes, tables that a package carries, and what NBA.com tells."""

import importlib.metadata
import importlib.util
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

from mcp_server.engine.findings import Finding
from mcp_server.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    shown,
)
from mcp_server.nba.nba_com_tables import CSV_HINT
from mcp_server.runtime.child import run_in_child
from mcp_server.runtime.clock import Clock
from mcp_server.runtime.progress import Progress
from mcp_server.settings import LimitSettings, NbaSettings
from mcp_server.stores.fetching import Deadline
from mcp_server.stores.parquet import full_disk_explained, write_parquet
from mcp_server.stores.sources.reader import Brought, Listed, require_options

SAMPLE: Final = "nba://sample"
TEAMS: Final = "nba://teams"
PLAYERS: Final = "nba://players"
GAMES: Final = "nba://games/"
SCHEDULE: Final = "nba://schedule/"
_SAMPLE_SEASONS: Final = 3
_FIRST_SEASON: Final = 1947
_SEASON: Final = re.compile(r"(\d{4})-(\d{2}|\d{4})")
_KINDS: Final = {
    "all": ("regular", "playoffs"),
    "regular": ("regular",),
    "playoffs": ("playoffs",),
    "play_in": ("play_in",),
}
_EASTERN: Final = timezone(timedelta(hours=-5))  # the league's days are those of New York


class NbaSources:
    """Reads `nba://…`. Thread-safe: it holds nothing that changes."""

    def __init__(self, *, settings: NbaSettings, limits: LimitSettings, clock: Clock, cache: Path) -> None:
        """Take the settings, and the folder in which NBA.com's answers are kept."""
        self._settings = settings
        self._limits = limits
        self._clock = clock
        self._cache = cache

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the rows of `source` to `output`.

        Raises:
            InvalidArgumentError: there is no such source, or an option is wrong.
            FailedPreconditionError: the package that it needs is not installed.
            NotFoundError: NBA.com has no games of that season or day.
            UnavailableError: NBA.com does not answer in time, refuses, or answers with something else.
        """
        name = source.strip().lower().rstrip("/")
        if format is not None:
            raise InvalidArgumentError("A source nba://… has no format.", hint="Leave format out.")
        if name == SAMPLE:
            return self._sample(options, output, progress)
        if name in (TEAMS, PLAYERS):
            return self._static(name, options, output)
        if name.startswith(GAMES):
            return self._season(name.removeprefix(GAMES), options, output, progress)
        if name.startswith(SCHEDULE):
            return self._day(name.removeprefix(SCHEDULE), options, output, progress)
        known = ", ".join(listed.source for listed in self.listed())
        raise InvalidArgumentError(f"There is no source {shown(source)}.", hint=f"There are {known}.")

    def listed(self) -> Sequence[Listed]:
        """Return what there is; the season and the day are examples, today's."""
        today = self._today()
        ends = today.year + (today.month >= 10)
        return [
            Listed(SAMPLE, "simulator"),
            Listed(TEAMS, "nba_api"),
            Listed(PLAYERS, "nba_api"),
            Listed(f"{GAMES}{ends - 1}-{ends % 100:02}", "nba.com"),
            Listed(f"{SCHEDULE}{today.isoformat()}", "nba.com"),
        ]

    # Without a network ---------------------------------------------------------------------------------------

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

    def _static(self, source: str, options: Mapping[str, Any], output: Path) -> Brought:
        require_options(source, {}, options)
        _require_package(source)
        from mcp_server.nba.static_tables import players_table, teams_table

        write_parquet(teams_table() if source == TEAMS else players_table(), output)
        version = importlib.metadata.version("nba_api")
        return Brought(source=source, notes=[f"As the package nba_api {version} has it; no network was used."])

    # From NBA.com --------------------------------------------------------------------------------------------

    def _season(self, written: str, options: Mapping[str, Any], output: Path, progress: Progress) -> Brought:
        require_options(f"{GAMES}SEASON", {"season_type": str, "refresh": bool}, options)
        chosen = options.get("season_type", "all")
        if chosen not in _KINDS:
            raise InvalidArgumentError(
                f"Option season_type is one of {', '.join(_KINDS)}, not {shown(chosen)}.",
                hint="all, the default, is regular season and play-offs.",
            )
        season = self._season_of(written)
        name = f"{season - 1}-{season % 100:02}"
        brought = self._ask(
            "bring_season",
            f"{GAMES}{name}",
            {"season": season, "kinds": list(_KINDS[chosen]), "refresh": options.get("refresh", False)},
            output,
            progress,
        )
        if not brought.details["games"]:
            before = f"{GAMES}{season - 2}-{(season - 1) % 100:02}"
            raise NotFoundError(
                "season", f"{name} ({chosen})", hint=f"NBA.com lists no games of it yet; {before} is the one before."
            )
        return Brought(
            source=brought.source,
            notes=brought.notes,
            findings=brought.findings,
            details=brought.details,
            options={"season_type": chosen},
        )

    def _day(self, written: str, options: Mapping[str, Any], output: Path, progress: Progress) -> Brought:
        require_options(f"{SCHEDULE}DATE", {"refresh": bool}, options)
        day = self._today() if written == "today" else _day_of(written)
        arguments = {"day": day.isoformat(), "refresh": options.get("refresh", False)}
        brought = self._ask("bring_day", f"{SCHEDULE}{day.isoformat()}", arguments, output, progress)
        if not brought.details["games"]:
            left_out = " ".join(finding.message for finding in brought.findings)
            raise NotFoundError(
                "slate of NBA games", day.isoformat(), hint=f"NBA.com lists none for that day. {left_out}".strip()
            )
        return brought

    def _ask(
        self, function: str, source: str, arguments: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Let a child ask NBA.com for what is not kept, and write the rows; it ends at the deadline, come what may."""
        _require_package(source)
        settings = self._settings
        progress(0.1, "asking NBA.com")
        with full_disk_explained():
            self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incoming-", dir=self._cache) as incoming:
            deadline = Deadline.after(settings.timeout_s)
            try:
                answer = run_in_child(
                    f"mcp_server.stores.nba_com:{function}",
                    {
                        **arguments,
                        "connection": {
                            "base_url": settings.base_url,
                            "connect_timeout_s": settings.connect_timeout_s,
                            "read_timeout_s": settings.read_timeout_s,
                        },
                        "cache": str(self._cache),
                        "incoming": incoming,
                        "now": self._clock.now().isoformat(),
                        "output": str(output),
                    },
                    memory_bytes=self._limits.child_memory_bytes,
                    timeout_s=settings.timeout_s,
                    cancelled=progress.cancelled,
                )
            except ResourceExhaustedError as refusal:
                if deadline.left_s:  # a limit other than the time
                    raise
                raise UnavailableError(
                    f"NBA.com did not answer in full within {settings.timeout_s:g} s; nothing was written.",
                    hint=f"Try again later, or raise NBA_MCP_NBA__TIMEOUT_S. {CSV_HINT}",
                ) from refusal
        times = {kind: datetime.fromisoformat(text) for kind, text in answer["fetched_at"].items()}
        oldest = min(times.values())
        notes = [
            f"NBA.com's answer is of {oldest:%Y-%m-%d %H:%M} UTC; options.refresh=true asks anew.",
            *answer["notes"],
        ]
        return Brought(
            source=source,
            notes=notes,
            findings=[Finding(None, code, message) for code, message in answer["trouble"]],
            details={"games": answer["games"], "fetched_at": answer["fetched_at"]},
        )

    def _today(self) -> date:
        return self._clock.now().astimezone(_EASTERN).date()

    def _season_of(self, written: str) -> int:
        """Return the year in which the season written as 2024-25 ends."""
        match = _SEASON.fullmatch(written)
        ends = int(match[1]) + 1 if match else 0
        if match is None or int(match[2]) not in (ends, ends % 100):
            raise InvalidArgumentError(
                f"{shown(written)} is no season.", hint=f"A season is written as in {GAMES}2024-25."
            )
        if not _FIRST_SEASON <= ends <= self._today().year + 1:
            raise InvalidArgumentError(
                f"There is no season {shown(written)}: the first is 1946-47, the last is the one that runs.",
                hint=f"Write it as in {GAMES}2024-25.",
            )
        return ends


def _day_of(written: str) -> date:
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise InvalidArgumentError(
            f"{shown(written)} is no day.", hint=f"A day is written as in {SCHEDULE}2026-11-23; or {SCHEDULE}today."
        ) from None


def _require_package(source: str) -> None:
    """Raise FailedPreconditionError unless the extra `nba` is installed."""
    if importlib.util.find_spec("nba_api") is None:
        raise FailedPreconditionError(
            f"{source} needs the package nba_api, which is not installed.",
            hint=f"Install it with: pip install 'nba-mcp[nba]'. {CSV_HINT}",
        )
