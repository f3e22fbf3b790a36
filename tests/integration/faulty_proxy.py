"""An HTTP proxy in front of an S3 server that is overloaded and loses connections, as S3 does under load."""

import http.client
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class FaultyProxy:
    """Passes requests on, except those that it spoils.

    Of every hundred requests some are answered 503 SlowDown, some lose their connection before the server sees them and
    some after it has answered, which a client cannot tell apart.

    Attributes:
        url: to give to clients.
        spoiled: how often each kind of fault happened.
    """

    def __init__(
        self, target: str, *, slow_down: int, reset_before: int, reset_after: int, seed: int = 0
    ) -> None:
        """Start serving on a free port of loopback; the three numbers are per cent."""
        self.spoiled = {"slow down": 0, "reset before": 0, "reset after": 0}
        shares = (slow_down, reset_before, reset_after)
        chance, lock = random.Random(seed), threading.Lock()
        place = urlsplit(target)
        spoiled = self.spoiled

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fault = None
                with lock:
                    draw = 100 * chance.random()
                    for kind, share in zip(spoiled, shares, strict=True):
                        if 0 <= draw < share:
                            fault = kind
                            spoiled[kind] += 1
                        draw -= share
                if fault == "slow down":
                    self.answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
                    return
                if fault == "reset before":
                    self.lose()
                    return
                server = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() != "connection"
                }
                server.request(self.command, self.path, body, headers)
                response = server.getresponse()
                content = response.read()
                if fault == "reset after":
                    self.lose()
                    return
                kept = {
                    n: v
                    for n, v in response.getheaders()
                    if n.lower() not in ("transfer-encoding", "connection")
                }
                self.answer(response.status, kept, content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() != "content-length" or self.command == "HEAD":
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def lose(self) -> None:
                """Reset the connection, so that the client reads an error and no end of file."""
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.close_connection = True
                self.connection.close()

            def log_message(self, *arguments: object) -> None:
                """Nothing: the test says what matters."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
