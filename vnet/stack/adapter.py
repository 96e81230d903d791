"""requests on the LAN."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

try:
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
    from urllib3.util.ssl_ import create_urllib3_context
except ImportError as _error:
    from ..errors import MachineLacks

    raise MachineLacks(f"LanAdapter needs requests ({_error}): pip install 'vnet[requests]'") from None

import socket

from .tls import tls_context

if TYPE_CHECKING:
    from .stack import Stack

__all__ = ["LanAdapter"]


class LanAdapter(HTTPAdapter):
    """Has a session of requests go over the LAN: ``session.mount("http://", LanAdapter(stack))``.

    Arguments:
        stack: the stack whose sockets it takes.
        tls: the context for https; ``None`` for one of urllib3, to which ``verify=`` and ``cert=`` apply as always.
        options: those of :class:`requests.adapters.HTTPAdapter`.
    """

    def __init__(self, stack: Stack, *, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        self._stack = stack
        self._tls = tls
        super().__init__(**options)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Makes the pool of connections; requests calls it."""
        if self._tls is not None:
            options["ssl_context"] = tls_context(self._tls)
        super().init_poolmanager(connections, maxsize, block, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._stack)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Raises ``ValueError``: proxies of the machine are not on the LAN."""
        raise ValueError(f"the proxy {proxy} is not on the LAN: set session.trust_env = False, or pass proxies={{}}")


def _pools(stack: Stack) -> dict[str, type[HTTPConnectionPool]]:
    class Http(_Lan, HTTPConnection):
        pass

    class Https(_Lan, HTTPSConnection):
        def connect(self) -> None:
            if self.ssl_context is None:
                # One for each connection, as urllib3 does: what a request trusts, the next need not.
                self.ssl_context = tls_context(create_urllib3_context())
            super().connect()

    Http.stack = Https.stack = stack

    class HttpPool(HTTPConnectionPool):
        ConnectionCls = Http

    class HttpsPool(HTTPSConnectionPool):
        ConnectionCls = Https

    return {"http": HttpPool, "https": HttpsPool}


class _Lan(HTTPConnection):
    """Goes before a connection's class and has it connect through a stack; errors are urllib3's, as of its own."""

    stack: Stack

    def _new_conn(self) -> socket.socket:
        try:
            sock = self.stack.create_connection((self._dns_host, self.port or 0), self.timeout, self.source_address)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            message = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            raise ConnectTimeoutError(self, message) from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        return sock
