"""Settings: read once, from flags, environment and files; each value knows where it came from."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, NoReturn
from urllib.parse import urlsplit

from dotenv import dotenv_values
from platformdirs import user_data_dir
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from serving.addresses import DATABASE, KNOWLEDGE, MEMORY, REDIS, address, folder_of, masked

PREFIX = "PARLEY_"
OTHERS = ("PARLEY_BENCH_", "PARLEY_STUDIO_", "PARLEY_SERVICES_", "PARLEY_TEST_")
"""Variables of benchmarks, of `make studio`, of `make services` and of tests."""


class SettingsError(Exception):
    """One or more settings are wrong; the text names each, with what is allowed and where it came from."""


class DataFolderUnusable(Exception):
    """The data folder cannot be made or written to; the text says what helps."""


class Allowed(str):
    """What a setting may be, in words; the text that an error shows."""


_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://({_HOST.pattern}|\[[0-9a-f:]+\])(:[0-9]{{1,5}})?", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ValueError("not an address or a name of this machine") from None
    return host


def _listed(text: str, allowed: re.Pattern[str]) -> str:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if not allowed.fullmatch(name):
            raise ValueError(f"{name!r} is none")
    return ",".join(names)


def _http(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise ValueError("not an http address")
    return url.rstrip("/")


Seconds = Annotated[
    float, Field(gt=0, le=86_400, allow_inf_nan=False), Allowed("seconds, more than 0 and at most 86400")
]
Count = Annotated[int, Field(ge=1, le=1_000), Allowed("a whole number from 1 to 1000")]
Password = Annotated[str, Field(repr=False)]
Url = Annotated[str, AfterValidator(_http), Allowed("an address such as http://127.0.0.1:8000/v1, or empty for none")]


class Settings(BaseModel):
    """Every setting. The environment calls them PARLEY_ and the name in capitals, parley.toml by their name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Annotated[Path, Field(description="Folder that holds all data."), Allowed("a folder")] = Field(
        default_factory=lambda: Path(user_data_dir("parley"))
    )
    host: Annotated[
        str,
        Field(description="Address that the server listens on; beyond loopback only with access keys."),
        AfterValidator(_address),
        Allowed("an address or a name of this machine, such as 127.0.0.1, ::1 or 0.0.0.0"),
    ] = "127.0.0.1"
    port: Annotated[
        int, Field(ge=0, le=65535, description="Port that the server listens on."), Allowed("0 (any free one) to 65535")
    ] = 8080
    hosts: Annotated[
        str,
        Field(description="Names besides localhost that the server answers to."),
        AfterValidator(partial(_listed, allowed=_HOST)),
        Allowed("host names without a port, separated by commas, or empty for none"),
    ] = ""
    cors_origins: Annotated[
        str,
        Field(description="Origins whose pages may use the API from a browser."),
        AfterValidator(partial(_listed, allowed=_ORIGIN)),
        Allowed("origins such as https://chat.example, separated by commas, or empty for none; not *"),
    ] = ""
    rate_per_minute: Annotated[
        int,
        Field(ge=0, le=1_000_000, description="Requests that one access key may send a minute; 0: any number."),
        Allowed("a whole number from 0 (no limit) to 1000000"),
    ] = 600
    memory_url: Annotated[
        Password,
        Field(description="Vector store: weaviate://, chroma:// or chroma:folder; none: the data folder."),
        AfterValidator(partial(address, schemes=MEMORY)),
        Allowed("weaviate://:key@host:8080?grpc=50051, chroma://host:8000, chroma:folder, or empty for none"),
    ] = ""
    knowledge_url: Annotated[
        Password,
        Field(description="Knowledge graph: neo4j:// or bolt://; none: the data folder."),
        AfterValidator(partial(address, schemes=KNOWLEDGE)),
        Allowed("neo4j://user:password@host:7687, also neo4j+s, bolt and bolt+s, or empty for none"),
    ] = ""
    database_url: Annotated[
        Password,
        Field(description="Postgres for conversations, runs and jobs; none: the data folder."),
        AfterValidator(partial(address, schemes=DATABASE)),
        Allowed("postgresql+psycopg://user:password@host:5432/database, or empty for none"),
    ] = ""
    database_owner_url: Annotated[
        Password,
        Field(description="The same database as the owner of the tables, who upgrades them; none: they are ready."),
        AfterValidator(partial(address, schemes=DATABASE)),
        Allowed("postgresql+psycopg://owner:password@host:5432/database, or empty for none"),
    ] = ""
    redis_url: Annotated[
        Password,
        Field(description="Redis between several servers of one Parley; none: this process is the only one."),
        AfterValidator(partial(address, schemes=REDIS)),
        Allowed("redis://:password@host:6379/0, rediss:// with TLS, or empty for none"),
    ] = ""
    model_url: Annotated[Url, Field(description="OpenAI-compatible server that writes the answers; none: quotes.")] = ""
    model: Annotated[str, Field(description="The model's name there; none: the first it lists."), Allowed("a name")] = (
        ""
    )
    model_key: Annotated[
        str,
        Field(description="Key for that server.", repr=False, pattern=r"^[!-~]*$"),
        Allowed("a key of ASCII letters, digits and signs, without spaces"),
    ] = ""
    model_window: Annotated[
        int | None,
        Field(ge=1024, le=100_000_000, description="Context window in tokens; none: asked from the server."),
        Allowed("a whole number of tokens, 1024 or more"),
    ] = None
    first_token_seconds: Annotated[Seconds, Field(description="Wait for a model's first token.")] = 30.0
    turn_seconds: Annotated[Seconds, Field(description="Time for one turn.")] = 120.0
    turn_model_calls: Annotated[Count, Field(description="Calls of the model in one turn.")] = 8
    turn_tool_calls: Annotated[Count, Field(description="Calls of tools in one turn.")] = 16
    turn_tokens: Annotated[
        int,
        Field(ge=1_000, le=100_000_000, description="Tokens in one turn, prompts included."),
        Allowed("a whole number from 1000 to 100000000"),
    ] = 200_000
    max_body_bytes: Annotated[
        int,
        Field(ge=1_000, le=1_000_000_000, description="Largest request that the server reads, in bytes."),
        Allowed("a whole number from 1000 to 1000000000"),
    ] = 10_000_000
    max_header_bytes: Annotated[
        int,
        Field(ge=1_000, le=1_000_000, description="Longest address and headers of a request, in bytes."),
        Allowed("a whole number from 1000 to 1000000"),
    ] = 32_768
    max_upload_bytes: Annotated[
        int,
        Field(ge=1_000, le=200_000_000, description="Largest file that may be uploaded, in bytes."),
        Allowed("a whole number from 1000 to 200000000"),
    ] = 50_000_000
    max_upload_files: Annotated[
        int,
        Field(ge=1, le=10_000, description="Files that one upload may bring."),
        Allowed("a whole number from 1 to 10000"),
    ] = 1_000
    event_hours: Annotated[
        float,
        Field(ge=1, le=87_600, allow_inf_nan=False, description="Hours that a run's events are kept after its end."),
        Allowed("hours, from 1 to 87600"),
    ] = 24.0
    parse_seconds: Annotated[Seconds, Field(description="Time to parse one file.")] = 120.0
    parse_memory_mb: Annotated[
        int,
        Field(ge=256, le=1_000_000, description="Memory to parse one file, in MB."),
        Allowed("a whole number from 256 to 1000000"),
    ] = 2048

    def names(self, name: Literal["hosts", "cors_origins"]) -> tuple[str, ...]:
        """The parts of a setting that is a list."""
        value = self.hosts if name == "hosts" else self.cors_origins
        return tuple(value.split(",")) if value else ()


SECRETS = frozenset({"model_key"})
ADDRESSES = frozenset({"memory_url", "knowledge_url", "database_url", "database_owner_url", "redis_url"})
"""Settings that may hold a password."""
NAMES: tuple[str, ...] = tuple(Settings.model_fields)
FOLDERS = frozenset({"data_dir"})


class Shown(NamedTuple):
    """One line of `parley settings`."""

    name: str
    meaning: str
    value: str
    """Secrets as ***, "" for none."""
    origin: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, where each value came from, and what looked wrong but does no harm."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]

    def shown(self) -> list[Shown]:
        """Every setting as a person may see it."""
        lines: list[Shown] = []
        for name, info in Settings.model_fields.items():
            value: object = getattr(self.settings, name)
            text = "" if value is None or value == "" else "***" if name in SECRETS else _plain(value)
            text = masked(text) if name in ADDRESSES else text
            lines.append(Shown(name, info.description or "", text, self.origins[name], _allowed(name)))
        return lines


@dataclass(slots=True)
class _Layers:
    """Values as they were written, the strongest source first; the first to name a setting wins."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    origins: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def add(self, name: str, value: object, origin: str, base: Path) -> None:
        """Takes one value; an empty one means the default."""
        if name in self.origins:
            return
        self.origins[name] = origin
        if isinstance(value, (dict, list)):
            self.errors.append(f"{name}: {_allowed(name)} is allowed, not a table or list (from {origin})")
        elif (text := str(value).strip()) != "":
            folder = folder_of(text) if name in ADDRESSES else text if name in FOLDERS else None
            path = text if folder is None else self._path(name, folder, origin, base)
            self.values[name] = path if folder is None or name in FOLDERS else f"chroma:{path}"

    def _path(self, name: str, text: str, origin: str, base: Path) -> str:
        try:
            return str(base / Path(text).expanduser())
        except RuntimeError as error:
            self.errors.append(f"{name} is {text!r} ({origin}); {error}")
            return text

    def environment(self, environ: Mapping[str, str | None], where: str, base: Path) -> None:
        """Takes the PARLEY_ variables."""
        for variable, value in sorted(environ.items()):
            if not variable.startswith(PREFIX) or variable.startswith(OTHERS) or value is None:
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name in NAMES and variable == PREFIX + name.upper():
                self.add(name, value, f"{where} {variable}", base)
            else:
                self.warnings.append(_unknown(variable, [PREFIX + known.upper() for known in NAMES], where))

    def folder(self, folder: Path) -> None:
        """Takes .env, then parley.toml of a folder, where they are."""
        env, toml = folder / ".env", folder / "parley.toml"
        text = self._text(env)
        if text is not None:
            self.environment(dotenv_values(stream=StringIO(text), interpolate=False), f"{env}:", folder)
        text = self._text(toml)
        if text is None:
            return
        try:
            table: dict[str, object] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.errors.append(f"{toml} is not valid TOML: {error}")
            return
        for name, value in table.items():
            if name in NAMES:
                self.add(name, value, f"{toml}", folder)
            else:
                self.warnings.append(_unknown(name, list(NAMES), f"{toml}:"))

    def _text(self, file: Path) -> str | None:
        try:
            return file.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.errors.append(f"{file} cannot be read: {error}")
            return None


def load(flags: Mapping[str, str], environ: Mapping[str, str], cwd: Path) -> Loaded:
    """Reads every setting: flags, environment, files of the working folder, files of the data folder, defaults.

    Args:
        flags: settings by name as given on the command line.
        environ: the process's environment.
        cwd: the working folder; relative paths of flags and environment start there, those of a file beside it.

    Raises:
        SettingsError: one or more values are wrong, or a file cannot be read; the text lists all of them.
    """
    layers = _Layers()
    for name, value in flags.items():
        if name in NAMES:
            layers.add(name, value, "command line", cwd)
        else:
            layers.errors.append(_unknown(name, list(NAMES), "command line:"))
    layers.environment(environ, "environment", cwd)
    layers.folder(cwd)
    data_dir = Path(layers.values["data_dir"]) if "data_dir" in layers.values else Settings().data_dir
    layers.origins.setdefault("data_dir", "default")
    if data_dir.absolute() != cwd.absolute():
        layers.folder(data_dir)
    return _checked(layers)


def open_data_dir(settings: Settings) -> Path:
    """Makes the data folder on first use, readable by its owner only.

    Raises:
        DataFolderUnusable: it cannot be made, or not written to.
    """
    folder = settings.data_dir
    probe = folder / ".writable"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.touch(mode=0o600)
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise DataFolderUnusable(
            f"the data folder {folder} cannot be written to ({error.strerror}); "
            "make it writable, or name another folder with --data-dir or PARLEY_DATA_DIR"
        ) from error
    return folder


def _checked(layers: _Layers) -> Loaded:
    errors = list(layers.errors)
    try:
        settings = Settings.model_validate(layers.values)
    except ValidationError as wrong:
        for error in wrong.errors(include_url=False):
            name = str(error["loc"][0])
            value = "***" if name in SECRETS | ADDRESSES else repr(layers.values[name])
            why = f"; {error['msg'].removeprefix('Value error, ')}" if error["type"] == "value_error" else ""
            errors.append(f"{name} is {value} ({layers.origins[name]}); allowed is {_allowed(name)}{why}")
        _refuse(errors)
    if errors:
        _refuse(errors)
    idle = () if settings.model_url else ("model", "model_key", "model_window")
    pairs = [(name, "model_url") for name in idle]
    if not settings.database_url:
        pairs.append(("database_owner_url", "database_url"))
    warnings = [
        *layers.warnings,
        *(
            f"{name} ({layers.origins[name]}) does nothing without {other}"
            for name, other in pairs
            if name in layers.values
        ),
    ]
    origins = {name: layers.origins.get(name, "default") for name in NAMES}
    return Loaded(settings, origins, tuple(warnings))


def _refuse(errors: list[str]) -> NoReturn:
    raise SettingsError("\n".join(f"wrong setting: {error}" for error in errors))


def _allowed(name: str) -> str:
    return next((str(item) for item in Settings.model_fields[name].metadata if isinstance(item, Allowed)), "text")


def _unknown(name: str, known: list[str], where: str) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{where} {name} is no setting of Parley; the nearest is {near[0]}" if near else f"{where} {name}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
