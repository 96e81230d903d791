"""Bytes through TCP and UDP between every pair of guest kinds: iperf3, curl, socat and ssh, against checksums."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import programs
import pytest
from programs import bracketed, iperf3, iperf3_server, sent_by_socat, udp_arrives, web_server
from scene import Place, Scene
from support import examples

pytestmark = pytest.mark.usefixtures("no_errors")

FAMILIES = pytest.mark.parametrize("family", [4, 6])
PAIRS = pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(*pair, id="-".join(pair))
        for pair in itertools.combinations(["alice", "bob", "box", "far", "gate"], 2)
    ],
)
MIB = 1 << 20
# `make soak` carries a GiB wherever otherwise 64 MiB do.
SOAKING = examples(1) > 1


@pytest.fixture(scope="module")
def servers(scene: Scene) -> Iterator[dict[str, int]]:
    """An iperf3 server at each place: its port."""
    with ExitStack() as stack:
        yield {place.name: stack.enter_context(iperf3_server(place)) for place in scene.kernels}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 64 MiB that nothing can compress or guess."""
    file = tmp_path_factory.mktemp("streams") / "large"
    file.write_bytes(os.urandom(64 * MIB))
    return file


def digest(file: Path, times: int = 1) -> str:
    heard, content = hashlib.sha256(), file.read_bytes()
    for _ in range(times):
        heard.update(content)
    return heard.hexdigest()


@PAIRS
@FAMILIES
def test_iperf3_carries_tcp_both_ways(scene: Scene, servers: dict[str, int], one: str, other: str, family: int) -> None:
    for direction in ([], ["-R"]):
        end = iperf3(scene[one], scene[other].addresses[family], servers[other], "-n", "48M", *direction)
        # The server counts up to when the client says that it is done, and may not have read all by then: what lies in
        # the buffers of both kernels, some 10 MiB, is not in it.
        assert end["sum_sent"]["bytes"] >= 48 * MIB, direction
        assert end["sum_received"]["bytes"] >= 24 * MIB, direction


@PAIRS
@FAMILIES
def test_iperf3_loses_no_udp_on_the_way(
    scene: Scene, servers: dict[str, int], one: str, other: str, family: int
) -> None:
    # In fragments, for a change.
    options = ["-l", "8000"] if family == 6 else []
    udp_arrives(scene[one], scene[other], family, servers[other], *options)


@FAMILIES
def test_curl_fetches_from_every_kind_of_server(scene: Scene, tmp_path: Path, family: int) -> None:
    content = os.urandom(3 * MIB)
    (tmp_path / "file").write_bytes(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    kernels = [scene[name] for name in ("alice", "box", "far")]
    with ExitStack() as stack:
        urls = {}
        for place in kernels:
            port = stack.enter_context(web_server(place, tmp_path))
            urls[place.name] = f"http://{bracketed(place.addresses[family])}:{port}/file"
        own = scene.stack.resolve("stack")[0 if family == 4 else 1]
        server = stack.enter_context(scene.stack.server(http.server.ThreadingHTTPServer, (own, 8080), Handler))
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        stack.callback(serving.join)
        stack.callback(server.shutdown)
        urls["stack"] = f"http://{bracketed(own)}:8080/file"
        expected = hashlib.sha256(content).hexdigest()
        failures = []
        for client in scene.kernels:
            for name, url in urls.items():
                fetch = f"curl --globoff --silent --show-error --max-time 10 {url} | openssl dgst -sha256 -r"
                if client.name != name and client.shell(fetch).split()[0] != expected:
                    failures.append(f"{client} from {name}")
            page = client.output("curl", "-gsS", f"http://{bracketed(scene['host'].addresses[family])}/")
            assert page == "hello from the host\n"
        assert not failures, "\n".join(failures)
        # And the other way: a process's sockets ask the kernels' servers.
        for place in kernels:
            address, _, rest = urls[place.name].removeprefix("http://").rpartition(":")
            connection = scene.stack.http_connection(address.strip("[]"), int(rest.split("/")[0]))
            connection.request("GET", "/file")
            with connection.getresponse() as response:
                assert response.read() == content, place
            connection.close()


def bridged(scene: Scene) -> list[tuple[Place, Place]]:
    return [(scene["alice"], scene["bob"]), (scene["far"], scene["alice"]), (scene["box"], scene["far"])]


@FAMILIES
def test_what_socat_sends_arrives_as_it_was(scene: Scene, large: Path, family: int) -> None:
    # The first pair carries a GiB over IPv4, and both families do where time is no matter.
    for number, (sender, receiver) in enumerate(bridged(scene)):
        times = 16 if SOAKING or (family == 4 and number == 0) else 1
        assert sent_by_socat(sender, receiver, family, large, times) == digest(large, times), f"{sender} to {receiver}"


@FAMILIES
def test_what_ssh_sends_arrives_as_it_was(scene: Scene, large: Path, family: int, tmp_path: Path) -> None:
    times = 16 if SOAKING else 1
    for sender, receiver in bridged(scene):
        with programs.Sshd(receiver, tmp_path) as server:
            assert server.copy(sender, family, large, times) == digest(large, times), f"{sender} to {receiver}"
