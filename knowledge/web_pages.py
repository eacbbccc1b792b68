# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Web pages: what is around the text is taken away before the page becomes Markdown. The door of trafilatura."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_TITLE = re.compile(r"<title[^<>]*>(.{1,2000}?)</title>", re.IGNORECASE | re.DOTALL)
_LINK = re.compile(r"<link\b[^<>]{1,2000}>", re.IGNORECASE)
_HREF = re.compile(r"\bhref\s*=\s*[\"']?\s*(https?://[^\"'\s<>]{3,2000})", re.IGNORECASE)
_CANONICAL = re.compile(r"\brel\s*=\s*[\"']?canonical\b", re.IGNORECASE)
_MAIN = re.compile(r"<(main|article)\b[^<>]*>", re.IGNORECASE)
_AROUND = re.compile(r"<(?:nav|aside|footer)\b|role\s*=\s*[\"']?navigation", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_WORD = re.compile(r"\w+")
_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
_TOP = re.compile(r"^# [^\n]+", re.MULTILINE)
_ROW = re.compile(r"^\|", re.MULTILINE)
_RELATIVE_LINK = re.compile(
    r"(?<!!)\[((?:[^\[\]]|\\.|\[[^\[\]]*\])*)\]\((?!https?://)(?:[^()\s]|\([^()]*\))*(?:\s+\"[^\"]*\")?\)"
)
_IMAGE = re.compile(r"!\[[^\[\]]*\]\((?:[^()]|\([^()]*\))*\)")
_EMPTY_LINK = re.compile(r"(?<!!)\[[\s§¶#🔗ⓘ]*\]\((?:[^()]|\([^()]*\))*\)")
_SKIP = re.compile(r"^\[?Skip to [^\n]{1,60}$", re.MULTILINE)

EXCLUDED = (
    "script", "style", "template", "noscript", "svg", "nav", "button", "select", "input", "footer", "iframe",
    "[role=navigation]", "[role=search]", "[hidden]", "[aria-hidden=true]", ".headerlink", ".skip-main", ".sr-only",
)  # fmt: skip
"""CSS selectors of what never belongs to a page's text."""
_KEPT = 0.6


@dataclass(frozen=True, slots=True)
class Page:
    """A web page's own words about itself, and the part of its source that holds its text."""

    title: str
    url: str
    source: str


def read_page(source: str) -> Page:
    """Title, canonical address, and the main part where the page marks one that holds most of its words."""
    title = _TITLE.search(source)
    canonical = next((link[0] for link in _LINK.finditer(source) if _CANONICAL.search(link[0])), "")
    address = _HREF.search(canonical)
    return Page(
        " ".join(html.unescape(title[1]).split()) if title else "",
        html.unescape(address[1]) if address else "",
        _main_part(source),
    )


def _main_part(source: str) -> str:
    found = list(_MAIN.finditer(source))
    mains = [match for match in found if match[1].lower() == "main"] or found
    if len(mains) != 1:
        return source
    end = source.lower().rfind(f"</{mains[0][1].lower()}", mains[0].end())
    part = source[mains[0].start() : end if end > 0 else len(source)]
    words = len(_WORD.findall(_TAG.sub(" ", part)))
    around = len(_WORD.findall(_TAG.sub(" ", _AROUND.split(source[: mains[0].start()])[0]))) if words < 30 else 0
    return source if words < 30 and around > words else f"<html><body>{part}</body></html>"


def without_surroundings(source: str, markdown: str) -> str:
    """Trafilatura's text instead of `markdown`, where it drops menus and loses no heading, table or code."""
    if _MAIN.search(source) or not _AROUND.search(source):
        return markdown
    import trafilatura  # half a second: only for a page that needs it

    text = trafilatura.extract(
        source,
        output_format="markdown",
        include_comments=False,
        include_tables=True,
        include_formatting=True,
        favor_recall=True,
    )
    if not text:
        return markdown
    top = _TOP.search(markdown)
    if top and top[0] not in text:  # it takes the page's own heading for a title
        text = f"{top[0]}\n\n{text}"
    keeps = (
        len(_HEADING.findall(text)) >= len(_HEADING.findall(markdown))
        and len(_ROW.findall(text)) >= len(_ROW.findall(markdown))
        and text.count("```") >= markdown.count("```")
        and len(_WORD.findall(text)) >= _KEPT * len(_WORD.findall(markdown))
    )
    return text if keeps else markdown


def tidy(markdown: str) -> str:
    """Without pictures, permalink signs and the targets of links that lead nowhere outside of their site."""
    text = _SKIP.sub("", _EMPTY_LINK.sub("", _IMAGE.sub("", markdown)))
    return _RELATIVE_LINK.sub(r"\1", text)
