"""parley doctor: every setting, every part that works or not and why, and where our packages come from."""

from __future__ import annotations

import asyncio
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from memory.sqlite import VERSION
from memory.sqlite_upgrade import copies
from serving.addresses import masked
from serving.commands.settings import show_table
from serving.commands.shell import DONE, FAILED, CommandFailed, Shell, console, opened, write_json
from serving.database import DATABASE
from serving.settings import Loaded, Settings

PACKAGES = ("agents", "evals", "graphs", "knowledge", "memory", "serving", "tools")
HOME = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    trouble: str
    """What is wrong and what helps; "" when it works."""
    detail: str


def doctor(shell: Shell) -> int:
    """Looks at everything; fails when something that Parley needs does not work."""
    loaded = shell.settings()
    checks = [_environment(), _folder(loaded.settings), *asyncio.run(_parts(loaded.settings)), *_packages()]
    if shell.json:
        write_json(
            {"settings": [line._asdict() for line in loaded.shown()], "checks": [asdict(check) for check in checks]}
        )
    else:
        _show(loaded, checks)
    return FAILED if any(check.trouble for check in checks) else DONE


def _show(loaded: Loaded, checks: list[Check]) -> None:
    from rich.text import Text

    out = console()
    show_table(out, loaded)
    out.print()
    for check in checks:
        sign, style = ("✗", "red") if check.trouble else ("✓", "green")
        text = ": ".join(part for part in (check.name, check.trouble or check.detail) if part)
        out.print(Text.assemble((sign, style), " ", text))


def _environment() -> Check:
    detail = f"{version('parley')} on Python {platform.python_version()}, {platform.platform(terse=True)}"
    return Check("parley", "", f"{detail}, {sys.prefix}")


def _folder(settings: Settings) -> Check:
    folder = settings.data_dir
    free = shutil.disk_usage(folder).free
    shared = folder.stat().st_mode & 0o077
    trouble = f"others may read it; this helps: chmod 700 {folder}" if shared else ""
    return Check("data folder", trouble, f"{folder}, {free / 1e9:.1f} GB free")


async def _parts(settings: Settings) -> list[Check]:
    """Opens everything and asks each part."""
    try:
        async with opened(settings) as runtime:
            ready = await runtime.ready()
            documents = await runtime.catalog.below("local", "")
            where = masked(settings.database_url) or str(settings.data_dir / DATABASE)
            details = {
                "data": f"{where}, {len(documents)} documents",
                "embedder": runtime.embedder.name,
                "model": settings.model_url,
                "memory": masked(settings.memory_url),
                "graph": masked(settings.knowledge_url),
                "bus": masked(settings.redis_url),
            }
            checks = [Check(name, trouble or "", details.get(name, "")) for name, trouble in ready.items()]
            if not settings.database_url:
                checks.append(await asyncio.to_thread(_schema, settings.data_dir / DATABASE))
    except CommandFailed as error:
        return [Check("parts", str(error), "")]
    if not settings.model_url:
        checks.append(Check("model", "", "none is set, so answers quote the documents (docs/models.md)"))
    return checks


def _schema(path: Path) -> Check:
    """Opening has upgraded an older file; a newer one, or one that cannot be upgraded, is the trouble of "parts"."""
    made = "".join(f"; copy from before an upgrade: {copy}" for copy in copies(path))
    return Check("schema", "", f"version {VERSION}, the present one{made}")


def _packages() -> list[Check]:
    """Where our seven names resolve: `agents` and `evals` are names that other packages use too."""
    checks: list[Check] = []
    for name in PACKAGES:
        spec = find_spec(name)
        origin = str(spec.origin) if spec is not None else "nowhere"
        ours = Path(origin).is_relative_to(HOME)
        trouble = "" if ours else f"comes from {origin}, not from {HOME}: another package took the name"
        checks.append(Check(f"package {name}", trouble, str(Path(origin).parent)))
    return checks
