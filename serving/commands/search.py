"""parley search: passages, with the parts of each score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.commands.shell import DONE, CommandFailed, Shell, console, typed, write_json
from serving.hits import hit

if TYPE_CHECKING:
    from serving.runtime import Runtime

SHOWN = 300
"""Characters of a passage on the screen."""


def search(shell: Shell, query: str, limit: int) -> int:
    """Finds passages, best first."""
    if not query.strip():
        raise CommandFailed("the query is empty")
    return shell.run(lambda runtime: _search(shell, runtime, typed(query), limit))


async def _search(shell: Shell, runtime: Runtime, query: str, limit: int) -> int:
    hits = await runtime.search(shell.principal, query, limit)
    if shell.json:
        write_json({"hits": [hit(found) for found in hits]})
        return DONE
    from rich.text import Text

    out = console()
    if not hits:
        out.print("Nothing found. `parley documents list` shows what has been taken in.")
    for number, found in enumerate(hits, start=1):
        parts = "  ".join(f"{name} {value:.3f}" for name, value in found.parts.items())
        out.print(Text(f"{number}. {found.score:.3f}  {found.document.title}"), style="bold")
        out.print(Text(f"   {' > '.join((found.document.path, *found.passage.headings))}"), style="cyan")
        out.print(Text(f"   {parts}"), style="dim")
        text = " ".join(found.passage.text.split())
        out.print(Text(f"   {text[:SHOWN]}{'…' if len(text) > SHOWN else ''}\n"))
    return DONE
