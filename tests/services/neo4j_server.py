# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Neo4j, from its jars."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import LiteralString

from tests.services.instance import Instance, Launch
from tests.services.programs import Missing, build, cached, run

VERSION = "5.26.28"
OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.lang")
ASK_SECONDS = 5.0
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Half the processor time of a start and of a few minutes' use: what is compiled well pays off later than tests end.
PARLEY_SERVICES_NEO4J_JAVA stands in its place for what is measured or runs for long."""


@dataclass(frozen=True)
class Neo4j:
    """One server that speaks Bolt and nothing else."""

    name: str = "neo4j"
    version: str = VERSION
    java: int = 17
    """The oldest that runs it."""
    entry: str = "org.neo4j.server.CommunityEntryPoint"
    options: tuple[str, ...] = ()
    ports: Sequence[str] = ("bolt",)
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL

    @property
    def how(self) -> str:
        """What it takes."""
        return f"install Java ({self.java} or newer) and Maven so that version {self.version} can be had"

    def _jars(self) -> Path | None:
        folder = cached(f"neo4j-{self.version}")
        return folder / "lib" if folder is not None else None

    def found(self) -> bool:
        """Whether its jars and a Java are there."""
        return self._jars() is not None and java(self.java) is not None

    def obtain(self) -> None:
        """Has Maven collect its jars: seconds, 116 to 155 MB."""
        if shutil.which("mvn") is None or java(self.java) is None:
            raise Missing(f"{self.name}: {self.how}")
        build(f"neo4j-{self.version}", self._collect_jars)

    def _collect_jars(self, folder: Path) -> None:
        (folder / "pom.xml").write_text(POM.format(version=self.version), encoding="utf-8")
        # with the group's name before the file's: two of the jars have the same name
        wanted = ("-DoutputDirectory=lib", "-Dmdep.prependGroupId=true")
        run(f"the download of {self.name}", ["mvn", "-q", "-B", "dependency:copy-dependencies", *wanted], cwd=folder)

    async def fill(self, instance: Instance) -> None:
        """Writes neo4j.conf."""
        address = f"127.0.0.1:{instance.port}"
        conf = instance.home / "conf"
        conf.mkdir(exist_ok=True)
        lines = (
            "server.bolt.enabled=true",
            f"server.bolt.listen_address={address}",
            f"server.bolt.advertised_address={address}",
            "server.http.enabled=false",
            "server.https.enabled=false",
            "dbms.security.auth_enabled=true",
            "dbms.security.auth_max_failed_attempts=0",
            "dbms.usage_report.enabled=false",
            "server.memory.pagecache.size=128m",
        )
        (conf / "neo4j.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def launch(self, instance: Instance) -> Launch:
        """The community server's own entry point; its home folder tells it from another."""
        home = f"--home-dir={instance.home}"
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        quick = os.environ.get("PARLEY_SERVICES_NEO4J_JAVA", QUICK).split()
        argv = [
            str(java(self.java)), "-Xmx512m", *quick, *opened, *self.options, "-cp", f"{self._jars()}/*", self.entry,
            home, f"--config-dir={instance.home}/conf",
        ]  # fmt: skip
        return Launch(argv, ("neo4j", home))

    async def wanting(self, instance: Instance) -> str:
        """Bolt answers to our password; on first use that is set in place of the one that all servers begin with."""
        from neo4j.exceptions import DriverError, Neo4jError  # here: the driver takes long to import

        seeded = "seeded" in instance.notes
        try:
            if not seeded:
                await self._change_password(instance)
            await _asked(instance, instance.secret("password"), "neo4j", "RETURN 1", {})
        except (DriverError, Neo4jError, OSError) as error:
            return f"Bolt is not answered ({type(error).__name__})"
        instance.notes["seeded"] = "yes"
        return ""

    async def _change_password(self, instance: Instance) -> None:
        from neo4j.exceptions import AuthError

        change = "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password"
        try:
            await _asked(instance, "neo4j", "system", change, {"password": instance.secret("password")})
        except AuthError:
            return  # an earlier start changed it and ended before that was written down

    def urls(self, instance: Instance) -> dict[str, str]:
        """With routing, as against a cluster."""
        return {"PARLEY_KNOWLEDGE_URL": f"neo4j://neo4j:{instance.secret('password')}@127.0.0.1:{instance.port}"}

    def drop(self, instance: Instance) -> None:
        """Nothing lies outside its folder."""


async def _asked(
    instance: Instance, password: str, database: str, query: LiteralString, values: dict[str, str]
) -> None:
    from neo4j import AsyncGraphDatabase

    driver = AsyncGraphDatabase.driver(
        f"bolt://127.0.0.1:{instance.port}",
        auth=("neo4j", password),
        connection_timeout=ASK_SECONDS,
        connection_acquisition_timeout=ASK_SECONDS,
    )
    async with driver, driver.session(database=database) as session:
        await (await session.run(query, values)).consume()


POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>parley</groupId><artifactId>neo4j</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.neo4j</groupId><artifactId>neo4j</artifactId><version>{version}</version></dependency>
<dependency><groupId>org.neo4j.app</groupId><artifactId>neo4j-server</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""


NEWER = Neo4j(
    name="neo4j2026",
    version="2026.09.0",
    java=21,
    entry="org.neo4j.server.Neo4jCommunity",
    options=("--add-modules=jdk.incubator.vector",),
)
"""The newest, where the machine has a Java for it."""


@cache
def java(least: int) -> Path | None:
    """The machine's oldest Java that is new enough: servers are built for the ones that are old by now."""
    on_path = shutil.which("java")
    homes = [
        Path(os.environ.get("JAVA_HOME") or "/nowhere"),
        *([Path(on_path).resolve().parent.parent] if on_path else []),
        *sorted(Path("/usr/lib/jvm").glob("*")),
        *sorted(Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home")),
    ]
    found = {home / "bin" / "java": _version(home) for home in homes if (home / "bin" / "java").exists()}
    return min((program for program, version in found.items() if version >= least), key=found.__getitem__, default=None)


def _version(home: Path) -> int:
    """A Java's major version; 0 when it does not say."""
    release = home / "release"
    told = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(encoding="utf-8"), re.M) if release.exists() else None
    return int(told.group(1)) if told else 0
