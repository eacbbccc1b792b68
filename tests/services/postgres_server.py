"""Postgres, from the system's packages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import anyio.to_thread

from tests.services.instance import Instance, Launch, Missing
from tests.services.programs import can_install, install, system_how

SUPERUSER, OWNER, APPLICATION = "postgres", "parley", "parley_app"
DATABASE = "parley"
DEBIAN = Path("/usr/lib/postgresql")
OS_USER = "postgres"
"""Who runs the server where we are root: it refuses to run as root."""


class Postgres:
    """One cluster: a superuser that only seeds, the owner of the schema, and the role that Parley works as."""

    name = "postgres"
    ports = ("sql",)
    stop_signal = signal.SIGINT
    """A fast stop: sessions are cut, everything is written."""
    kill_signal = signal.SIGQUIT
    """An immediate stop: what a crash leaves, recovered from the log at the next start."""
    how = system_how("postgresql", "postgresql@17")

    def program(self, name: str) -> Path | None:
        debian = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda file: int(file.parts[-3]))
        found = debian[-1] if debian else shutil.which(name)
        return Path(found) if found else None

    def found(self) -> bool:
        """Whether its programs are there."""
        return self.program("initdb") is not None and self.program("postgres") is not None

    def obtain(self) -> None:
        """Installs Debian's package; it starts no server where no service manager runs."""
        if not can_install():
            raise Missing(f"{self.name}: {self.how}")
        install("postgresql")

    async def fill(self, instance: Instance) -> None:
        """Makes the cluster once, in a folder that the server's user can enter."""
        if "data" not in instance.notes:
            instance.notes["data"] = str(_data_folder(instance.home))
        data = Path(instance.notes["data"])
        if not (data / "PG_VERSION").exists():
            await anyio.to_thread.run_sync(self._make_cluster, instance, data)
        (data / "postmaster.pid").unlink(missing_ok=True)  # ours does not run: what is left of a killed one misleads

    def _make_cluster(self, instance: Instance, data: Path) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
            file.write(instance.secret(SUPERUSER) + "\n")
            file.flush()
            if _user():
                shutil.chown(file.name, OS_USER)
            argv = [
                str(self.program("initdb")), "-D", str(data), "-A", "scram-sha-256", "-U", SUPERUSER,
                "-E", "UTF8", "--locale=C.UTF-8", f"--pwfile={file.name}",
            ]  # fmt: skip
            said = subprocess.run(
                argv, user=_user(), group=_user(), extra_groups=[] if _user() else None, cwd="/",
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if said.returncode:
            raise Missing(f"postgres: initdb failed: {said.stderr.strip()}")

    def launch(self, instance: Instance) -> Launch:
        """Its data folder tells it from another."""
        data = instance.notes["data"]
        options = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200")
        argv = [str(self.program("postgres")), "-D", data, "-p", str(instance.port)]
        for option in options:
            argv += ["-c", option]
        return Launch(argv, ("postgres", f"-D {data} "), user=_user())

    async def wanting(self, instance: Instance) -> str:
        """Our roles can log in; on first use they are made."""
        from tests.services.postgres_seed import seed_and_log_in  # here: the client takes long to import

        return await seed_and_log_in(instance, SUPERUSER, OWNER, APPLICATION, DATABASE)

    def urls(self, instance: Instance) -> dict[str, str]:
        """As the application, and as the owner."""
        return {
            "PARLEY_DATABASE_URL": _url(instance, APPLICATION),
            "PARLEY_DATABASE_OWNER_URL": _url(instance, OWNER),
        }

    def drop(self, instance: Instance) -> None:
        """Removes a data folder that had to lie elsewhere."""
        data = instance.notes.get("data")
        if data is not None and not Path(data).is_relative_to(instance.home):
            shutil.rmtree(Path(data).parent, ignore_errors=True)


def _user() -> str | None:
    return OS_USER if os.geteuid() == 0 else None


def _data_folder(home: Path) -> Path:
    """A new folder of the server's user: under our own where that user can enter it, else where all can."""
    home.chmod(0o711)
    if not _enters(home):
        home = Path(tempfile.mkdtemp(prefix="parley-postgres-", dir="/var/tmp"))
        home.chmod(0o711)
    data = home / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    if _user():
        shutil.chown(data, OS_USER, OS_USER)
    return data


def _enters(folder: Path) -> bool:
    if _user() is None:
        return True
    look = ["sh", "-c", 'cd "$1" 2>/dev/null', "sh", str(folder)]
    ended = subprocess.run(
        look, user=OS_USER, group=OS_USER, extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return ended.returncode == 0


def _url(instance: Instance, role: str) -> str:
    return f"postgresql+psycopg://{role}:{instance.secret(role)}@127.0.0.1:{instance.port}/{DATABASE}"
