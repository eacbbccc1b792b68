from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memory.chroma_memory import ChromaMemory
from memory.embedded import SCHEMA, EmbeddedMemory
from memory.embedding import HashEmbedder
from memory.open import open_memory
from memory.sqlite import Database
from memory.weaviate_memory import WeaviateMemory

EMBEDDER = HashEmbedder(8)
SERVERS = {"weaviate://:key@127.0.0.1:1?grpc=2": WeaviateMemory, "chroma://:key@127.0.0.1:1": ChromaMemory}


async def test_the_url_names_the_memory_and_nothing_names_the_embedded_one(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "parley.db", [SCHEMA])
    for url in ("", "embedded"):
        assert isinstance(open_memory(url, database, EMBEDDER), EmbeddedMemory)
    await database.close()
    for url, kind in SERVERS.items():
        assert isinstance(open_memory(url, None, EMBEDDER), kind)
    folder = tmp_path / "chroma"
    store = open_memory(f"chroma:{folder}", None, EMBEDDER)
    assert isinstance(store, ChromaMemory)
    assert not folder.exists()
    await store.close()
    await store.close()


@pytest.mark.parametrize("url", ["qdrant://:hunter2@host", "hunter2", "Chroma", "chroma", "http://hunter2@x:1", "://"])
def test_unknown_memory_is_refused_with_what_is_allowed_and_without_the_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"unknown memory.*embedded.*weaviate://.*chroma://") as refused:
        open_memory(url, None, EMBEDDER)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "chroma:",
        "chroma://:hunter2@host:port",
        "chroma://:hunter2@host:0",
        "chroma://:hunter2@",
        "chroma://:hunter2@host/path",
        "chroma://:hunter2@host?secure=yes",
        "chroma://:hunter2@host?unsafe=true",
        "weaviate://:hunter2@host:port",
    ],
)
def test_incomplete_address_is_refused_without_the_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"chroma|weaviate") as refused:
        open_memory(url, None, EMBEDDER)
    assert "hunter2" not in str(refused.value)


def test_embedded_memory_without_its_file_says_which_setting_helps() -> None:
    with pytest.raises(ValueError, match="PARLEY_MEMORY_URL"):
        open_memory("", None, EMBEDDER)


def test_no_vendor_is_imported_before_its_url_is_opened() -> None:
    code = (
        "import sys, memory.open, memory.chroma_memory\n"
        "from memory.embedding import HashEmbedder\n"
        "memory.open.open_memory('chroma://127.0.0.1:1', None, HashEmbedder(8))\n"
        "assert not {'chromadb', 'weaviate'} & set(sys.modules), 'imported'\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_folder_without_the_package_says_how_to_install_it(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['chromadb'] = None\n"
        "from memory.open import open_memory\n"
        "from memory.embedding import HashEmbedder\n"
        "from memory.store import MemoryUnavailable\n"
        "try:\n    open_memory('chroma:./x', None, HashEmbedder(8))\n"
        "except MemoryUnavailable as error:\n    print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True).stdout
    assert "uv pip install 'chromadb" in said


@pytest.mark.parametrize("url", SERVERS)
def test_a_client_does_not_change_which_warnings_are_shown(url: str) -> None:
    code = (
        "import warnings\n"
        "from memory.embedding import HashEmbedder\n"
        "from memory.open import open_memory\n"
        "before = list(warnings.filters)\n"
        f"open_memory({url!r}, None, HashEmbedder(8))\n"
        "assert warnings.filters == before, warnings.filters\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
