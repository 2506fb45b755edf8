"""What every kind of source has in common: it is brought in as one Parquet file, with words on how it was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from mcp_server.engine.findings import Finding
from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.runtime.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A source's rows are in the file asked for; this is what there is to say about them.

    Attributes:
        source: how lineage names it; never holds a secret.
        opening: the first word of the result's summary, such as `Imported`.
        findings: about columns, for the caller.
        notes: about the whole, kept in the lineage.
        details: how it was read (format, encoding, parts), kept in the lineage.
        options: those that made the outcome what it is, defaults that matter included.
    """

    source: str
    opening: str = "Imported"
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listed:
    """Something that can be imported, for list_sources."""

    source: str
    kind: str
    size_bytes: int | None = None
    modified: datetime | None = None


class SourceReader(Protocol):
    """One kind of source. Implementations are thread-safe."""

    def bring(
        self, source: str, format: str | None, options: Mapping[str, Any], output: Path, progress: Progress
    ) -> Brought:
        """Write the rows of `source` to `output` as Parquet.

        Args:
            source: as the caller wrote it.
            format: the file format that the caller says it has, None to find out.
            options: the caller's; unknown ones are refused by name.
            output: a path to write to, in the artifact store's room for unfinished files.
            progress: told how far it is; raises when the job was cancelled.

        Raises:
            LifecycleError: it cannot be read; says why and what to do. Nothing is left at `output` that counts.
        """
        ...

    def listed(self) -> Sequence[Listed]:
        """Return what list_sources shows of this kind, a page at most."""
        ...


def require_options(kind: str, known: Mapping[str, type], options: Mapping[str, Any]) -> None:
    """Raise InvalidArgumentError unless every option is one that this kind of source has, of the right type."""
    for name, value in options.items():
        if name not in known:
            raise InvalidArgumentError(
                f"Source kind {kind} has no option {shown(name)}.",
                hint=f"Its options: {', '.join(known)}." if known else "It has no options.",
            )
        if type(value) is not known[name]:
            word = {str: "text", bool: "true or false", int: "a whole number"}[known[name]]
            raise InvalidArgumentError(f"Option {name} is {word}, not {shown(value)}.", hint="Mend the option.")
