"""Fetches a URL with urllib over a stack of its own and prints what came.  Usage: web_fetch.py URL"""

import sys
import urllib.error

import vnet

with vnet.attach() as nic, nic.stack() as stack:
    try:
        with stack.url_opener().open(sys.argv[1], timeout=5) as response:
            body = response.read()
    except urllib.error.URLError as error:
        sys.exit(f"{sys.argv[1]}: {error.reason}")
print(body.decode().rstrip() if len(body) < 1000 else f"{len(body)} bytes")
