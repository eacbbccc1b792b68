"""Chroma, from the wheel in this environment."""

from __future__ import annotations

import http.client
import shutil
import signal
import sys
from pathlib import Path

import anyio.to_thread

from tests.services.instance import Instance, Launch, Missing

ASK_SECONDS = 5.0


class Chroma:
    """One server without accounts: it has none."""

    name = "chroma"
    ports = ("http",)
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    how = "install the tools for testing (`make dev`)"

    def _program(self) -> str | None:
        return shutil.which("chroma", path=str(Path(sys.executable).parent)) or shutil.which("chroma")

    def found(self) -> bool:
        """Whether its command is in this environment, or on the PATH."""
        return self._program() is not None

    def obtain(self) -> None:
        """It comes with the environment, or not at all."""
        raise Missing(f"{self.name}: {self.how}")

    async def fill(self, instance: Instance) -> None:
        """Nothing: it makes its folder itself."""

    def launch(self, instance: Instance) -> Launch:
        """Its data folder tells it from another."""
        data = f"{instance.home}/data"
        argv = [str(self._program()), "run", "--host", "127.0.0.1", "--port", str(instance.port), "--path", data]
        return Launch(argv, ("chroma run", f"--path {data}"), {"ANONYMIZED_TELEMETRY": "False"})

    async def wanting(self, instance: Instance) -> str:
        """Its heart beats."""
        return await anyio.to_thread.run_sync(self._asked, instance)

    def _asked(self, instance: Instance) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=ASK_SECONDS)
        try:
            connection.request("GET", "/api/v2/heartbeat")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"it does not answer ({type(error).__name__})"
        finally:
            connection.close()
        return "" if status == 200 else f"it answers with {status}"

    def urls(self, instance: Instance) -> dict[str, str]:
        """For tests only: without accounts it is nothing to work on."""
        return {"PARLEY_TEST_CHROMA_URL": f"chroma://127.0.0.1:{instance.port}"}

    def drop(self, instance: Instance) -> None:
        """Nothing lies outside its folder."""
