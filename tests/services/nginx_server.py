"""nginx, from the system's packages: with the configuration that a test gives."""

from __future__ import annotations

import os
import shutil
import signal

import anyio

from tests.services.instance import Instance, Launch, Missing
from tests.services.programs import can_install, install, system_how

ASK_SECONDS = 5.0
ALONE = """
events {}
http {
  include {home}/paths.conf;
  server { listen 127.0.0.1:{port}; location / { return 204; } }
}
"""


PATHS = "access_log off;\n" + "".join(
    f"{kind}_temp_path {{home}}/tmp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)
"""For the http block of a user who is not root: the compiled-in paths belong to the system's own nginx."""


class Nginx:
    """One proxy. In its configuration `{port}` is where it listens, `{home}` its folder.

    `include {home}/paths.conf;` in the http block lets it run as a user who is not root.
    """

    name = "nginx"
    ports = ("http",)
    stop_signal = signal.SIGTERM
    kill_signal = signal.SIGKILL
    how = system_how("nginx", "nginx")

    def _program(self) -> str | None:
        return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")

    def found(self) -> bool:
        """Whether its program is there; an ordinary user's PATH may lack its folder."""
        return self._program() is not None

    def obtain(self) -> None:
        """Installs Debian's package; it starts no server where no service manager runs."""
        if not can_install():
            raise Missing(f"{self.name}: {self.how}")
        install("nginx")

    async def fill(self, instance: Instance) -> None:
        """Writes nginx.conf: what is common to all, then the instance's own text."""
        home = instance.home
        (home / "tmp").mkdir(exist_ok=True)
        user = "user root;\n" if os.geteuid() == 0 else ""  # else its workers could not enter our folder
        common = f"{user}daemon off;\npid {home}/nginx-master.pid;\nerror_log stderr;\nworker_processes 1;\n"
        for name, text in (("paths.conf", PATHS), ("nginx.conf", common + (instance.config or ALONE))):
            filled = text.replace("{port}", str(instance.port)).replace("{home}", str(home))
            (home / name).write_text(filled, encoding="utf-8")

    def launch(self, instance: Instance) -> Launch:
        """Its folder tells it from another."""
        home = str(instance.home)
        return Launch((str(self._program()), "-p", home, "-c", f"{home}/nginx.conf"), ("nginx", f"-p {home} "))

    async def wanting(self, instance: Instance) -> str:
        """It accepts connections; what it passes them to is the test's own matter."""
        try:
            with anyio.fail_after(ASK_SECONDS):
                stream = await anyio.connect_tcp("127.0.0.1", instance.port)
            await stream.aclose()
        except (OSError, TimeoutError) as error:
            return f"it does not answer ({type(error).__name__})"
        return ""

    def urls(self, instance: Instance) -> dict[str, str]:
        """For tests only."""
        return {"PARLEY_TEST_NGINX_URL": f"http://127.0.0.1:{instance.port}"}

    def drop(self, instance: Instance) -> None:
        """Nothing lies outside its folder."""
