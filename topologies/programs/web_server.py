"""A guest that serves HTTP with Python's http.server over a stack of its own.  Usage: web_server.py PORT"""

import contextlib
import http.server
import sys

import vnet


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET with a page, and GET /bytes/N with N bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        _, _, size = self.path.partition("/bytes/")
        body = bytes(int(size)) if size.isdigit() else f"{self.path} for {self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


with contextlib.ExitStack() as closing:
    nic = closing.enter_context(vnet.attach())
    stack = closing.enter_context(nic.stack())
    server = closing.enter_context(stack.server(http.server.ThreadingHTTPServer, int(sys.argv[1]), Handler))
    print("serving at", *nic.addresses, flush=True)
    with contextlib.suppress(vnet.LanClosed):
        server.serve_forever()
