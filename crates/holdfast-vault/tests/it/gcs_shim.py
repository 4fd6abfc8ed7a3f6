"""Speaks enough of Google Cloud Storage's XML API for the tests, in front of an S3 emulator.

No emulator that can be installed here has that API (those on PyPI speak the JSON one). The two APIs
differ little; this renames what differs. So it shows that our code handles what object_store's
Google client does; it shows nothing about Google's own service.
"""
import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

UPSTREAM = sys.argv[1].removeprefix("http://")


class Shim(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self):
        headers = {k: v for k, v in self.headers.items() if not k.lower().startswith(("host", "x-goog", "authorization"))}
        if self.headers.get("x-goog-if-generation-match") == "0":
            headers["If-None-Match"] = "*"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(UPSTREAM)
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for k, v in answer.getheaders():
            if k.lower() in ("etag", "last-modified", "content-type", "content-range"):
                self.send_header(k, v)
        self.send_header("x-goog-generation", "1")
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Shim)
print(server.server_port, flush=True)
server.serve_forever()
