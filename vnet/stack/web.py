"""HTTP clients of the standard library on the LAN."""

from __future__ import annotations

import functools
import http.client
import urllib.request
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .tls import tls_context

if TYPE_CHECKING:
    import ssl

    from .stack import Stack

__all__ = ["HTTPConnection", "HTTPSConnection", "http_connection", "url_opener"]


class HTTPConnection(http.client.HTTPConnection):
    """A connection of :mod:`http.client` whose socket is a stack's."""

    def __init__(self, host: str, port: int | None = None, *, stack: Stack, **options: Any) -> None:
        super().__init__(host, port, **options)
        # Where http.client looks for what connects.
        self._create_connection = stack.create_connection


class HTTPSConnection(http.client.HTTPSConnection):
    """The same with TLS."""

    def __init__(self, host: str, port: int | None = None, *, stack: Stack, **options: Any) -> None:
        super().__init__(host, port, **options)
        self._create_connection = stack.create_connection


def http_connection(
    stack: Stack, host: str, port: int | None, timeout: tuple[float | None] | None, tls: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """Returns a connection; see :meth:`Stack.http_connection`."""
    options: dict[str, Any] = {} if timeout is None else {"timeout": timeout[0]}
    if tls is None:
        return HTTPConnection(host, port, stack=stack, **options)
    return HTTPSConnection(host, port, stack=stack, context=tls_context(tls), **options)


def url_opener(stack: Stack, handlers: Sequence[Any], tls: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    """Returns an opener; see :meth:`Stack.url_opener`."""
    context = tls_context(tls)

    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(HTTPConnection, stack=stack), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(HTTPSConnection, stack=stack, context=context), request)

    # The machine's proxies are not on the LAN.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), Http, Https, *handlers)
