"""Bytes to clean characters: encodings, line ends, and signs that nobody sees."""

from __future__ import annotations

import codecs
import re
import unicodedata

import charset_normalizer

from knowledge.kinds import ParseFailed

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 65536
# Tags (U+E0000..), zero width, joiners, directions, soft hyphen, byte order mark: they can hide text from people.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f"
)
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufb00-\ufb06{_INVISIBLE}]")
_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_DROPPED = re.compile(f"[\x00-\x08\x0e-\x1f\x7f-\x9f{_INVISIBLE}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIGATURES = str.maketrans(
    {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}
)
_META_CHARSET = re.compile(rb"<meta[^<>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{2,40})", re.IGNORECASE)


def clean(text: str) -> str:
    """The text with "\\n" as its only line end, composed (NFC), without NUL, controls and invisible signs."""
    if not text.isascii() or _ODD.search(text):
        text = _DROPPED.sub("", _LINE_END.sub("\n", text)).translate(_LIGATURES)
        text = unicodedata.normalize("NFC", _SURROGATE.sub("\ufffd", text))
    return text


def decode(data: bytes, declared: str = "") -> str:
    """The characters of a text file, cleaned: byte order mark, then UTF-8, then `declared`, then a guess.

    Raises:
        ParseFailed: it is no text.
    """
    return clean(_decode(data, declared))


def declared_charset(html: bytes) -> str:
    """The charset that a web page names for itself, "" for none."""
    match = _META_CHARSET.search(html, 0, 4096)
    name = match[1].decode("ascii", "ignore") if match else ""
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        return ""


def _decode(data: bytes, declared: str) -> str:
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    head = data[:_SAMPLE]
    if b"\0" in head:
        return _wide(data, head)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = _guessed(data, declared)
    controls = len(re.findall("[\x01-\x08\x0e-\x1a\x1c-\x1f\x7f]", text[:_SAMPLE]))
    if controls * 20 > len(text[:_SAMPLE]):
        raise ParseFailed("not text: looks binary")
    return text


def _wide(data: bytes, head: bytes) -> str:
    """UTF-16 without a mark: every second byte of Western text is NUL."""
    half = len(head) // 2
    for name, zeros in (("utf-16-le", head[1::2].count(0)), ("utf-16-be", head[::2].count(0))):
        if zeros > 0.4 * half and head.count(0) < 1.2 * zeros:
            return data.decode(name, "replace")
    raise ParseFailed("not text: looks binary")


def _guessed(data: bytes, declared: str) -> str:
    if declared:
        try:
            return data.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass
    mended = data.decode("utf-8", "replace")
    if mended.count("\ufffd") * 1000 < len(mended):
        return mended  # a few broken bytes in UTF-8
    best = charset_normalizer.from_bytes(_odd_part(data)).best()
    if best is None:
        raise ParseFailed("not text: looks binary")
    return data.decode(best.encoding, "replace")


def _odd_part(data: bytes) -> bytes:
    """A sample for the guess, from a little before the first byte that is not ASCII."""
    first = re.search(rb"[\x80-\xff]", data)
    start = max(0, first.start() - 1000) if first else 0
    return data[start : start + 20000]
