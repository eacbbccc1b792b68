"""parley documents: list, show and remove what has been taken in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from knowledge.types import Document, Passage
from serving.commands.shell import DONE, CommandFailed, Shell, console, say, write_json
from serving.documents import passages_of, remove
from serving.principal import Principal

if TYPE_CHECKING:
    from serving.runtime import Runtime

UNITS = ("B", "kB", "MB", "GB")


def list_documents(shell: Shell) -> int:
    """All documents, by path."""
    return shell.run(lambda runtime: _list(shell, runtime))


async def _list(shell: Shell, runtime: Runtime) -> int:
    found = await runtime.catalog.below(shell.principal.tenant, "")
    if shell.json:
        write_json({"documents": [_json(document) for document in found]})
        return DONE
    if not found:
        say("There are no documents yet; `parley ingest FOLDER` takes some in.")
        return DONE
    from rich.table import Table
    from rich.text import Text

    table = Table("id", "title", "passages", "size", "updated", "path", box=None, pad_edge=False)
    for document in found:
        cells = (document.id, document.title, str(document.passages), _size(document.bytes))
        table.add_row(*(Text(cell) for cell in (*cells, document.updated_at[:16], document.path)))
    console().print(table)
    return DONE


def show_document(shell: Shell, name: str) -> int:
    """One document.

    Raises:
        CommandFailed: there is no such document.
    """
    return shell.run(lambda runtime: _show(shell, runtime, name))


async def _show(shell: Shell, runtime: Runtime, name: str) -> int:
    document = await _named(runtime, shell.principal, name)
    passages = await passages_of(runtime, document, 0, document.passages)
    if shell.json:
        write_json({**_json(document), "content": [_content(passage) for passage in passages]})
        return DONE
    from rich.text import Text

    out = console()
    for label, value in {**_json(document), "bytes": _size(document.bytes), "url": document.url}.items():
        if value != "":
            out.print(Text(f"{label:<11}{value}"))
    for passage in passages:
        page = f"p. {passage.page}" if passage.page is not None else ""
        out.print()
        out.print(Text(", ".join(part for part in (" > ".join(passage.headings), page) if part)), style="cyan")
        out.print(Text(passage.text))
    return DONE


def remove_documents(shell: Shell, names: list[str]) -> int:
    """Removes documents with all that came from them.

    Raises:
        CommandFailed: one of them does not exist; none is removed then.
    """
    return shell.run(lambda runtime: _remove(shell, runtime, names))


async def _remove(shell: Shell, runtime: Runtime, names: list[str]) -> int:
    removed = [await _named(runtime, shell.principal, name) for name in names]
    for document in removed:
        await remove(runtime, document.tenant, document.id)
        if not shell.json:
            say(f"removed {document.path}")
    if shell.json:
        write_json({"removed": [_json(document) for document in removed]})
    return DONE


async def _named(runtime: Runtime, principal: Principal, name: str) -> Document:
    """The document of that id or path; a relative path counts from the working folder."""
    tenant = principal.tenant
    found = (await runtime.catalog.get(tenant, [name])).get(name)
    for path in _paths(name):
        found = found or await runtime.catalog.at(tenant, path)
    if found is None:
        raise CommandFailed(f"there is no document {name}; `parley documents list` shows all")
    return found


def _paths(name: str) -> tuple[str, ...]:
    return name, str(Path(name).absolute()), str(Path(name).resolve())


def _json(document: Document) -> dict[str, object]:
    return {
        "id": document.id,
        "title": document.title,
        "path": document.path,
        "passages": document.passages,
        "bytes": document.bytes,
        "updated_at": document.updated_at,
    }


def _content(passage: Passage) -> dict[str, object]:
    return {
        "text": passage.text,
        "heading": " > ".join(passage.headings),
        "page": passage.page,
        "start": passage.start,
        "end": passage.end,
    }


def _size(count: int) -> str:
    size, unit = float(count), 0
    while size >= 1000 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {UNITS[unit]}" if unit else f"{count} B"
