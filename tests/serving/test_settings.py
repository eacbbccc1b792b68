"""Settings: layers, origins, and what is said of a wrong one."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from serving.settings import (
    NAMES,
    DataFolderUnusable,
    Loaded,
    Settings,
    SettingsError,
    is_loopback,
    load,
    open_data_dir,
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working folder, with an empty data folder beside it."""
    folder = tmp_path / "work"
    folder.mkdir()
    (tmp_path / "data").mkdir()
    return folder


def loaded(work: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None) -> Loaded:
    data = str(work.parent / "data")
    return load(flags or {}, {"PARLEY_DATA_DIR": data, "PATH": "/bin", **(environ or {})}, work)


def errors(work: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        loaded(work, environ, flags)
    return str(caught.value)


def test_without_any_source_every_setting_has_its_default(work: Path) -> None:
    found = load({}, {}, work)
    assert found.settings == Settings()
    assert set(found.origins.values()) == {"default"}
    assert found.warnings == ()
    assert (found.settings.host, found.settings.port) == ("127.0.0.1", 8080)
    assert found.settings.data_dir.name == "parley"


def test_each_layer_wins_over_those_below_it(work: Path) -> None:
    data = work.parent / "data"
    (data / "parley.toml").write_text("port = 1\nturn_seconds = 1\nmodel = 'toml of data'")
    (data / ".env").write_text("PARLEY_PORT=2\nPARLEY_TURN_SECONDS=2\nPARLEY_TURN_TOKENS=2000")
    (work / "parley.toml").write_text("port = 3\nturn_seconds = 3\nturn_tool_calls = 3")
    (work / ".env").write_text("PARLEY_PORT=4\nPARLEY_MODEL_URL=http://h/v1\nOTHER=1\nPARLEY_MODEL_KEY")
    found = loaded(work, {"PARLEY_PORT": "5", "PARLEY_FIRST_TOKEN_SECONDS": "5"}, {"port": "6"})
    settings = found.settings
    assert settings.port == 6
    assert found.origins["port"] == "command line"
    assert settings.first_token_seconds == 5
    assert found.origins["first_token_seconds"] == "environment PARLEY_FIRST_TOKEN_SECONDS"
    assert settings.model_url == "http://h/v1"
    assert found.origins["model_url"] == f"{work / '.env'}: PARLEY_MODEL_URL"
    assert settings.turn_seconds == settings.turn_tool_calls == 3
    assert found.origins["turn_seconds"] == str(work / "parley.toml")
    assert settings.turn_tokens == 2000
    assert settings.model == "toml of data"
    assert found.origins["model"] == str(data / "parley.toml")
    assert found.warnings == ()


def test_an_empty_value_means_the_default(work: Path) -> None:
    (work / "parley.toml").write_text("model_url = 'http://h/v1'\nport = 9")
    found = loaded(work, {"PARLEY_MODEL_URL": "", "PARLEY_PORT": " "})
    assert found.settings.model_url == ""
    assert found.settings.port == 8080


def test_relative_folders_start_where_they_are_written(work: Path) -> None:
    (work / ".env").write_text("PARLEY_DATA_DIR=here")
    assert load({}, {}, work).settings.data_dir == work / "here"
    assert load({"data_dir": "there"}, {}, work).settings.data_dir == work / "there"
    assert load({"data_dir": "~/there"}, {}, work).settings.data_dir == Path.home() / "there"


def test_a_working_folder_that_is_the_data_folder_is_read_once(work: Path) -> None:
    (work / ".env").write_text("PARLEY_PROT=1")
    assert len(load({"data_dir": str(work)}, {}, work).warnings) == 1


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("port", "70000", "0 (any free one) to 65535"),
        ("port", "80a", "0 (any free one) to 65535"),
        ("turn_seconds", "0", "seconds, more than 0"),
        ("turn_seconds", "nan", "seconds, more than 0"),
        ("turn_model_calls", "1.5", "a whole number from 1 to 1000"),
        ("model_window", "12", "1024 or more"),
        ("model_url", "host:8000", "an address such as http://"),
        ("model_url", "ftp://host/v1", "an address such as http://"),
        ("host", "http://parley.example", "an address or a name of this machine"),
        ("hosts", "parley.example:8080", "host names without a port"),
        ("cors_origins", "*", "origins such as https://chat.example"),
        ("cors_origins", "https://chat.example/", "origins such as https://chat.example"),
        ("rate_per_minute", "-1", "0 (no limit)"),
        ("data_dir", "~nobody-of-that-name/x", "home"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed_and_its_origin(
    work: Path, name: str, value: str, allowed: str
) -> None:
    variable = f"PARLEY_{name.upper()}"
    said = errors(work, {variable: value})
    assert f"{name} is {value!r} (environment {variable})" in said
    assert allowed in said


@pytest.mark.parametrize(
    ("host", "near"),
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("box.lan", False)],
)
def test_every_address_is_a_host_and_loopback_is_known(work: Path, host: str, near: bool) -> None:
    assert loaded(work, {"PARLEY_HOST": host}).settings.host == host
    assert is_loopback(host) == near


def test_a_list_is_names_between_commas(work: Path) -> None:
    said = {
        "PARLEY_HOSTS": " Box.lan, parley.example ,",
        "PARLEY_CORS_ORIGINS": "https://Chat.example,http://[::1]:3000",
    }
    settings = loaded(work, said).settings
    assert settings.names("hosts") == ("box.lan", "parley.example")
    assert settings.names("cors_origins") == ("https://chat.example", "http://[::1]:3000")
    assert loaded(work, {}).settings.names("hosts") == ()


def test_all_wrong_values_are_told_at_once(work: Path) -> None:
    (work / "parley.toml").write_text("turn_tokens = true\nturn_seconds = [1]")
    said = errors(work, {"PARLEY_PORT": "x"}, {"hots": "y"})
    assert len(said.splitlines()) == 4
    for part in ("turn_tokens is 'True'", "turn_seconds: seconds", "port is 'x'", "hots is no setting", "is host"):
        assert part in said


def test_a_wrong_secret_is_never_shown(work: Path) -> None:
    said = errors(work, {"PARLEY_MODEL_KEY": "s3cret with blanks"})
    assert "s3cret" not in said
    assert "model_key is ***" in said


def test_files_that_cannot_be_read_are_named(work: Path) -> None:
    (work / "parley.toml").write_text("port = ")
    (work / ".env").write_bytes(b"PARLEY_PORT=\xff")
    said = errors(work)
    assert f"{work / 'parley.toml'} is not valid TOML" in said
    assert f"{work / '.env'} cannot be read" in said


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(work: Path) -> None:
    (work / "parley.toml").write_text("modle = 'x'")
    found = loaded(work, {"PARLEY_PROT": "1", "PARLEY_port": "2", "PARLEY_BENCH_DATA": "x"})
    assert found.settings.port == 8080
    assert [warning for warning in found.warnings if "PARLEY_PROT" in warning and "nearest is PARLEY_PORT" in warning]
    assert [warning for warning in found.warnings if "modle" in warning and "nearest is model" in warning]
    assert not [warning for warning in found.warnings if "BENCH" in warning]


def test_a_model_setting_without_a_model_server_is_a_warning(work: Path) -> None:
    found = loaded(work, {"PARLEY_MODEL": "qwen"})
    assert found.warnings == ("model (environment PARLEY_MODEL) does nothing without model_url",)


def test_what_is_shown_holds_every_setting_and_no_secret(work: Path) -> None:
    found = loaded(work, {"PARLEY_MODEL_URL": "https://h/v1/", "PARLEY_MODEL_KEY": "s3cret"})
    shown = {line.name: line for line in found.shown()}
    assert tuple(shown) == NAMES
    assert shown["model_key"].value == "***"
    assert shown["model_url"].value == "https://h/v1"
    assert shown["model"].value == ""
    assert shown["turn_seconds"].value == "120"
    assert all(line.meaning and line.allowed and line.origin for line in shown.values())
    assert "s3cret" not in repr(found)


def test_the_data_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "parley"
    assert open_data_dir(Settings(data_dir=folder)) == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_a_data_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderUnusable, match=r"data folder .*file.* cannot be written to .*PARLEY_DATA_DIR"):
        open_data_dir(Settings(data_dir=tmp_path / "file" / "data"))


ADDRESSES = [
    ("memory_url", "weaviate://:hidden@127.0.0.1:8080?grpc=50051", "weaviate://:***@127.0.0.1:8080?grpc=50051"),
    ("memory_url", "chroma://127.0.0.1:8000", "chroma://127.0.0.1:8000"),
    ("knowledge_url", "neo4j://neo4j:hidden@127.0.0.1:7687", "neo4j://neo4j:***@127.0.0.1:7687"),
    ("database_url", "postgresql+psycopg://app:hidden@db:5432/parley", "postgresql+psycopg://app:***@db:5432/parley"),
    ("redis_url", "redis://:hidden@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
]


@pytest.mark.parametrize(("name", "url", "shown"), ADDRESSES)
def test_an_address_is_shown_without_its_password(name: str, url: str, shown: str, tmp_path: Path) -> None:
    loaded = load({name: url}, {}, tmp_path)
    assert getattr(loaded.settings, name) == url
    assert {line.name: line.value for line in loaded.shown()}[name] == shown


@pytest.mark.parametrize("name", [*dict.fromkeys(name for name, _, _ in ADDRESSES), "database_owner_url"])
@pytest.mark.parametrize("url", ["http://a:hidden@host/", "hidden", "{0}://:hid/den@host", "{0}://", "{0}://host:0"])
def test_an_address_that_is_none_is_refused_without_its_password(name: str, url: str, tmp_path: Path) -> None:
    scheme = {"memory_url": "weaviate", "knowledge_url": "bolt", "redis_url": "rediss"}.get(name, "postgresql")
    with pytest.raises(SettingsError, match=f"{name} is .* allowed is ") as refused:
        load({name: url.format(scheme)}, {}, tmp_path)
    assert "hid" not in str(refused.value)


def test_a_folder_of_vectors_lies_beside_what_names_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PARLEY_MEMORY_URL=chroma:./vectors\n")
    assert load({}, {}, tmp_path).settings.memory_url == f"chroma:{tmp_path}/vectors"
    with pytest.raises(SettingsError, match="redis_url"):
        load({"redis_url": "chroma:vectors"}, {}, tmp_path)
