"""The picture in README.md: the tour's first commands, run anew and drawn as a terminal (docs/picture.svg)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 100
COMMANDS = (
    ("ingest", "docs/tour"),
    ("ask", "How many books may I borrow at once?"),
    ("ask", "What does the replacement of a lost card cost?"),
    ("ask", "Who won the chess championship in 1985?"),
)


def draw(commands: Sequence[Sequence[str]] = COMMANDS) -> str:
    """Runs the commands on an empty data folder and returns the terminal as SVG.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    screen = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, highlight=False)
    with TemporaryDirectory() as data:
        environ = {
            **os.environ,
            "PARLEY_DATA_DIR": data,
            "PARLEY_MODEL_URL": "",
            "FORCE_COLOR": "1",
            "COLUMNS": str(COLUMNS),
        }
        for command in commands:
            typed = " ".join(f'"{word}"' if " " in word else word for word in command)
            screen.print(Text.assemble(("$ ", "green"), (f"parley {typed}", "bold")))
            ended = subprocess.run(  # noqa: S603  # our own program
                [sys.executable, "-m", "serving.cli", *command],
                cwd=ROOT, env=environ, capture_output=True, text=True, check=True,
            )  # fmt: skip
            screen.print(Text.from_ansi(ended.stdout.replace(f"{ROOT}/", "")))
            screen.print()
    # the reader's own monospaced font: a picture fetches nothing from anywhere
    return re.sub(r"@font-face \{.*?\}\s*", "", screen.export_svg(title="Parley", unique_id="parley"), flags=re.DOTALL)


if __name__ == "__main__":
    target = ROOT / "docs" / "picture.svg"
    target.write_text(draw(), encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")
