"""parley settings: every setting with its meaning, value and origin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from serving.commands.shell import DONE, Shell, console, say, write_json
from serving.settings import PREFIX, Loaded, load

if TYPE_CHECKING:
    from rich.console import Console


def show_settings(shell: Shell) -> int:
    """Lists the settings; makes nothing on disk."""
    loaded = load(shell.flags, os.environ, Path.cwd())
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    if shell.json:
        write_json({"settings": [line._asdict() for line in loaded.shown()]})
        return DONE
    out = console()
    show_table(out, loaded)
    out.print(
        f"\nSet one by a flag (--set NAME=VALUE), the environment ({PREFIX}NAME), or a line in .env or parley.toml "
        "of the working folder or the data folder."
    )
    return DONE


def show_table(out: Console, loaded: Loaded) -> None:
    """The settings as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", "meaning", box=None, pad_edge=False)
    for line in loaded.shown():
        table.add_row(*(Text(cell) for cell in (line.name, line.value or "none", line.origin, line.meaning)))
    out.print(table)
