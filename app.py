"""The doors of the product, no logic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from serving.api import create_standalone
from serving.settings import load, open_data_dir
from serving.studio import PROCESS

if TYPE_CHECKING:
    from graphs.studio import StudioGraph


def create() -> FastAPI:
    """For `uvicorn app:create --factory`: the application, which opens and closes its own parts.

    Raises:
        SettingsError: a setting is wrong. DataFolderUnusable: the data folder cannot be used.
    """
    settings = load({}, os.environ, Path.cwd()).settings
    open_data_dir(settings)
    return create_standalone(settings)


async def graph() -> StudioGraph:
    """For `langgraph dev`, which calls it for every request: the chat graph over parts that are opened once."""
    return await PROCESS.graph()
