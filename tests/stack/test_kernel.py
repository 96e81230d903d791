"""The stack and the kernel's TCP understand one another: Linux, curl and Python's own sockets are the oracle."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator

import kernel_side
import pytest
from kernel_side import Kernel, exchange, stream

import vnet

KERNEL = ["10.0.0.100", "fd00::100"]

pytestmark = pytest.mark.skipif(bool(kernel_side.missing()), reason=str(kernel_side.missing()))


@pytest.fixture(params=[1500, 65_535])
def mtu(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def lan(mtu: int) -> Iterator[vnet.Lan]:
    with vnet.Lan("interop", ["10.0.0.0/24", "fd00::/64"], mtu=mtu) as lan:
        yield lan


@pytest.fixture
def kernel(lan: vnet.Lan, mtu: int) -> Iterator[Kernel]:
    with Kernel(lan, KERNEL, mtu) as kernel:
        yield kernel


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SIZE = 4_000_000


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_client_of_the_kernel_and_a_server_of_ours_exchange_megabytes(
    lan: vnet.Lan, kernel: Kernel, family: int
) -> None:
    with lan.attach("ours").stack() as stack:
        address = stack.resolve("ours", family)[0]
        listener = stack.socket(family)
        listener.bind((address, 5000))
        listener.listen()
        client = kernel.python(
            "import socket, kernel_side as side\n"
            f"with socket.create_connection(({address!r}, 5000), timeout=30) as sock:\n"
            f"    print(side.exchange(sock, side.stream(1, {SIZE})))\n"
        )
        listener.settimeout(20)
        ours, peer = listener.accept()
        ours.settimeout(30)
        assert peer[0] in KERNEL
        assert exchange(ours, stream(2, SIZE)) == digest(stream(1, SIZE))
        assert client.communicate(timeout=30)[0].strip() == digest(stream(2, SIZE))
        listener.close()


@pytest.mark.parametrize("address", KERNEL)
def test_a_client_of_ours_and_a_server_of_the_kernel_exchange_megabytes(
    lan: vnet.Lan, kernel: Kernel, address: str
) -> None:
    server = kernel.python(
        "import socket, kernel_side as side\n"
        f"family = socket.AF_INET6 if ':' in {address!r} else socket.AF_INET\n"
        f"with socket.create_server(({address!r}, 5000), family=family) as server:\n"
        "    print('listening')\n"
        "    sock, _ = server.accept()\n"
        f"    print(side.exchange(sock, side.stream(3, {SIZE})))\n"
    )
    assert server.stdout
    assert server.stdout.readline() == "listening\n"
    with lan.attach("ours").stack() as stack:
        ours = stack.create_connection((address, 5000), timeout=10)
        ours.settimeout(30)
        assert exchange(ours, stream(4, SIZE)) == digest(stream(3, SIZE))
    assert server.communicate(timeout=30)[0].strip() == digest(stream(4, SIZE))


def test_the_kernel_refuses_and_is_refused(lan: vnet.Lan, kernel: Kernel) -> None:
    with lan.attach("ours", "10.0.0.7").stack() as stack:
        with pytest.raises(ConnectionRefusedError):
            stack.create_connection((KERNEL[0], 5000), timeout=10)
        tried = "import socket\ntry:\n    socket.create_connection(('10.0.0.7', 5000), timeout=10)\n"
        refused = kernel.python(tried + "except ConnectionRefusedError:\n    print('refused')\n")
        assert refused.communicate(timeout=30)[0] == "refused\n"


def test_a_reset_of_the_kernel_is_a_reset_here(lan: vnet.Lan, kernel: Kernel) -> None:
    server = kernel.python(
        "import socket, struct\n"
        f"with socket.create_server(({KERNEL[0]!r}, 5000)) as server:\n"
        "    print('listening')\n"
        "    sock, _ = server.accept()\n"
        "    sock.recv(100)\n"
        "    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
        "    sock.close()\n"
    )
    assert server.stdout
    assert server.stdout.readline() == "listening\n"
    with lan.attach("ours").stack() as stack:
        ours = stack.create_connection((KERNEL[0], 5000), timeout=10)
        ours.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            ours.recv(100)
        ours.close()
    server.communicate(timeout=30)


@pytest.mark.parametrize("address", ["10.0.0.80", "[fd00::80]"])
def test_curl_fetches_what_a_host_serves(lan: vnet.Lan, kernel: Kernel, address: str) -> None:
    text = "Grüße\n" * 20_000
    host = lan.host("web", ["10.0.0.80", "fd00::80"])
    host.serve(tcp=80, http=text)
    curl = ["curl", "--silent", "--show-error", "--max-time", "20"]
    assert kernel.run(*curl, f"http://{address}/any?thing") == text
    # Two requests over one connection, and a HEAD that says what a GET would bring.
    counted = [*curl, "--write-out", "%{http_code} %{num_connects}\\n"]
    urls = [word for path in "12" for word in ("--output", "/dev/null", f"http://{address}/{path}")]
    assert kernel.run(*counted, *urls).split() == ["200", "1", "200", "0"]
    head = kernel.run(*curl, "--head", f"http://{address}/").lower()
    assert f"content-length: {len(text.encode())}\n" in head
    assert kernel.run(*curl, "--data", "x=1", "--write-out", "%{http_code}", f"http://{address}/") == "405"
    assert kernel.run(*curl, "--http1.0", f"http://{address}/") == text


def test_the_kernel_is_echoed_over_udp_and_tcp(lan: vnet.Lan, kernel: Kernel) -> None:
    host = lan.host("echo", "10.0.0.80")
    host.serve(udp=7, echo=True)
    host.serve(tcp=7, echo=True)
    client = kernel.python(
        "import socket, kernel_side as side\n"
        "datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "datagrams.settimeout(10)\n"
        "datagrams.connect(('10.0.0.80', 7))\n"
        "for size in (0, 1, 1400):\n"
        "    datagrams.send(bytes(size))\n"
        "    assert datagrams.recv(2000) == bytes(size)\n"
        "with socket.create_connection(('10.0.0.80', 7), timeout=30) as sock:\n"
        f"    print(side.exchange(sock, side.stream(5, {SIZE})))\n"
    )
    output, errors = client.communicate(timeout=60)
    assert output.strip() == digest(stream(5, SIZE)), errors
