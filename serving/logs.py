"""The log: warnings and bugs go to one file in the data folder, never a question or a document's text."""

from __future__ import annotations

import logging
from pathlib import Path

LOG = "parley.log"
KEPT_BYTES = 10_000_000


def log_to(folder: Path) -> Path:
    """Sends warnings and worse of every library to the log; an old log of over 10 MB is put aside once.

    Raises:
        OSError: the file cannot be opened.
    """
    file = folder / LOG
    if file.exists() and file.stat().st_size > KEPT_BYTES:
        file.replace(file.with_suffix(".log.1"))
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return file
