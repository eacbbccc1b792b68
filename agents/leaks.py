"""Leaks: secrets and personal numbers in a text, found by their form and their check digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import log2
from typing import Literal


@dataclass(frozen=True, slots=True)
class Leak:
    """A piece of text that must not go out."""

    category: Literal["secret", "personal_data"]
    start: int
    end: int


_PREFIXES = (
    "sk-", "pk_live_", "sk_live_", "rk_live_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xoxb-",
    "xoxp-", "xoxa-", "xoxs-", "xapp-", "AKIA", "ASIA", "AIza", "ya29.", "hf_", "npm_", "pypi-", "SG.", "shpat_",
    "dop_v1_",
    "eyJ", "gsk_", "r8_", "tvly-", "whsec_", "AGE-SECRET-KEY-",
)  # fmt: skip
_KEY = re.compile(
    r"(?<![\w-])(?:sk-(?:proj-|ant-|or-|live-)?[\w-]{20,}|[spr]k_live_\w{16,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|"
    r"glpat-[\w-]{18,}|xox[bpas]-[\w-]{16,}|xapp-[\w-]{16,}|A(?:KI|SI)A[0-9A-Z]{16}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|"
    r"hf_\w{28,}|npm_\w{30,}|pypi-[\w-]{40,}|SG\.[\w-]{16,}\.[\w-]{16,}|shpat_\w{28,}|dop_v1_\w{40,}|"
    r"eyJ[\w-]{12,}\.eyJ[\w-]{6,}|gsk_\w{30,}|r8_\w{30,}|tvly-[\w-]{24,}|whsec_\w{24,}|AGE-SECRET-KEY-1\w{30,})"
)
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----")
_URL_PASSWORD = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://(?P<user>[^\s/:@]{0,40}):(?P<password>[^\s/@]{3,60})@(?P<host>[\w.-]+)"
)
_ASSIGNED = re.compile(
    r"(?i)\b(?:password|passwd|passphrase|secret(?:[_ -]?key)?|api[_ -]?key|access[_ -]?token|auth[_ -]?token)"
    r"[\"']?\s*(?:=|:|is)\s*[\"'`]?(?P<value>[^\s\"'`,;<>{}\[\]()]{12,60})"
)
_DIGITS = re.compile(r"(?<![\w.,-])(?<![A-Z]{2}\d{2} )\d(?:[ -]?\d){12,18}(?![\w-])")
_SOCIAL = re.compile(r"(?<![\w.-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)")

_HOLD = re.compile(
    r"(?:(?<![\w-])(?:" + "|".join(re.escape(prefix) for prefix in _PREFIXES) + r")[\w.-]*"
    r"|-----[A-Z -]*"
    r"|\b[a-z][a-z0-9+.-]{1,20}://[^\s/@]*(?:@[\w.-]*)?"
    r"|(?i:\b(?:password|passwd|passphrase|secret(?:[_ -]?key)?|api[_ -]?key|access[_ -]?token|auth[_ -]?token))"
    r"[\"']?\s*(?:=|:|is)?\s*[\"'`]?[^\s\"'`,;<>{}\[\]()]{0,60}"
    r"|(?<![\w.,-])\d[\d -]*"
    r"|(?<!\w)[A-Z]{2}\d[A-Z0-9 ]*"
    r")$"
)
_STARTS = frozenset(prefix[:length] for prefix in _PREFIXES for length in range(1, len(prefix)))
_PARTIAL = re.compile(r"(?<![\w-])(?:[A-Za-z][\w.-]{0,14}|[A-Z]{2}|-{1,5})$")
_SCHEMES = frozenset(
    scheme[:length]
    for scheme in (
        "http://",
        "https://",
        "ftp://",
        "postgres://",
        "postgresql://",
        "mysql://",
        "redis://",
        "amqp://",
        "mongodb://",
        "mongodb+srv://",
    )
    for length in range(4, len(scheme))
)
_PLACEHOLDERS = re.compile(
    r"(?i)^(?:pass(?:word|wd|phrase)?\d*|secret\w*|changeme|change-me|example\w*|your\w*|my\w*|x+|\*+|\.+|<.*|\$.*|%.*|{.*|"
    r"test\w*|dummy\w*|token|key|user\w*|admin\w*|root|postgres|parley|none|null|redacted\w*)$"
)
_LOCAL = re.compile(
    r"^(?:localhost|127\.0\.0\.1|\[?::1|(?:[\w-]+\.)*example\.(?:com|org|net)|(?:[\w-]+\.)*(?:local|test|internal))$"
)
_KEYWORDS = frozenset("password passwd passphrase secret key token".split())
_GROWING = _SCHEMES | _KEYWORDS | {scheme.partition(":")[0] for scheme in _SCHEMES}
HELD = 64
"""Most characters that are held back."""


def may_grow(word: str) -> bool:
    """Whether a word of letters, so far, may begin a leak: the start of a key, of an address, or "password"."""
    return (
        word in _STARTS
        or word.startswith(_PREFIXES)
        or (len(word) > 3 and word.lower() in _GROWING)
        or _maybe_iban(word)
    )


def held_from(text: str) -> int:
    """Where the end of a text begins that may yet become a leak; its length when nothing may."""
    tail = text[-HELD:]
    offset = len(text) - len(tail)
    match = _HOLD.search(tail)
    if match:
        return offset + match.start()
    match = _PARTIAL.search(tail)
    if match and (
        match[0] in _STARTS or match[0].lower() in _SCHEMES or match[0].startswith("-") or _maybe_iban(match[0])
    ):
        return offset + match.start()
    return len(text)


def leaks(text: str, *, final: bool, said: str = "", evidence: str = "") -> Iterator[Leak]:
    """The leaks in a text; without `final`, a number or word that reaches its end is still growing and is left.

    What the user `said` may be said back; a personal number may also be repeated from the `evidence`, a secret may
    not. Placeholders and examples are none."""
    for match in _KEY.finditer(text):
        if _random(match[0]) and match[0] not in said:
            yield Leak("secret", *match.span())
    for match in _PRIVATE_KEY.finditer(text):
        yield Leak("secret", *match.span())
    for match in _URL_PASSWORD.finditer(text):
        known = (
            _PLACEHOLDERS.match(match["password"]) or match["password"] == match["user"] or _LOCAL.match(match["host"])
        )
        if not known and (final or match.end() < len(text)) and match[0] not in said:
            yield Leak("secret", *match.span())
    for match in _ASSIGNED.finditer(text):
        value = match["value"].rstrip(".")
        if (
            (final or match.end() < len(text))
            and _random(value)
            and not _PLACEHOLDERS.match(value)
            and value not in said
        ):
            yield Leak("secret", *match.span())
    for pattern, valid in ((_DIGITS, _is_card), (_SOCIAL, _always), (_IBAN, _is_iban)):
        for match in pattern.finditer(text):
            if (final or match.end() < len(text)) and valid(match[0]) and not _among(match[0], f"{said}\n{evidence}"):
                yield Leak("personal_data", *match.span())


def _maybe_iban(text: str) -> bool:
    return len(text) <= 2 and text.isupper() and text.isalpha()


def _random(value: str) -> bool:
    """Whether a value looks drawn by chance: digits and letters mixed, and more than 3 bits a character."""
    body = re.sub(r"^[A-Za-z]{2,10}[-_.]", "", value)
    if "EXAMPLE" in value.upper() or not any(map(str.isdigit, body)) or not any(map(str.isalpha, body)):
        return False
    counts = [body.count(sign) / len(body) for sign in set(body)]
    return -sum(share * log2(share) for share in counts) > 3.0


def _is_card(number: str) -> bool:
    digits = [int(sign) for sign in number if sign.isdigit()]
    if digits[0] not in (2, 3, 4, 5, 6) or (len(set(digits)) < 3 and digits[0] != 4):
        return False
    doubled = (
        digit * 2 - 9 if place % 2 and digit > 4 else digit * 2 if place % 2 else digit
        for place, digit in enumerate(reversed(digits))
    )
    return sum(doubled) % 10 == 0


def _is_iban(number: str) -> bool:
    code = number.replace(" ", "")
    if not 15 <= len(code) <= 34:
        return False
    return int("".join(str(int(sign, 36)) for sign in code[4:] + code[:4])) % 97 == 1


def _always(number: str) -> bool:
    return True


def _among(number: str, allowed: str) -> bool:
    bare = re.sub(r"[ -]", "", number)
    return number in allowed or bare in re.sub(r"(?<=\w)[ -](?=\w)", "", allowed)
