"""A suggestion before it is checked on all of the data."""

from dataclasses import dataclass
from typing import Any

from mcp_server.engine.expectations.suite import Severity


@dataclass(frozen=True, slots=True)
class Idea:
    """An expectation that the data seems to meet.

    Attributes:
        rank: how telling it is; of a lower rank more are kept, and they come first.
        evidence: what it was derived from, for a reader.
    """

    rank: int
    type: str
    kwargs: dict[str, Any]
    severity: Severity
    evidence: str

    def document(self) -> dict[str, Any]:
        """Return it as a suite has it, the evidence in `meta`."""
        return {
            "type": self.type,
            "kwargs": self.kwargs,
            "severity": self.severity,
            "meta": {"evidence": self.evidence},
        }
