"""Redis, from the system's packages."""

from __future__ import annotations

import shutil
import signal

import anyio

from tests.services.instance import Instance, Launch, Missing, write_private
from tests.services.programs import can_install, install, system_how

ASK_SECONDS = 5.0


class Redis:
    """One server with a password, that keeps what it is told."""

    name = "redis"
    ports = ("redis",)
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    how = system_how("redis-server", "redis")

    def found(self) -> bool:
        """Whether its program is there."""
        return shutil.which("redis-server") is not None

    def obtain(self) -> None:
        """Installs Debian's package; it starts no server where no service manager runs."""
        if not can_install():
            raise Missing(f"{self.name}: {self.how}")
        install("redis-server")

    async def fill(self, instance: Instance) -> None:
        """Writes redis.conf, with the password that a command line would show to everyone."""
        data = instance.home / "data"
        data.mkdir(exist_ok=True)
        lines = (
            "bind 127.0.0.1",
            f"port {instance.port}",
            f"requirepass {instance.secret('password')}",
            f'dir "{data}"',
            'save ""',
            "appendonly yes",
            "set-proc-title no",
        )
        write_private(instance.home / "redis.conf", "\n".join(lines) + "\n")

    def launch(self, instance: Instance) -> Launch:
        """Its configuration file tells it from another."""
        conf = str(instance.home / "redis.conf")
        return Launch(("redis-server", conf), ("redis-server", conf))

    async def wanting(self, instance: Instance) -> str:
        """It answers to our password, and has loaded what it kept."""
        said = b""
        try:
            with anyio.fail_after(ASK_SECONDS):
                async with await anyio.connect_tcp("127.0.0.1", instance.port) as stream:
                    await stream.send(f"AUTH {instance.secret('password')}\r\nPING\r\n".encode())
                    while said.count(b"\r\n") < 2:
                        said += await stream.receive()
        except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            return f"it does not answer ({type(error).__name__})"
        return "" if said == b"+OK\r\n+PONG\r\n" else "it is loading, or refuses our password"

    def urls(self, instance: Instance) -> dict[str, str]:
        """Database 0."""
        return {"PARLEY_REDIS_URL": f"redis://:{instance.secret('password')}@127.0.0.1:{instance.port}/0"}

    def drop(self, instance: Instance) -> None:
        """Nothing lies outside its folder."""
