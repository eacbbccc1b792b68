"""parley settings: every setting with its meaning, value and origin."""

from __future__ import annotations

import os
from pathlib import Path

from serving.commands.shell import DONE, Shell, console, say, write_json
from serving.settings import PREFIX, load


def show_settings(shell: Shell) -> int:
    """Lists the settings; makes nothing on disk."""
    loaded = load(shell.flags, os.environ, Path.cwd())
    for warning in loaded.warnings:
        say(f"warning: {warning}")
    if shell.json:
        fields = ("name", "meaning", "value", "origin", "allowed")
        write_json({"settings": [dict(zip(fields, line, strict=True)) for line in loaded.shown()]})
        return DONE
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", "value", "from", "meaning", box=None, pad_edge=False)
    for line in loaded.shown():
        table.add_row(*(Text(cell) for cell in (line.name, line.value or "none", line.origin, line.meaning)))
    out = console()
    out.print(table)
    out.print(
        f"\nSet one by a flag (--set NAME=VALUE), the environment ({PREFIX}NAME), or a line in .env or parley.toml "
        "of the working folder or the data folder."
    )
    return DONE
