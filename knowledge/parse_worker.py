"""The process that reads untrusted files: `python -m knowledge.parse_worker MEGABYTES EXPANDED_MEGABYTES IDLE_SECONDS`.

It reads a request (name and bytes) on stdin, writes the document or the reason on stdout, and ends when its parent
has gone, when nothing came for a while, or when it holds too much memory.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from knowledge.kinds import ParseFailed, kind_of
from knowledge.types import ParsedDocument

OUT_OF_MEMORY = 70
"""Exit status of a worker that held more memory than it may."""
_LOOK = 0.1  # seconds between two looks at memory and parent while a file is read
_AT_REST = 250_000_000  # bytes above which a worker ends after its file
_HEADER = struct.Struct(">II")


def head(first: int, second: int) -> bytes:
    """What goes before a message on the pipe. A request: bytes of the name and of the file. An answer: its bytes,
    and 1 when the worker ends after it."""
    return _HEADER.pack(first, second)


def sizes(start: bytes) -> tuple[int, int]:
    """The two numbers of a head."""
    first, second = _HEADER.unpack(start)
    return int(first), int(second)


def document_message(document: ParsedDocument) -> bytes:
    """The answer for a file that was read."""
    return orjson.dumps((document.title, document.text, document.pages, document.url))


def failure_message(reason: str) -> bytes:
    """The answer for a file that was not."""
    return orjson.dumps(reason)


def read_answer(message: bytes) -> ParsedDocument:
    """The document of an answer.

    Raises:
        ParseFailed: the answer is a reason.
    """
    answer: str | tuple[str, str, list[tuple[int, int]], str] = orjson.loads(message)
    if isinstance(answer, str):
        raise ParseFailed(answer)
    title, text, pages, url = answer
    return ParsedDocument(title, text, tuple((offset, number) for offset, number in pages), url)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()


def _held() -> int:
    """Bytes of memory that this process holds; on macOS the most so far (on Linux that counts the parent's as well)."""
    return _resident() if sys.platform == "linux" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _guard(busy: threading.Event, limit: int, parent: int) -> None:
    """Ends the process when it holds too much memory or its parent has gone; looks only while it is busy."""
    pause = threading.Event()
    while True:
        busy.wait()
        if _held() > limit:
            os._exit(OUT_OF_MEMORY)
        if os.getppid() != parent:
            os._exit(1)
        pause.wait(_LOOK)


def _limit(megabytes: int) -> None:
    os.nice(5)  # a chat goes first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere this limit leaves out most memory; the guard looks everywhere
        size = megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))


def _answer(name: str, data: bytes, expanded: int) -> bytes:
    from knowledge.conversion import convert  # the parsers take a while to load: only when a file is there

    kind = kind_of(name)
    assert kind is not None, "the parent asks for files of supported kinds only"
    try:
        return document_message(convert(data, name, kind, expanded))
    except ParseFailed as failure:
        return failure_message(str(failure))


def _receive(requests: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes, none when the pipe ends before."""
    parts = bytearray()
    while len(parts) < size:
        part = requests.read(size - len(parts))
        if not part:
            return b""
        parts += part
    return bytes(parts)


def _send(answers: BinaryIO, message: bytes, ending: bool = False) -> None:
    answers.write(head(len(message), int(ending)) + message)
    answers.flush()


def _serve(requests: BinaryIO, answers: BinaryIO, megabytes: int, expanded: int, idle: float) -> None:
    busy = threading.Event()
    limit = megabytes * 1_000_000
    threading.Thread(target=_guard, args=(busy, limit, os.getppid()), daemon=True).start()

    def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """A parser broke on this file: the parent is told in what way, and this process ends."""
        del trace
        reason = f"needs more than {megabytes} MB of memory" if kind is MemoryError else f"{kind.__name__}: {error}"
        _send(answers, failure_message(f"the parser failed on this file: {reason[:300]}"), ending=True)
        signal.raise_signal(signal.SIGTERM)

    sys.excepthook = report
    while select.select([requests], [], [], idle)[0]:
        start = _receive(requests, _HEADER.size)
        if not start:
            return  # the parent has gone
        name_size, data_size = sizes(start)
        name, data = _receive(requests, name_size), _receive(requests, data_size)
        busy.set()
        message = _answer(name.decode(), data, expanded)
        busy.clear()
        ending = _held() > min(limit // 3, _AT_REST)  # memory at rest stays small: the next file gets a fresh process
        _send(answers, message, ending)
        if ending:
            return


def main(arguments: list[str]) -> None:
    """Serves requests until nothing more comes."""
    megabytes, expanded, idle = int(arguments[0]), int(arguments[1]), float(arguments[2])
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    _limit(megabytes)
    _serve(requests, answers, megabytes, expanded * 1_000_000, idle)
    signal.raise_signal(signal.SIGTERM)  # the parsers' own threads would crash a finalising interpreter


if __name__ == "__main__":
    main(sys.argv[1:])
