"""A web server that needs a moment before it listens, over a TCP/IP stack of its own.  Usage: slow_server.py PORT"""

import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import vnet


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"ready\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


with vnet.attach() as nic, nic.stack() as stack:
    print("warming up", flush=True)
    time.sleep(0.3)
    with stack.server(HTTPServer, int(sys.argv[1]), Page) as server:
        server.serve_forever()
