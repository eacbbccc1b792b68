"""Which files can be taken in: their kinds by extension, and the failure that says why one cannot."""

from __future__ import annotations

from pathlib import PurePath
from typing import Literal

Kind = Literal["markdown", "text", "rest", "csv", "code", "html", "pdf", "docx", "pptx", "xlsx", "epub"]

CODE: dict[str, str] = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript", ".cjs": "javascript", ".jsx": "jsx",
    ".ts": "typescript", ".tsx": "tsx", ".java": "java", ".kt": "kotlin", ".scala": "scala", ".go": "go", ".rs": "rust",
    ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".cxx": "cpp", ".hpp": "cpp", ".cs": "csharp", ".swift": "swift",
    ".rb": "ruby", ".php": "php", ".pl": "perl", ".lua": "lua", ".r": "r", ".jl": "julia", ".sh": "sh", ".bash": "sh",
    ".zsh": "sh", ".ps1": "powershell", ".sql": "sql", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".ini": "ini",
    ".cfg": "ini", ".json": "json", ".css": "css", ".scss": "scss", ".tf": "hcl", ".proto": "proto",
    ".graphql": "graphql", ".dockerfile": "dockerfile", ".mk": "makefile", ".cmake": "cmake", ".m": "objective-c",
    ".ex": "elixir", ".exs": "elixir", ".erl": "erlang", ".hs": "haskell", ".ml": "ocaml", ".clj": "clojure",
    ".dart": "dart", ".zig": "zig", ".vue": "vue", ".svelte": "svelte", ".xml": "xml",
}  # fmt: skip
"""Extension of a code file to the name of its language in a Markdown fence."""

KINDS: dict[str, Kind] = {
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown", ".mkd": "markdown",
    ".txt": "text", ".text": "text", ".log": "text",
    ".rst": "rest", ".rest": "rest",
    ".csv": "csv", ".tsv": "csv",
    ".html": "html", ".htm": "html", ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx", ".docm": "docx",
    ".pptx": "pptx", ".pptm": "pptx", ".ppsx": "pptx",
    ".xlsx": "xlsx", ".xlsm": "xlsx",
    ".epub": "epub",
    **dict.fromkeys(CODE, "code"),
}  # fmt: skip

EXTENSIONS: frozenset[str] = frozenset(KINDS)
"""Every extension that can be taken in, lower case with its dot."""

_BARE_TEXT = frozenset(
    "readme license licence copying notice authors contributors changelog changes news todo install".split()
)
_BARE_CODE = {"makefile": "makefile", "dockerfile": "dockerfile", "gemfile": "ruby", "rakefile": "ruby"}


class ParseFailed(Exception):
    """A file cannot be taken in; the message says why, in words a person understands."""


def kind_of(name: str) -> Kind | None:
    """The kind of a file by its name, None when files of its kind are not taken in."""
    path = PurePath(name)
    suffix = path.suffix.lower()
    if suffix in KINDS:
        return KINDS[suffix]
    bare = path.name.lower()
    if bare in _BARE_CODE:
        return "code"
    return "text" if bare in _BARE_TEXT else None


def language_of(name: str) -> str:
    """The name of a code file's language in a Markdown fence."""
    path = PurePath(name)
    return CODE.get(path.suffix.lower()) or _BARE_CODE.get(path.name.lower(), "")


def supported(name: str) -> bool:
    """Whether files of this name can be taken in."""
    return kind_of(name) is not None
