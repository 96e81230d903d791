"""Programs that nobody here wrote, as functions: iperf3, socat, ssh, tcpdump and Python's web server."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scene import Place

# Each service of a run has a port of its own: nobody waits for the last one's to be free.
PORTS = itertools.count(10_000)


def bracketed(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address


@contextlib.contextmanager
def iperf3_server(place: Place) -> Iterator[int]:
    """An iperf3 server for as many runs as one likes; gives its port."""
    port = next(PORTS)
    with place.start("iperf3", "-s", "-p", str(port), "--forceflush", until="Server listening"):
        yield port


def iperf3(client: Place, address: str, port: int, *options: str) -> dict[str, Any]:
    """What iperf3 reports at its end; fails where it does."""
    done = client.run("iperf3", "-c", address, "-p", str(port), "-J", *options)
    report = json.loads(done.stdout)
    assert "error" not in report, f"{client} to {address}: {report['error']}"
    assert done.returncode == 0, f"{client} to {address}: {done.stderr}"
    return report["end"]


def udp_arrives(client: Place, server: Place, family: int, port: int, *options: str) -> None:
    """A MB of UDP, sent and then fetched by iperf3: none may be lost but what a program read too slowly."""

    def full() -> int:
        counted = (place.counters() for place in (client, server))
        return sum(each["UdpRcvbufErrors"] + each["Udp6RcvbufErrors"] for each in counted)

    for direction in ([], ["-R"]):
        before = full()
        report = iperf3(client, server.addresses[family], port, "-u", "-b", "100M", "-n", "1M", *options, *direction)[
            "sum"
        ]
        assert report["packets"] > 100
        assert report["lost_packets"] <= full() - before, f"{client} to {server} {direction}"


@contextlib.contextmanager
def web_server(place: Place, directory: Path) -> Iterator[int]:
    """Python's web server on both families; gives its port."""
    port = next(PORTS)
    words = [sys.executable, "-I", "-u", "-m", "http.server", str(port), "--bind", "::", "--directory", str(directory)]
    with place.start(*words, until="Serving HTTP", stderr=subprocess.DEVNULL):
        yield port


def sent_by_socat(sender: Place, receiver: Place, family: int, file: Path, times: int) -> str:
    """The SHA-256 of what arrives when a file is sent so many times through one TCP connection of socat."""
    port = next(PORTS)
    address = bracketed(receiver.addresses[family])
    listen = f"socat -d -d -u TCP{family}-LISTEN:{port} STDOUT 2>/dev/stderr | openssl dgst -sha256 -r"
    with receiver.start("bash", "-c", listen, until="listening on") as listening:
        sender.shell(
            f"for i in $(seq {times}); do cat {file}; done | socat -b 262144 -u STDIN TCP{family}:{address}:{port}"
        )
        assert listening.stdout
        heard = listening.stdout.read()
    return heard.split(" *stdin")[0].split()[-1]


class Sshd:
    """OpenSSH's server at a place, with keys of its own; a context manager."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place, self.directory, self.port = place, directory, next(PORTS)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Sshd:
        key, host_key = self.directory / "key", self.directory / "host_key"
        for each in (key, host_key):
            if not each.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(each)], check=True)
        settings = self.directory / f"sshd_config.{self.port}"
        settings.write_text(
            f"Port {self.port}\nHostKey {host_key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin yes\nPidFile none\nUseDNS no\nLogLevel INFO\n"
        )
        # sshd wants a directory in /run, which is the machine's: it gets a /run of its own.
        script = (
            "mount -t tmpfs none /run && mkdir /run/sshd\n"
            f"exec $(PATH=$PATH:/usr/sbin command -v sshd) -D -e -f {settings}"  # which wants its own path
        )
        words = ["unshare", "--mount", "sh", "-euc", script]
        self._open.enter_context(self.place.start(*words, until=f"listening on :: port {self.port}"))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def copy(self, sender: Place, family: int, file: Path, times: int) -> str:
        """The SHA-256, worked out at the server, of a file that is sent so many times through one connection."""
        options = "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        ssh = f"ssh {options} -c aes128-gcm@openssh.com -i {self.directory / 'key'} -p {self.port}"
        there = f"root@{self.place.addresses[family]} openssl dgst -sha256 -r"
        heard = sender.shell(f"for i in $(seq {times}); do cat {file}; done | {ssh} {there}")
        return heard.split()[0]
