"""Documents over HTTP: uploaded, taken in by the runner that a server has, listed, looked at, deleted."""

from __future__ import annotations

import os
import resource
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest
from anyio import fail_after

from serving.job_runner import runner_of, working
from serving.job_store import Owner
from serving.keys import Keys
from serving.principal import Principal
from serving.runtime import Runtime, open_runtime
from serving.settings import Settings
from serving.uploads import LONGEST_PATH
from serving.wires.upload_body import DRAIN_BYTES
from tests.serving.api_client import client_of, events_in, walked
from tools.types import JsonObject

DEADLINE = 60
"""Seconds; a bound for what hangs, not a measure."""
MILL = b"# Old Mill\n\nThe Old Mill was built by Tomas Reed. It was closed in 1954.\n"
LIMIT = 20_000

Sent = tuple[str, tuple[str | None, bytes]]


@pytest.fixture(scope="module")
async def runtime(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), max_upload_bytes=LIMIT, max_upload_files=10)
    async with open_runtime(settings) as runtime, working(runner_of(runtime)) as runner:
        runner.start()
        yield runtime


@pytest.fixture(scope="module")
async def idle(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Runtime]:
    """A server whose runner never starts."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("idle"), max_upload_bytes=LIMIT, max_upload_files=3)
    async with open_runtime(settings) as runtime:
        yield runtime


@pytest.fixture
async def client(runtime: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(runtime) as client:
        yield client


@pytest.fixture
async def waiting(idle: Runtime) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(idle) as client:
        yield client


def files(**named: bytes) -> list[Sent]:
    """Parts of a form; `a_md` is sent as `a.md`, `sub__a_md` as `sub/a.md`."""
    return [part(name.replace("__", "/").replace("_", "."), data) for name, data in named.items()]


def part(name: str, data: bytes) -> Sent:
    return "files", (name, data)


async def uploaded(client: httpx.AsyncClient, parts: list[Sent], **headers: str) -> JsonObject:
    response = await client.post("/api/documents", files=parts, headers=headers)
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/api/jobs/{response.json()['job_id']}"
    return response.json()


async def ended(client: httpx.AsyncClient, job: object) -> JsonObject:
    """The job, once it is over."""
    with fail_after(DEADLINE):
        told = events_in((await client.get(f"/api/jobs/{job}/events")).text)
    last = (await client.get(f"/api/jobs/{job}")).json()
    assert told[-1].event == f"job.{last['status']}"
    assert {name: told[-1].data[name] for name in last} == last
    return last


async def hits(client: httpx.AsyncClient, query: str) -> list[JsonObject]:
    found = (await client.post("/api/search", json={"query": query})).json()
    return cast("list[JsonObject]", found["hits"])


def contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # the job has just put it away
        return b""


def below(folder: Path) -> list[Path]:
    """All files below a folder, in which others may be at work."""
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def left_in(folder: Path) -> list[str]:
    """Names of all files below a folder."""
    return sorted(path.name for path in below(folder))


# -- uploading -------------------------------------------------------------------------------------------------------


async def test_uploaded_files_become_documents_that_a_search_finds_under_their_names(client: httpx.AsyncClient) -> None:
    accepted = await uploaded(client, files(mill_md=MILL, notes__weir_txt=b"The weir keeper lives at the weir."))
    documents = cast("list[dict[str, str]]", accepted["documents"])
    assert [(one["path"], one["status"]) for one in documents] == [("mill.md", "queued"), ("notes/weir.txt", "queued")]
    job = await ended(client, accepted["job_id"])
    assert job == {
        "id": accepted["job_id"], "kind": "ingest", "status": "finished", "done": 2, "total": 2, "failed": 0,
        "error": None,
    }  # fmt: skip
    assert (await hits(client, "Who built the Old Mill?"))[0]["path"] == "mill.md"
    assert (await hits(client, "weir keeper"))[0]["path"] == "notes/weir.txt"
    document = (await client.get(f"/api/documents/{documents[0]['id']}")).json()
    assert (document["title"], document["status"], document["bytes"]) == ("Old Mill", "ready", len(MILL))
    assert set(document) == {"id", "path", "title", "status", "passages", "bytes", "updated_at", "url", "error"}
    listed = await walked(client, "/api/documents", 1)
    assert [one["path"] for one in listed if one["path"] in ("mill.md", "notes/weir.txt")] == [
        "mill.md", "notes/weir.txt",
    ]  # fmt: skip
    items = await walked(client, f"/api/jobs/{job['id']}/items", 1)
    assert [(one["number"], one["name"], one["status"]) for one in items] == [
        (1, "mill.md", "done"), (2, "notes/weir.txt", "done"),
    ]  # fmt: skip


async def test_a_broken_file_counts_as_failed_with_its_reason_and_the_others_go_on(client: httpx.AsyncClient) -> None:
    accepted = await uploaded(
        client, files(good_md=b"# Good\n\nIt is good.", broken_pdf=b"%PDF-1.7 no more", void_md=b"", tool_exe=b"MZ")
    )
    job = await ended(client, accepted["job_id"])
    assert (job["status"], job["done"], job["failed"], job["total"]) == ("finished", 1, 3, 4)
    assert str(job["error"]).startswith("broken.pdf: ")
    assert "void.md: empty file" in str(job["error"])
    _, broken, void, tool = cast("list[dict[str, str]]", accepted["documents"])
    shown = (await client.get(f"/api/documents/{broken['id']}")).json()
    assert (shown["status"], shown["path"], shown["updated_at"]) == ("failed", "broken.pdf", None)
    assert shown["error"]
    assert (await client.get(f"/api/documents/{void['id']}")).json()["error"] == "empty file"
    assert "files of this kind" in (await client.get(f"/api/documents/{tool['id']}")).json()["error"]
    assert (await client.delete(f"/api/documents/{tool['id']}")).status_code == 204
    assert (await client.get(f"/api/documents/{tool['id']}")).status_code == 404
    assert (await client.delete(f"/api/documents/{tool['id']}")).status_code == 404


async def test_an_upload_of_which_nothing_can_be_read_has_failed(client: httpx.AsyncClient) -> None:
    parts = [part(f"{number}.exe", b"MZ") for number in range(5)]
    job = await ended(client, (await uploaded(client, parts))["job_id"])
    assert (job["status"], job["done"], job["failed"]) == ("failed", 0, 5)
    assert str(job["error"]).endswith("and 2 more")


async def test_the_same_name_again_replaces_the_document(client: httpx.AsyncClient) -> None:
    first = await uploaded(client, files(ferry_md=b"# Ferry\n\nThe ferry sails at seven."))
    await ended(client, first["job_id"])
    second = await uploaded(client, files(ferry_md=b"# Ferry\n\nThe ferry sails at nine."))
    assert second["documents"] == first["documents"]
    await ended(client, second["job_id"])
    texts = [str(hit["text"]) for hit in await hits(client, "When does the ferry sail?") if hit["path"] == "ferry.md"]
    assert len(texts) == 1
    assert "nine" in texts[0]


async def test_passages_come_page_by_page_in_the_order_of_the_document(client: httpx.AsyncClient) -> None:
    text = "".join(f"# Chapter {n}\n\n{f'Chapter {n} tells of lock {n}. ' * 12}\n\n" for n in range(6))
    accepted = await uploaded(client, [part("locks.md", text.encode())])
    await ended(client, accepted["job_id"])
    (document,) = cast("list[dict[str, str]]", accepted["documents"])
    path = f"/api/documents/{document['id']}/passages"
    found = await walked(client, path, 2)
    assert [one["start"] for one in found] == sorted(cast("list[int]", [one["start"] for one in found]))
    assert "lock 0" in str(found[0]["text"])
    assert "lock 5" in str(found[-1]["text"])
    assert len(found) == (await client.get(f"/api/documents/{document['id']}")).json()["passages"] > 2
    wrong = await client.get(path, params={"cursor": "bm90aGluZw"})
    assert (wrong.status_code, wrong.json()["param"]) == (400, "cursor")
    foreign = (await client.get("/api/documents", params={"limit": 1})).json()["next_cursor"]
    assert (await client.get(path, params={"cursor": foreign})).status_code == 400


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        ("../../etc/passwd.md", "etc/passwd.md"),
        ("/srv//x/./y.md", "srv/x/y.md"),
        ("sub\\deep\\z.md", "sub/deep/z.md"),
        ("u\u0308ber.md", "über.md"),
        ('the "old" 100%.md', 'the "old" 100%.md'),
    ],
)
async def test_a_name_is_kept_as_a_relative_path(waiting: httpx.AsyncClient, sent: str, path: str) -> None:
    accepted = await uploaded(waiting, [part(sent, MILL)])
    assert [one["path"] for one in cast("list[JsonObject]", accepted["documents"])] == [path]


# -- refusals --------------------------------------------------------------------------------------------------------

BOUNDARY = "multipart/form-data; boundary=x"


def form(*parts: str, end: str = "--x--\r\n") -> bytes:
    return ("".join(f"--x\r\nContent-Disposition: form-data; {one}\r\n" for one in parts) + end).encode()


@pytest.mark.parametrize(
    ("status", "kind", "body", "says"),
    [
        (415, "application/json", b"{}", "multipart/form-data"),
        (400, "multipart/form-data", b"", "boundary"),
        (400, f"multipart/form-data; boundary={'x' * 300}", b"", "no valid multipart form"),
        (400, BOUNDARY, b"nonsense", "no valid multipart form"),
        (400, BOUNDARY, b"", "before its last boundary"),
        (400, BOUNDARY, form('name="files"; filename="a.md"\r\n\r\nhalf', end=""), "before its last boundary"),
        (400, BOUNDARY, form('name="note"\r\n\r\njust a field'), "no file"),
        (400, BOUNDARY, form('name="file"; filename="a.md"\r\n\r\ntext'), 'called "files"'),
        (400, BOUNDARY, form('name="files"; filename="../."\r\n\r\ntext'), "needs a name"),
        (400, BOUNDARY, form(f'name="files"; filename="{"a" * (LONGEST_PATH + 1)}"\r\n\r\ntext'), "needs a name"),
        (413, BOUNDARY, form(f'name="files"; filename="a.md"\r\n\r\n{"a" * (LIMIT + 1)}'), "larger than 20000 bytes"),
        (413, BOUNDARY, form(f'name="note"\r\n\r\n{"a" * 100_001}'), "fields that are no files"),
        (413, BOUNDARY, form(*(f'name="files"; filename="{n}.md"\r\n\r\ntext' for n in range(4))), "more than 3 files"),
    ],
)
async def test_what_cannot_be_taken_is_refused_whole_and_leaves_nothing(
    idle: Runtime, waiting: httpx.AsyncClient, status: int, kind: str, body: bytes, says: str
) -> None:
    before = left_in(idle.settings.data_dir / "uploads")
    response = await waiting.post("/api/documents", content=body, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert says in response.json()["detail"]
    assert left_in(idle.settings.data_dir / "uploads") == before


async def test_a_refused_body_is_read_on_for_a_while_and_then_the_connection_is_given_up(
    waiting: httpx.AsyncClient,
) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        yield form('name="file"; filename="a.md"\r\n\r\n', end="")
        for _ in range(DRAIN_BYTES // 1_000_000 + 2):
            yield b"x" * 1_000_000

    response = await waiting.post("/api/documents", content=endless(), headers={"Content-Type": BOUNDARY})
    assert (response.status_code, response.headers["connection"]) == (400, "close")


async def test_fields_that_are_no_files_are_passed_over(waiting: httpx.AsyncClient) -> None:
    body = form('name="note"\r\n\r\nhello\r\n', 'name="files"; filename="a.md"\r\n\r\ntext\r\n')
    response = await waiting.post("/api/documents", content=body, headers={"Content-Type": BOUNDARY})
    assert response.status_code == 202
    assert len(response.json()["documents"]) == 1


@contextmanager
def full_disk(bytes: int) -> Generator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_said_and_nothing_half_is_stored(idle: Runtime, waiting: httpx.AsyncClient) -> None:
    folder = idle.settings.data_dir / "uploads"
    before = left_in(folder)
    with full_disk(10_000):
        response = await waiting.post("/api/documents", files=files(small_md=b"# Small", large_md=b"x" * 15_000))
    assert (response.status_code, response.json()["type"]) == (507, "/problems/storage-full")
    assert "the disk is full" in response.json()["detail"]
    assert left_in(folder) == before
    assert "small.md" not in [one["path"] for one in await walked(waiting, "/api/documents", 50)]


async def test_a_folder_that_cannot_be_written_is_said(idle: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    broken = replace(idle, uploads=type(idle.uploads)(tmp_path / "file"))
    async with client_of(broken) as client:
        response = await client.post("/api/documents", files=files(a_md=MILL))
    assert (response.status_code, response.json()["type"]) == (503, "/problems/storage-unusable")


# -- once ------------------------------------------------------------------------------------------------------------


async def test_the_same_upload_with_the_same_key_is_one_job(idle: Runtime, waiting: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "upload-1"}
    first = await waiting.post("/api/documents", files=files(once_md=MILL), headers=key)
    stored = left_in(idle.settings.data_dir / "uploads")
    again = await waiting.post("/api/documents", files=files(once_md=MILL), headers=key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await waiting.post("/api/documents", files=files(twice_md=MILL), headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-key-reused")
    assert left_in(idle.settings.data_dir / "uploads") == stored
    wrong = await waiting.post("/api/documents", files=files(a_md=MILL), headers={"Idempotency-Key": "a b"})
    assert wrong.status_code == 400


# -- deleting --------------------------------------------------------------------------------------------------------


async def test_a_deleted_document_leaves_nothing_behind(runtime: Runtime, client: httpx.AsyncClient) -> None:
    accepted = await uploaded(client, files(secret_md=b"# Secret\n\nThe lantern code is 4711."))
    await ended(client, accepted["job_id"])
    (document,) = cast("list[dict[str, str]]", accepted["documents"])
    path = f"/api/documents/{document['id']}"
    folder = runtime.settings.data_dir / "uploads"
    assert [file for file in below(folder) if b"4711" in contents(file)]
    assert (await client.delete(path)).status_code == 204
    assert [file for file in below(folder) if b"4711" in contents(file)] == []
    assert (await client.get(path)).status_code == 404
    assert (await client.get(f"{path}/passages")).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert all("4711" not in str(hit["text"]) for hit in await hits(client, "lantern code"))


async def test_a_document_that_waits_is_shown_and_can_be_deleted(idle: Runtime, waiting: httpx.AsyncClient) -> None:
    accepted = await uploaded(waiting, files(later_md=b"# Later\n\nIt is 0815."))
    (document,) = cast("list[dict[str, str]]", accepted["documents"])
    path = f"/api/documents/{document['id']}"
    folder = idle.settings.data_dir / "uploads"
    assert (await waiting.get(path)).json()["status"] == "queued"
    assert (await waiting.delete(path)).status_code == 204
    assert (await waiting.get(path)).status_code == 404
    assert [file for file in below(folder) if b"0815" in contents(file)] == []
    (item,) = await idle.jobs.all_items(Owner("local", "local"), str(accepted["job_id"]))
    assert (item.status, item.error) == ("cancelled", "its document was deleted")


async def test_a_document_belongs_to_its_tenant_and_is_deleted_by_its_uploader_or_an_admin(tmp_path: Path) -> None:
    async with open_runtime(Settings(data_dir=tmp_path)) as runtime, client_of(runtime) as client:
        keys = Keys(runtime.database)

        async def bearer(who: Principal) -> dict[str, str]:
            return {"Authorization": f"Bearer {(await keys.create(who, None))[1]}"}

        alice, ada = await bearer(Principal("acme", "alice")), await bearer(Principal("acme", "ada", "admin"))
        bob, eve = await bearer(Principal("acme", "bob")), await bearer(Principal("evil", "eve", "admin"))
        accepted = await uploaded(client, files(plan_md=MILL, rota_md=MILL), **alice)
        plan, rota = (f"/api/documents/{one['id']}" for one in cast("list[JsonObject]", accepted["documents"]))
        job = f"/api/jobs/{accepted['job_id']}"
        for path in (plan, f"{plan}/passages", job, f"{job}/items", f"{job}/events"):
            assert (await client.get(path, headers=eve)).status_code == 404
        for path in (plan, job):
            assert (await client.delete(path, headers=eve)).status_code == 404
        assert (await client.get(plan, headers=bob)).json()["status"] == "queued"
        assert (await client.get(job, headers=bob)).status_code == 404
        assert (await client.get("/api/jobs", headers=bob)).json()["items"] == []
        refused = await client.delete(plan, headers=bob)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/not-yours")
        assert (await client.delete(plan, headers=alice)).status_code == 204
        assert (await client.delete(rota, headers=ada)).status_code == 204
