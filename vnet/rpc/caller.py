"""What a caller has in its hands: a stand-in for the object that another guest serves."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

from ..errors import CallCancelled, InterfaceError
from .channel import Channel
from .interface import Interface
from .method import Method
from .wire import HEAD, check_timeout

__all__ = ["Caller", "Pending", "Proxy", "RemoteMethod", "Stream", "start", "with_timeout"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")


class RemoteMethod:
    """A method of a service; calling it calls the service.

    Arguments are bound and checked as those of a local function, before anything is sent.
    """

    def __init__(self, method: Method, channel: Channel, timeout: float | None, attach: Callable[[str], Any]) -> None:
        self.__name__ = method.name
        self.__qualname__ = method.full_name
        self.__doc__ = method.doc or None
        self.__signature__ = method.signature
        self._method = method
        self._channel = channel
        self._timeout = timeout
        self._attach = attach
        self._plain = not method.stream and not method.returns_region

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method, channel = self._method, self._channel
        message = method.encode(args, kwargs, HEAD, channel.deepest)
        if self._plain:
            return channel.call(method, message, self._timeout)
        if method.stream:
            return Stream(self, message)
        return self._given(channel.call(method, message, self._timeout))

    def start(self, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Calls without waiting for the answer; see :func:`vnet.rpc.start`."""
        if self._method.stream:
            raise InterfaceError(
                f"{self._method.full_name} is a stream; call it, and take its values when they are there"
            )
        return Pending(self, self._method.encode(args, kwargs, HEAD, self._channel.deepest))

    def _given(self, value: Any) -> Any:
        """A value as the caller gets it: of a handle, the region."""
        return self._attach(value) if self._method.returns_region and value is not None else value

    def __repr__(self) -> str:
        return f"<{self._method.text()} of {self._channel.where}>"


class Stream(Iterator[Any]):
    """The values of a stream, one after another.

    The service makes them ahead of whoever takes them, as many as the caller's ``window`` says, and no more.  Closing
    it, or leaving it as a context, ends the generator at the service.  The timeout holds for each value.
    """

    def __init__(self, remote: RemoteMethod, message: bytearray) -> None:
        self._remote = remote
        self._channel = remote._channel
        self._window = self._channel.limits.window
        self._taken = 0
        # Until it has begun there is nothing to end.
        self._ended = True
        self._number, self._waiting = self._channel.begin(remote._method, message, remote._timeout, self._window)
        self._ended = False

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        remote = self._remote
        try:
            there, value = self._channel.next_value(remote._method, self._number, self._waiting, remote._timeout)
        except BaseException:
            self.close()
            raise
        if not there:
            self._ended = True
            self._channel.forget(self._number)
            raise StopIteration
        self._taken += 1
        # Half at a time: one message for many values, and the service never waits for it.
        if self._taken * 2 >= self._window:
            self._channel.give_credit(self._number, self._taken)
            self._taken = 0
        return remote._given(value)

    def close(self) -> None:
        """Takes no more values.  May be called twice."""
        if not self._ended:
            self._ended = True
            self._channel.give_up(self._number)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self._ended = True
            # Not more than that: the collector may run in a thread that holds the channel's locks.
            self._channel.abandon(self._number)


class Pending(Generic[R]):
    """A call under way, of which the answer is taken later.  Made by :func:`vnet.rpc.start`."""

    def __init__(self, remote: RemoteMethod, message: bytearray) -> None:
        self._remote = remote
        self._channel = remote._channel
        self._number, self._waiting = self._channel.begin(remote._method, message, remote._timeout)
        self._cancelled = False
        self._data: bytes | None = None

    def result(self, timeout: float | None = None) -> R:
        """Waits for the answer and returns it; may be called again.

        Arguments:
            timeout: seconds to wait; after that the call goes on, and can be waited for again.

        Raises:
            CallTimeout: it did not come in time.
            CallCancelled: :meth:`cancel` was called.
            Exception: what the service raised.
        """
        if self._cancelled:
            raise CallCancelled(f"the call of {self._remote._method.name} was cancelled")
        if self._data is None:
            limit = self._remote._timeout if timeout is None else check_timeout("timeout", timeout)
            data = self._channel.wait(self._number, self._waiting, limit)
            if self._cancelled:
                raise CallCancelled(f"the call of {self._remote._method.name} was cancelled")
            self._data = data
            self._channel.forget(self._number)
        return cast(R, self._remote._given(self._channel.result(self._remote._method, self._data)))

    def done(self) -> bool:
        """Whether the answer is there, or will never be; does not wait."""
        return self._cancelled or self._data is not None or self._channel.poll(self._waiting)

    def cancel(self) -> bool:
        """Gives the call up and tells the service; whether that came before the answer."""
        if self._data is not None or self._cancelled:
            return False
        self._cancelled = True
        self._channel.give_up(self._number)
        return True

    def __del__(self) -> None:
        # Nobody will take the answer; the call itself goes on.
        if getattr(self, "_data", b"") is None and not self._cancelled:
            self._channel.forget(self._number)

    def __repr__(self) -> str:
        state = "cancelled" if self._cancelled else "answered" if self._data is not None else "under way"
        return f"<call of {self._remote._method.name} of {self._channel.where}, {state}>"


class Proxy:
    """Stands for the object that another guest serves: has the interface's methods, and nothing else."""

    _caller: Caller[Any]
    _timeout: float | None

    def __init__(self, caller: Caller[Any], timeout: float | None) -> None:
        own = vars(self)
        own["_caller"], own["_timeout"] = caller, timeout
        for method in caller.interface.numbered:
            own[method.name] = RemoteMethod(method, caller._channel, timeout, caller._attach)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Asked by Python's own machinery, which expects to hear that there is none.
            raise AttributeError(name)
        interface: Interface = self._caller.interface
        near = difflib.get_close_matches(name, interface.methods, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it declares {', '.join(interface.methods)}"
        raise NoSuchMethod(f"{interface.name} declares no method {name!r}; {hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise InterfaceError(f"{name!r} cannot be set: {self._caller.interface.name} stands for an object elsewhere")

    def __repr__(self) -> str:
        return f"<{self._caller.interface.name} of {self._caller._channel.where}>"

    def __dir__(self) -> list[str]:
        return sorted(self._caller.interface.methods)


class NoSuchMethod(InterfaceError, AttributeError):
    """The interface declares no method of that name."""


class Caller(Generic[T]):
    """A caller's pipe to a service.  A context manager whose value is the stand-in for the service's object.

    Made by ``guest.caller("host", "disk", BlockStore)``.  Threads may call at one time.

    Attributes:
        proxy: the stand-in; its methods are those of the interface.
        interface: what may be called.
    """

    def __init__(self, channel: Channel, timeout: float | None, attach: Callable[[str], Any]) -> None:
        self.interface = channel.interface
        self._channel = channel
        self._attach = attach
        self.proxy: T = cast(T, Proxy(self, timeout))

    def with_timeout(self, timeout: float | None) -> T:
        """Another stand-in over the same pipe, of which calls wait up to ``timeout`` seconds for their answers."""
        return cast(T, Proxy(self, check_timeout("timeout", timeout)))

    @property
    def gone(self) -> bool:
        """Whether it was seen that the service is gone."""
        return self._channel.gone

    def close(self) -> None:
        """Closes the pipe; what waits for answers ends with :class:`vnet.ServiceGone`.  May be called twice."""
        self._channel.close()

    def __enter__(self) -> T:
        return self.proxy

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Calling it in place of its stand-in is the first mistake that one makes.
            raise AttributeError(
                f"a Caller has no {name!r}: what the interface declares is called on its stand-in, which is .proxy, or "
                "what `with guest.caller(...) as stand_in` gives"
            )

    def __repr__(self) -> str:
        return f"<caller of {self._channel.where}{', gone' if self.gone else ''}>"


def with_timeout(proxy: T, timeout: float | None) -> T:
    """A stand-in as ``proxy``, of which calls wait up to ``timeout`` seconds for their answers; ``None``: for ever.

    >>> with_timeout(disk, 0.5).read(3)  # doctest: +SKIP
    """
    # Those of threads and those of tasks both keep it there.
    caller = getattr(proxy, "__dict__", {}).get("_caller")
    if caller is None or not hasattr(caller, "with_timeout"):
        raise InterfaceError(f"with_timeout() takes what a caller gave, and {type(proxy).__name__} is something else")
    return cast(T, caller.with_timeout(timeout))


def start(method: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Pending[R]:
    """Calls a method of a stand-in without waiting for the answer: ``start(disk.read, 3)``.

    Returns:
        The call under way; it can be waited for and cancelled.
    """
    if not isinstance(method, RemoteMethod):
        raise InterfaceError(f"start() takes a method of what a caller gave, and {method!r} is something else")
    return method.start(*args, **kwargs)
