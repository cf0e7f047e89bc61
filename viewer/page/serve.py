"""The page over HTTP: only what was opened can be read, and nothing can be changed.

At a loopback address no token is asked for: another site's script can neither read an answer (no CORS header allows
it) nor pass as this site by a name of its own (the Host header must be the address itself). At any other address the
path begins with a token that is printed once.
"""

from __future__ import annotations

import ipaddress
import secrets
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from datasets.errors import InputError
from viewer.layers import refresh_all
from viewer.page.build import document
from viewer.page.packing import first_chunk, frame_chunk
from viewer.reading import Contents
from viewer.viewpoint import Viewpoint

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Page:
    """What the server gives: the document and its parts, made when they are asked for."""

    def __init__(self, contents: Contents, start: Viewpoint | None, frame: int) -> None:
        self.contents, self.start, self.frame = contents, start, frame
        self._lock = threading.Lock()
        # A tab that an earlier server filled must not take this one's for its own.
        self._server, self._version = secrets.token_hex(4), 0
        self._chunk = lru_cache(maxsize=4)(self._make)

    def version(self) -> str:
        """Another one after the file of a splat was written again."""
        with self._lock:
            # A splat that is half written, or none any more, stays as it was read before.
            if refresh_all(self.contents.layers)[0]:
                self._version += 1
                self._chunk.cache_clear()
        return f"{self._server}-{self._version}"

    def document(self) -> str:
        """The page without its parts."""
        return document(self.contents, self.start, self.frame, version=self.version())

    def chunk(self, index: int) -> bytes | None:
        """Part ``index``, or None where there is none."""
        if not 0 <= index <= self.contents.frames:
            return None
        with self._lock:
            return self._chunk(index)

    def _make(self, index: int) -> bytes:
        return frame_chunk(self.contents.layers, index - 1) if index else first_chunk(self.contents.layers)


def make_server(
    contents: Contents, host: str = "127.0.0.1", port: int = 8080, start: Viewpoint | None = None, frame: int = 0
) -> tuple[ThreadingHTTPServer, str]:
    """A server that is bound but does not serve yet, and the address to open.

    Raises:
        InputError: for a host that is no address, or one that cannot be bound.
    """
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise InputError(f"--host is {host!r}: give an IP address such as 127.0.0.1 or 0.0.0.0") from error
    if ":" in host:
        raise InputError(f"--host is {host!r}: give an IPv4 address")
    if not 0 <= port < 65536:
        raise InputError(f"--port is {port}: give 0 to 65535")
    prefix = "/" if loopback else f"/{secrets.token_urlsafe(24)}/"
    page = Page(contents, start, frame)

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "view3d", ""
        timeout = 60

        def do_GET(self) -> None:
            status = 200
            try:
                found = self._found()
            except InputError as error:  # a photo or a moment whose file cannot be used
                status, found = 422, ("text/plain; charset=utf-8", str(error).encode())
            if found is None:
                self.send_error(404)
                return
            kind, body = found
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _found(self) -> tuple[str, bytes] | None:
            """Type and content of what the path names; None for everything that is not part of the page."""
            if loopback and self.headers.get("Host", "") not in (
                f"{host}:{server.server_port}",
                f"localhost:{server.server_port}",
            ):
                return None
            # Compared in constant time, so that a token cannot be guessed letter by letter.
            given = self.path[: len(prefix)].encode("latin-1", "replace")
            if not secrets.compare_digest(given, prefix.encode()):
                return None
            name = self.path[len(prefix) :]
            if name == "":
                return "text/html; charset=utf-8", page.document().encode()
            if name == "version":
                return "text/plain", page.version().encode()
            number = name.removeprefix("chunk/")
            if number == name or not (number.isascii() and number.isdigit() and len(number) < 9):
                return None
            body = page.chunk(int(number))
            return None if body is None else ("application/octet-stream", body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a line for every part would hide the address."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise InputError(f"cannot serve at {host}:{port} ({error.strerror}): give another --port, or 0") from error
    server.daemon_threads = True
    return server, f"http://{host}:{server.server_port}{prefix}"


def serve(contents: Contents, host: str, port: int, start: Viewpoint | None = None, frame: int = 0) -> None:
    """Serve until Ctrl-C; prints the address."""
    server, address = make_server(contents, host, port, start, frame)
    print(f"{address}    (Ctrl-C ends)", flush=True)
    with server:
        server.serve_forever()
