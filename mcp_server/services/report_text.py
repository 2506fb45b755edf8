"""A stored report as text for an assistant: whole sections, as many as an answer has room for."""

from collections.abc import Callable, Sequence

from mcp_server.errors import InvalidArgumentError, shown
from mcp_server.results.data import ReportText
from mcp_server.stores.reports import StoredReport, StoredSection

_TEXT_ROOM = 11_000
_HEADINGS_ROOM = 2_500


def report_text(stored: StoredReport, section: str | None) -> ReportText:
    """Return a report, or one section of it, as Markdown, cut between sections where it can be.

    Args:
        section: a heading, or what follows its colon (a column's name); capitals count only between equals.

    Raises:
        InvalidArgumentError: it has no such section; the hint names them.
    """
    headings = [part.heading for part in stored.sections]
    chosen = list(stored.sections) if section is None else _named(stored.sections, section)
    if not chosen:
        listed = ", ".join(_fitting(headings))
        raise InvalidArgumentError(f"The report has no section {shown(section)}.", hint=f"Its sections: {listed}.")
    text, n_written = _joined(chosen)
    cut = n_written < len(chosen) or len(text) > _TEXT_ROOM
    if cut:
        left = len(chosen) - n_written
        notice = f"the text ends here; {left} sections follow" if left else "the section is longer than an answer"
        text = (
            f"{text[:_TEXT_ROOM].rstrip()}\n\n… ({notice}: read one with section=, or open report://{stored.report_id})"
        )
    words = f"{len(headings)} sections" + (f", {n_written} of them here" if cut and section is None else "")
    return ReportText(
        summary=f"{stored.title}: {words}.", title=stored.title, sections=_fitting(headings), text=text, truncated=cut
    )


def _named(sections: Sequence[StoredSection], asked: str) -> list[StoredSection]:
    """Return the section of a heading: exactly, else in other capitals, else by what follows a colon."""

    def tail(heading: str) -> str:
        return heading.partition(": ")[2]

    tests: tuple[Callable[[str], bool], ...] = (
        lambda heading: heading == asked,
        lambda heading: tail(heading) == asked,
        lambda heading: heading.lower() == asked.lower() or tail(heading).lower() == asked.lower(),
    )
    matching = ([part for part in sections if test(part.heading)][:1] for test in tests)
    return next((found for found in matching if found), [])


def _joined(sections: Sequence[StoredSection]) -> tuple[str, int]:
    """Return whole sections up to the room, at least one, and how many they are."""
    text = ""
    for n_written, part in enumerate(sections):
        following = f"{text}\n{part.markdown.strip()}\n" if text else part.markdown.strip() + "\n"
        if text and len(following) > _TEXT_ROOM:
            return text, n_written
        text = following
    return text, len(sections)


def _fitting(headings: Sequence[str]) -> list[str]:
    """Return as many headings as there is room for; a last one says how many more there are."""
    kept: list[str] = []
    used = 0
    for heading in headings:
        used += len(heading) + 4
        if used > _HEADINGS_ROOM:
            return [*kept, f"… {len(headings) - len(kept)} more"]
        kept.append(heading)
    return kept
