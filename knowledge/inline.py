"""Markdown inside a block as plain words: links become their text, emphasis goes, code stays as it is."""

from __future__ import annotations

import html
import re

_SPECIAL = re.compile(r"[`*_\[\]<>&\\~]")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_HELD = re.compile("\ue000(\\d{1,6})\ue001")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_IMAGE = re.compile(r"!\[[^\[\]]*\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])?")
_LINK = re.compile(r"\[([^\[\]]*)\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])")
_REFERENCE = re.compile(r"\[\^[^\[\]\s]+\]:?")
_DEFINITION = re.compile(r"^[ \t]*\[[^\[\]]+\]:[ \t]+\S+.*$", re.MULTILINE)
_CUT_LINK = re.compile(r"\]\([^()\s]*\)")
_AUTOLINK = re.compile(r"<((?:https?|ftp|mailto):[^<>\s]+|[\w.+-]+@[\w-]+\.[\w.-]+)>")
_BREAK = re.compile(r"<(?:br|hr|p|li|tr|td|th|div|dt|dd)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:a|abbr|b|big|blockquote|center|cite|code|dd|del|details|div|dl|dt|em|figcaption|figure|font|h[1-6]|i|img|"
    r"input|ins|kbd|li|mark|ol|p|picture|pre|q|s|samp|small|source|span|strike|strong|sub|summary|sup|svg|table|tbody|"
    r"td|tfoot|th|thead|tr|tt|u|ul|var|video|audio|nav|section|article|header|footer|br|hr)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_STRONG = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*|(?<!\w)__(?=\S)(.+?)(?<=\S)__(?!\w)", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*]+?)(?<=\S)\*(?![\w*])|(?<!\w)_(?=[^\s_])([^_]+?)(?<=\S)_(?!\w)")
_STRAY = re.compile(r"(?<!\S)(?:\*\*|__)(?=\w)|(?<=[^\s*_])(?:\*\*|__)(?!\S)")  # the other end is in another sentence
_STRUCK = re.compile(r"~~(?=\S)(.+?)(?<=\S)~~", re.DOTALL)
_QUOTE = re.compile(r"^[ \t]*>[> \t]*(?:\[![A-Z]+\])?", re.MULTILINE)
_ROLE = re.compile(r"\{[\w:+-]+\}(?=\ue000)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


def _held(match: re.Match[str]) -> str:
    """An escaped sign as its entity, so that nothing takes it for a mark."""
    return f"&#{ord(match[1])};"


def plain(text: str) -> str:
    """The words of a piece of Markdown as a person reads them, on one line. Linear for the length of a passage."""
    if not _SPECIAL.search(text):
        return " ".join(text.split())
    codes: list[str] = []

    def hold(match: re.Match[str]) -> str:
        codes.append(" ".join(match[2].split()))
        return f"\ue000{len(codes) - 1}\ue001"

    text = _CODE.sub(hold, text)
    if "\\" in text:
        text = _ESCAPE.sub(_held, text)
    if "<" in text:
        text = _COMMENT.sub("", text)
        text = _AUTOLINK.sub(r"\1", text)
        text = _TAG.sub("", _BREAK.sub(" ", text))
    if ">" in text:
        text = _QUOTE.sub("", text)
    if "[" in text or "](" in text:
        text = _DEFINITION.sub("", text)
        text = _LINK.sub(r"\1", _IMAGE.sub("", _REFERENCE.sub("", text)))
        text = _CUT_LINK.sub("", _LINK.sub(r"\1", text))
    text = _emphasis(text)
    if codes:
        text = _ROLE.sub("", text)
        text = _HELD.sub(lambda match: codes[int(match[1])] if int(match[1]) < len(codes) else match[0], text)
    return " ".join(text.split())


def _emphasis(text: str) -> str:
    if "*" in text or "_" in text:
        for _ in range(2):  # strong inside emphasis and the other way round
            text = _STRONG.sub(lambda match: match[1] or match[2], text)
            text = _EMPHASIS.sub(lambda match: match[1] or match[2], text)
        text = _STRAY.sub("", text)
    if "~~" in text:
        text = _STRUCK.sub(r"\1", text)
    return html.unescape(text) if "&" in text else text
