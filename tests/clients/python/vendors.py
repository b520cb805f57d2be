"""Providers that a test makes itself: small servers, each behind a connection of its own."""

import contextlib
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from conftest import BROKLE_URL, KEY, call

#: What Brokle shows such a provider, however that wants it shown.
SECRET = "sk-theirs"


class Vendor(BaseHTTPRequestHandler):
    """What a provider says; `kept` is the test's and its own."""

    protocol_version = "HTTP/1.1"

    @property
    def kept(self):
        return self.server.kept

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, body, status=200, kind="application/json"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def vendor(handler, provider, path="", **kept):
    """Starts it and makes a connection to it, of this provider's kind: what it keeps, and the connection's name."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.kept = kept
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"{provider}-{uuid.uuid4().hex[:8]}"
        new = {"provider": provider, "name": name, "secret": SECRET, "base_url": f"http://127.0.0.1:{server.server_port}{path}"}
        head = {"Authorization": f"Bearer {KEY}"}
        status, _, made = call("POST", f"{BROKLE_URL}/api/v1/connections?verify=false", new, head)
        assert status == 201, made
        yield kept, name
        # Others' calls would go there.
        call("DELETE", f"{BROKLE_URL}/api/v1/connections/{made['id']}", None, head)
        server.shutdown()
