"""What a page of HTML has to be: whole, self-contained, and nothing but text where data stands."""

import re
from html.parser import HTMLParser
from itertools import pairwise

from markdown_it import MarkdownIt

_VOID = {"meta", "br", "img", "link", "input", "hr", "path"}
_KNOWN = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "ul", "li", "br", "code", "strong",
    "nav", "details", "summary", "a", "section", "div", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td",
    "figure", "figcaption", "span", "svg", "path", "img",
}  # fmt: skip
_FETCHING = ("src", "href", "srcset", "action", "poster", "data", "xlink:href", "background", "cite", "formaction")


class Page(HTMLParser):
    """Reads a page strictly: every tag is known, closed, and nested rightly."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _KNOWN, f"<{tag}> {attrs}"
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _KNOWN, tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], f"</{tag}> inside {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All that a reader sees."""
        return "".join(self.texts)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(html: str) -> Page:
    """Read a page and assert what holds for every report."""
    page = Page(html)
    for _, attributes in page.tags:
        for name in _FETCHING:
            assert str(attributes.get(name, "#")).startswith(("#", "data:image/png;base64,"))
        assert "url(" not in str(attributes.get("style"))
    styles = html.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|expression\(", styles)
    assert page.named("html")[0]["lang"] == "en"
    policy = [meta["content"] for meta in page.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert str(policy[0]).startswith("default-src 'none'")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(image.get("alt") for image in page.named("img"))
    assert all(drawing.get("aria-label") and drawing.get("role") == "img" for drawing in page.named("svg"))
    assert all(cell.get("scope") in ("col", "row") for cell in page.named("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(link["href"])[1:] for link in page.named("a")} <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    hidden = set(html) & {"\u202e", "\u202d", "\u2066", "\u200b", "\x1b", "\x00", "\ufe0f"}
    assert not hidden
    assert not re.search("[\U000e0000-\U000e007f]", html)
    return page


def live_markdown(text: str) -> list[str]:
    """Return what a CommonMark reader would make a link, a picture or HTML of."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = [child for token in tokens for child in token.children or []]
    kinds = {"link_open", "image", "html_inline", "html_block"}
    return [token.type for token in [*tokens, *inside] if token.type in kinds]
