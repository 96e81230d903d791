"""TLS over sockets of the LAN, for programs that block.

:mod:`ssl` speaks TLS over a descriptor of the kernel.  Here it encrypts and decrypts in memory (``ssl.MemoryBIO``), and
the stack's socket carries what comes of it.  asyncio does that by itself and needs nothing of this.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .addresses import error
from .sockets import Socket
from .stream import Deadline, StreamSocket

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["TlsSocket", "tls_context"]

_Value = TypeVar("_Value")

# Bytes that are encrypted or read at one time.
_PIECE = 1 << 16


def tls_context(context: ssl.SSLContext | None = None) -> ssl.SSLContext:
    """Has a context wrap sockets of the LAN, beside those of the kernel, and returns it.

    Arguments:
        context: any context; ``None`` for a new one of :func:`ssl.create_default_context`.
    """
    if context is None:
        context = ssl.create_default_context()
    context.sslsocket_class = TlsSocket  # type: ignore[assignment]
    return context


class TlsSocket(StreamSocket):
    """A TCP socket of the LAN that speaks TLS: what ``context.wrap_socket(sock)`` returns after :func:`tls_context`.

    It is used as :class:`ssl.SSLSocket`, and as there the socket that was wrapped is not to be used any more.
    """

    def __init__(
        self,
        sock: StreamSocket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
        handshake: bool,
        suppress_ragged_eofs: bool,
    ) -> None:
        super().__init__(sock._stack, sock.family)
        self.context = context
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._handshake_at_once = handshake
        self._wanted_session = session
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        # Guards the three above; the two others are held while something is carried, for its order's sake.
        self._coding = threading.Lock()
        self._carrying_out, self._carrying_in = threading.Lock(), threading.Lock()
        self._unsent = b""
        # Bytes of a send() that are encrypted, but of which not all would go without waiting.
        self._promised = 0
        self._take_over(sock)

    @classmethod
    def _create(
        cls,
        sock: Any,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> Any:
        """What ``SSLContext.wrap_socket`` calls."""
        if not isinstance(sock, Socket):
            return ssl.SSLSocket._create(  # type: ignore[attr-defined]
                sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname, context, session
            )
        if not isinstance(sock, StreamSocket):
            raise NotImplementedError("only stream sockets are supported")
        assert context is not None
        if server_side and (server_hostname or session is not None):
            raise ValueError("server_hostname and session can only be specified in client mode")
        if context.check_hostname and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        wrapped = cls(
            sock,
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            session=session,
            handshake=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
        )
        try:
            if wrapped._connected():
                wrapped._begin_tls()
        except BaseException:
            wrapped.close()
            raise
        return wrapped

    def _begin_tls(self) -> None:
        self._tls = self.context.wrap_bio(
            self._incoming, self._outgoing, self.server_side, self.server_hostname, self._wanted_session
        )
        if self._handshake_at_once:
            if self._timeout == 0:
                raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
            self.do_handshake()

    # Connecting and accepting

    def connect(self, address: Any, /) -> None:
        """Connects and, unless that was to be left, shakes hands."""
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        super().connect(address)
        self._begin_tls()

    def accept(self) -> tuple[TlsSocket, Any]:
        """Waits for a connection and returns it, with TLS, and its peer's address."""
        sock, address = super().accept()
        wrapped = self.context.wrap_socket(
            sock,
            server_side=True,
            do_handshake_on_connect=self._handshake_at_once,
            suppress_ragged_eofs=self.suppress_ragged_eofs,
        )
        return wrapped, address  # type: ignore[return-value]

    def do_handshake(self, block: bool = False) -> None:
        """Shakes hands.

        Raises:
            ssl.SSLError: the other end speaks no TLS, or its certificate is not to be trusted.
            ssl.SSLWantReadError: the socket does not wait; to be called again when it is readable.
        """
        deadline = Deadline(None if block else self._timeout)
        self._talk(lambda tls: tls.do_handshake(), deadline, "handshake")
        self._carry_out(deadline, "handshake")

    def unwrap(self) -> StreamSocket:
        """Ends TLS in good order, waits for the other end to do so, and returns a plain socket."""
        deadline = Deadline(self._timeout)
        self._talk(lambda tls: tls.unwrap(), deadline, "shutdown")
        self._carry_out(deadline, "shutdown")
        plain = StreamSocket(self._stack, self._family)
        plain._take_over(self)
        return plain

    # Talking

    def _object(self) -> ssl.SSLObject:
        if self._tls is None:
            self._check()
            raise error(errno.ENOTCONN)
        return self._tls

    def _talk(self, act: Callable[[ssl.SSLObject], _Value], deadline: Deadline, what: str) -> _Value:
        """Does something that TLS does, carrying for it what has to come and go."""
        tls = self._object()
        while True:
            try:
                with self._coding:
                    value = act(tls)
            except ssl.SSLWantReadError:
                if what == "read":
                    self._carry_out_some()
                else:
                    self._carry_out(deadline, what)
                self._carry_in(deadline, what)
            except ssl.SSLError:
                # The alert that says why.
                self._carry_out_some()
                raise
            else:
                return value

    def _carry_out(self, deadline: Deadline, what: str) -> None:
        with self._carrying_out:
            with self._coding:
                self._unsent += self._outgoing.read()
            try:
                while self._unsent:
                    sent = self._end.send(self._unsent, deadline.left())
                    self._unsent = self._unsent[sent:]
            except BlockingIOError:
                raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, f"the {what} would wait") from None
            except TimeoutError as late:
                if late.errno is not None:
                    raise  # the connection's own
                raise TimeoutError(f"The {what} operation timed out") from None

    def _carry_out_some(self) -> None:
        """Sends what goes without waiting.

        Who receives must not wait for room to send: the other end may wait for the same, each for the other.
        """
        if not self._carrying_out.acquire(blocking=False):
            return  # another thread sends, or will
        try:
            with self._coding:
                self._unsent += self._outgoing.read()
            # What went wrong is said to who sends or receives.
            with contextlib.suppress(OSError):
                while self._unsent:
                    sent = self._end.send(self._unsent, 0.0)
                    self._unsent = self._unsent[sent:]
        finally:
            self._carrying_out.release()

    def _carry_in(self, deadline: Deadline, what: str) -> None:
        before = self._incoming.pending
        with self._carrying_in:
            if self._incoming.pending > before:
                return  # another thread was quicker
            try:
                data = self._end.recv(_PIECE, deadline.left())
            except BlockingIOError:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, f"the {what} would wait") from None
            except TimeoutError as late:
                if late.errno is not None:
                    raise
                raise TimeoutError(f"The {what} operation timed out") from None
            with self._coding:
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()

    # Sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Sends some of ``data`` and returns how many bytes."""
        self._plain(flags)
        deadline = Deadline(self._timeout)
        if not self._promised:
            piece = memoryview(data).cast("B")[:_PIECE]
            if not len(piece):
                return 0
            # What could not go before goes first.
            self._carry_out(deadline, "write")
            self._promised = self._talk(lambda tls: tls.write(piece), deadline, "write")
        # Raises SSLWantWriteError, upon which the program calls again with the same data, as of any SSLSocket.
        self._carry_out(deadline, "write")
        sent, self._promised = self._promised, 0
        return sent

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        """Sends all of ``data``."""
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            at += self.send(view[at : at + _PIECE], flags)

    def write(self, data: Buffer) -> int:
        """Sends as :meth:`send`."""
        return self.send(data)

    # Receiving

    def recv(self, bufsize: int = 1024, flags: int = 0, /) -> bytes:
        """Returns up to ``bufsize`` bytes; ``b""`` when the other end has ended."""
        self._plain(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if bufsize == 0:
            return b""
        try:
            data = self._talk(lambda tls: tls.read(bufsize), Deadline(self._timeout), "read")
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            if self.suppress_ragged_eofs:
                return b""
            raise
        if self._outgoing.pending:
            # Such as a new key, which the other end asked for.
            self._carry_out_some()
        return data

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receives up to ``nbytes`` bytes, or as many as fit, and returns how many."""
        view = memoryview(buffer).cast("B")
        if nbytes > len(view):
            raise ValueError("buffer too small for requested bytes")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def read(self, len: int = 1024, buffer: bytearray | None = None) -> Any:
        """Receives as :meth:`recv`, or into ``buffer``."""
        return self.recv(len) if buffer is None else self.recv_into(buffer, len)

    def pending(self) -> int:
        """Returns how many decrypted bytes wait."""
        return self._object().pending()

    def shutdown(self, how: int, /) -> None:
        """Shuts the connection under TLS down, without its farewell; :meth:`unwrap` says that."""
        super().shutdown(how)

    @staticmethod
    def _plain(flags: int) -> None:
        if flags & ~socket.MSG_NOSIGNAL:
            raise ValueError(f"non-zero flags not allowed in calls on {TlsSocket.__name__}")

    # What was agreed on

    def getpeercert(self, binary_form: bool = False) -> Any:
        """Returns the other end's certificate, as a dictionary or as DER bytes; ``None`` without one."""
        return self._object().getpeercert(binary_form)

    def version(self) -> str | None:
        """Returns the version of TLS, such as ``TLSv1.3``."""
        return None if self._tls is None else self._tls.version()

    def cipher(self) -> tuple[str, str, int] | None:
        """Returns the cipher's name, its protocol and its secret bits."""
        return None if self._tls is None else self._tls.cipher()

    def shared_ciphers(self) -> list[tuple[str, str, int]] | None:
        """Returns what ciphers both ends know, on the server's side."""
        return None if self._tls is None else self._tls.shared_ciphers()

    def compression(self) -> str | None:
        """Returns the compression's name, or ``None``."""
        return None if self._tls is None else self._tls.compression()

    def selected_alpn_protocol(self) -> str | None:
        """Returns the protocol that was agreed on by ALPN."""
        return None if self._tls is None else self._tls.selected_alpn_protocol()

    def get_channel_binding(self, cb_type: str = "tls-unique") -> bytes | None:
        """Returns data that binds to this connection (RFC 5929)."""
        return None if self._tls is None else self._tls.get_channel_binding(cb_type)

    @property
    def session(self) -> ssl.SSLSession | None:
        """The session, to be resumed by another connection."""
        return None if self._tls is None else self._tls.session

    @property
    def session_reused(self) -> bool | None:
        """Whether a session was resumed."""
        return None if self._tls is None else self._tls.session_reused
