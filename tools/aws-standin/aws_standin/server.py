"""The HTTP server: threads, keep-alive, and connections that can be cut on purpose."""

import json
import socket
import struct
import sys
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import control, dispatch


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, world):
        self.world = world
        super().__init__(address, Handler)

    def handle_error(self, request, client_address):
        """Clients hang up when they like; that is no error of ours. Anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "aws-standin"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _serve(self):
        body = self._body()
        world = self.server.world
        if self.path.startswith("/_standin"):
            status, value = control.handle(world, self.command, self.path, body)
            self._answer(status, [("Content-Type", "application/json")], json.dumps(value, default=str).encode())
            return
        try:
            request = dispatch.Request(self.command, self.path, self.headers, body)
            status, headers, content = dispatch.handle(world, request, self.server.server_address)
        except dispatch.Cut as cut:
            self.close_connection = True
            if cut.answer is not None:
                status, _, content = cut.answer
                head = f"HTTP/1.1 {status} OK\r\nContent-Length: {len(content)}\r\nContent-Type: text/plain\r\n\r\n"
                self.wfile.write(head.encode() + content[: len(content) // 2])
                self.wfile.flush()
                time.sleep(0.05)  # the reset below would overtake it
            # A reset, not an orderly end: what a cut network looks like to the client.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self._answer(status, headers, content)

    def _answer(self, status, headers, content):
        lines = [f"HTTP/1.1 {status} {self.responses.get(status, ('',))[0]}"]
        names = {name.lower() for name, _ in headers}
        lines += [f"{name}: {value}" for name, value in headers if name.lower() not in ("content-length", "connection", "transfer-encoding")]
        if "date" not in names:
            # Virtual, so that clients which take the service's word for the time agree with it.
            lines.append(f"Date: {formatdate(self.server.world.now(), usegmt=True)}")
        # A HEAD answer names the length of what a GET would carry.
        length = next((v for n, v in headers if n.lower() == "content-length"), None) if self.command == "HEAD" else None
        lines.append(f"Content-Length: {length or len(content)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        try:
            self.wfile.write(head + (b"" if self.command == "HEAD" else content))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do_OPTIONS = _serve
