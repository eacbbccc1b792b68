"""Uvicorn's fast HTTP parser, with a bound on what it keeps of a request's head; its own has none."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
"""Bytes that may come before a request's headers are complete. The exact limit, `max_header_bytes`, is the guard's;
this one keeps a client that never ends its headers from filling the memory."""

TOO_LONG = b"the request's headers are too long"
REFUSAL = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(TOO_LONG), TOO_LONG)
)


class BoundedHead(HttpToolsProtocol):
    """A connection whose requests must end their headers before they are too long."""

    _in_head = False
    _head = 0
    """Bytes of an unfinished head that have come after the piece in which it began."""

    def data_received(self, data: bytes) -> None:
        """Parses what came; answers 431 and hangs up when too much of it is a head without an end."""
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(REFUSAL)
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request's head begins."""
        self._in_head, self._head = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._in_head = False
        super().on_headers_complete()
