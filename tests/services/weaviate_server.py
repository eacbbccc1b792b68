"""Weaviate, built from its Go module."""

from __future__ import annotations

import http.client
import shutil
import signal
from pathlib import Path

import anyio.to_thread

from tests.services.instance import Instance, Launch
from tests.services.programs import Missing, build, cached, run

VERSION = "1.35.2"
ASK_SECONDS = 5.0


class Weaviate:
    """One node with one API key, and no modules: vectors are ours."""

    name = "weaviate"
    ports = ("http", "grpc", "gossip", "data", "raft", "raft_rpc")
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    how = f"install Go (1.25 or newer) so that version {VERSION} can be built, or put `weaviate-server` on the PATH"

    def _program(self) -> Path | None:
        folder = cached(f"weaviate-{VERSION}")
        found = folder / "weaviate-server" if folder else shutil.which("weaviate-server")
        return Path(found) if found else None

    def found(self) -> bool:
        """Whether it was built, or is on the PATH."""
        return self._program() is not None

    def obtain(self) -> None:
        """Builds it with Go: minutes, and 3 GB of Go's own caches."""
        if shutil.which("go") is None:
            raise Missing(f"{self.name}: {self.how}")
        module = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"
        build(
            f"weaviate-{VERSION}",
            lambda folder: run("the build of weaviate", ["go", "install", module], GOBIN=str(folder)),
        )

    async def fill(self, instance: Instance) -> None:
        """Nothing: it makes its folder itself."""

    def launch(self, instance: Instance) -> Launch:
        """All settings are in the environment; the port tells it from another Weaviate.

        Its gRPC and data ports cannot be told to keep to the loopback: both want a secret.
        """
        ports = {role: str(port) for role, port in instance.ports.items()}
        environ = {
            "PERSISTENCE_DATA_PATH": str(instance.home / "data"),
            "DEFAULT_VECTORIZER_MODULE": "none",
            "DISABLE_TELEMETRY": "true",
            "LOG_LEVEL": "warning",
            "GOMEMLIMIT": "1GiB",
            # words of what was just written are ranked well only once they are on the disk
            "PERSISTENCE_MEMTABLES_FLUSH_DIRTY_AFTER_SECONDS": "5",
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": instance.secret("key"),
            "AUTHENTICATION_APIKEY_USERS": "parley",
            "AUTHORIZATION_ADMINLIST_ENABLED": "true",
            "AUTHORIZATION_ADMINLIST_USERS": "parley",
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_BIND_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": ports["gossip"],
            "CLUSTER_DATA_BIND_PORT": ports["data"],
            "CLUSTER_BASIC_AUTH_USERNAME": "parley",
            "CLUSTER_BASIC_AUTH_PASSWORD": instance.secret("cluster"),
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_PORT": ports["raft"],
            "RAFT_INTERNAL_RPC_PORT": ports["raft_rpc"],
            "GO_PROFILING_DISABLE": "true",
            "GRPC_PORT": ports["grpc"],
        }
        argv = [str(self._program()), "--scheme", "http", "--host", "127.0.0.1", "--port", ports["http"]]
        return Launch(argv, ("weaviate", f"--port {ports['http']}"), environ)

    async def wanting(self, instance: Instance) -> str:
        """Ready says the server, and the schema is shown to our key."""
        return await anyio.to_thread.run_sync(self._asked, instance)

    def _asked(self, instance: Instance) -> str:
        for path in ("/v1/.well-known/ready", "/v1/schema"):
            connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=ASK_SECONDS)
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {instance.secret('key')}"})
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                return f"{path} is not answered ({type(error).__name__})"
            finally:
                connection.close()
            if status != 200:
                return f"{path} is answered with {status}"
        return ""

    def urls(self, instance: Instance) -> dict[str, str]:
        """The key stands where a URL has its password."""
        address = f"weaviate://:{instance.secret('key')}@127.0.0.1:{instance.port}?grpc={instance.ports['grpc']}"
        return {"PARLEY_MEMORY_URL": address}

    def drop(self, instance: Instance) -> None:
        """Nothing lies outside its folder."""
