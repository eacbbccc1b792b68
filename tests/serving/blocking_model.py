"""A model server on a real socket for tests of whole processes: it breaks off, or never answers."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

MODELS = b'{"object": "list", "data": [{"id": "m", "object": "model", "max_model_len": 8192}]}'


@contextmanager
def model_server(*, breaks: bool) -> Generator[tuple[str, Event]]:
    """Its address, and an event that is set when a question has come; `breaks`: it ends after its first words."""
    asked, over = Event(), Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply("application/json", MODELS)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.set()
            if breaks:
                delta = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "The Elm Room "}}]}
                self.reply("text/event-stream", f"data: {json.dumps(delta)}\n\n".encode())
            else:
                over.wait()

        def reply(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest shows what matters."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        finally:
            over.set()
            server.shutdown()
            thread.join()
