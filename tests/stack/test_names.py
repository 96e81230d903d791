"""Names and addresses: NICs' names stand for their addresses, as socket.getaddrinfo would say it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import vnet


def test_a_nics_name_stands_for_its_addresses(stacks: Any) -> None:
    _, client = stacks
    assert client.resolve("web") == ["10.0.0.1", "fd00::1"]
    assert client.resolve("web", socket.AF_INET6) == ["fd00::1"]
    # urllib3 and others write host names in small letters.
    assert client.resolve("WEB") == ["10.0.0.1", "fd00::1"]


def test_an_address_stands_for_itself_in_its_usual_form(stacks: Any) -> None:
    _, client = stacks
    assert client.resolve("10.0.0.77") == ["10.0.0.77"]
    assert client.resolve("FD00:0::0001") == ["fd00::1"]
    assert client.resolve("[fd00::1]") == ["fd00::1"]


def test_localhost_and_the_own_name_are_the_nic_itself(stacks: Any) -> None:
    web, client = stacks
    assert client.resolve("localhost") == client.resolve("client") == list(client.addresses)
    with web.listen(80) as listener, web.connect(("localhost", 80), timeout=10) as sock:
        connection, address = listener.accept()
        connection.close()
        assert address[0] == sock.getsockname()[0] == "10.0.0.1"


def test_a_name_that_nobody_has_is_an_error_with_a_hint(stacks: Any) -> None:
    _, client = stacks
    with pytest.raises(socket.gaierror, match=r"no NIC of this LAN is called 'wbe' \(did you mean 'web'\?\)") as caught:
        client.connect(("wbe", 80))
    assert caught.value.errno == socket.EAI_NONAME
    with pytest.raises(socket.gaierror, match="no DNS is asked"):
        client.resolve("www.example.org")
    with pytest.raises(socket.gaierror, match="no NIC"):
        client.socket().connect(("nobody", 80))


def test_a_name_without_an_address_of_the_family_says_what_it_has(lan: vnet.Lan) -> None:
    lan.attach("old", "10.0.0.50")
    with lan.attach("me").stack() as me:
        assert me.resolve("old") == ["10.0.0.50"]
        with pytest.raises(socket.gaierror, match=r"'old' has no IPv6 address; it has 10\.0\.0\.50"):
            me.resolve("old", socket.AF_INET6)


def test_names_of_another_process_are_asked_of_its_base(named: vnet.Lan) -> None:
    host = named.host("printer")
    with vnet.attach("office", "me") as nic, nic.stack() as me:
        assert me.resolve("printer") == list(host.addresses)
        late = named.host("scanner")
        assert me.resolve("scanner") == list(late.addresses)
        with pytest.raises(socket.gaierror, match="LAN 'office'"):
            me.resolve("prinetr")


@pytest.mark.parametrize(
    "arguments",
    [
        ("10.0.0.1", 80),
        ("10.0.0.1", "80"),
        ("10.0.0.1", "http"),
        ("10.0.0.1", "http", 0, socket.SOCK_DGRAM),
        ("10.0.0.1", "domain"),
        ("10.0.0.1", None, socket.AF_INET),
        ("fd00::1", 80, 0, socket.SOCK_STREAM),
        ("10.0.0.1", 53, 0, socket.SOCK_DGRAM),
        ("10.0.0.1", 53, 0, 0, socket.IPPROTO_UDP),
        (b"10.0.0.1", b"80", socket.AF_INET, socket.SOCK_STREAM),
        (None, 80, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_PASSIVE),
    ],
)
def test_of_addresses_getaddrinfo_says_what_the_socket_module_says(stacks: Any, arguments: Any) -> None:
    def answer(of: Any) -> Any:
        try:
            # Raw sockets, which the machine lists besides, are none of the stack's.
            return [each for each in of.getaddrinfo(*arguments) if each[1] != socket.SOCK_RAW]
        except socket.gaierror as error:
            return error.errno  # a machine may know no services

    assert answer(stacks[0]) == answer(socket)


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("10.0.0.1", "no-such-service"), socket.EAI_SERVICE),
        (("10.0.0.1", 80, socket.AF_INET6), socket.EAI_ADDRFAMILY),
        (("10.0.0.1", 80, socket.AF_UNIX), socket.EAI_FAMILY),
        (("10.0.0.1", 80, 0, 99), socket.EAI_SOCKTYPE),
        (("web.invalid", 80, 0, 0, 0, socket.AI_NUMERICHOST), socket.EAI_NONAME),
        ((None, None), socket.EAI_NONAME),
    ],
)
def test_getaddrinfo_fails_as_the_socket_modules_does(stacks: Any, arguments: Any, number: int) -> None:
    with pytest.raises(socket.gaierror) as expected:
        socket.getaddrinfo(*arguments)
    with pytest.raises(socket.gaierror) as caught:
        stacks[0].getaddrinfo(*arguments)
    assert caught.value.errno == expected.value.errno == number


def test_connecting_tries_each_address_of_a_name(stacks: Any) -> None:
    web, client = stacks
    with web.listen(("fd00::1", 80)) as listener:
        with client.create_connection(("web", 80), 10) as sock:
            assert sock.family == socket.AF_INET6
            assert sock.getpeername() == ("fd00::1", 80, 0, 0)
            assert sock.gettimeout() == 10
            listener.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            client.create_connection(("10.0.0.1", 80))


def test_a_source_address_can_be_chosen(lan: vnet.Lan, stacks: Any) -> None:
    web, client = stacks
    with web.listen(80) as listener, client.create_connection(("web", 80), 10, source_address=("10.0.0.2", 55_555)):
        connection, address = listener.accept()
        connection.close()
        assert address == ("10.0.0.2", 55_555)


def test_listening_on_a_port_takes_both_families(stacks: Any) -> None:
    web, client = stacks
    with web.listen(0) as listener:
        port = listener.getsockname()[1]
        for address in web.addresses:
            with client.connect((address, port), timeout=10) as sock:
                connection, peer = listener.accept()
                connection.close()
                assert peer == sock.getsockname()
                assert connection.family == sock.family
    with web.listen(("10.0.0.1", 0)) as listener, pytest.raises(ConnectionRefusedError):
        client.connect(("fd00::1", listener.getsockname()[1]))


def test_an_address_that_nobody_has_is_unreachable_at_once(stacks: Any) -> None:
    _, client = stacks
    with pytest.raises(OSError, match="No route to host"):
        client.connect(("10.0.0.77", 80))
    with pytest.raises(OSError, match="Network is unreachable"):
        client.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="No route to host"):
        client.connect(("fd00::77", 80))
