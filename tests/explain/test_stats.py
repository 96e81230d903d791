"""`vnet stats`: the table, rates, and what Prometheus gets."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from support import datagram
from viewing import VNET, follower, in_terminal, vnet_command, vnet_here

import vnet
from vnet import NicStatistics, Verdict
from vnet.sample import NicSample, Sample, rates, take
from vnet.view import natural, rate, rows, sorted_rows, table


def busy(lan: vnet.Lan) -> list[vnet.Nic]:
    """Three NICs: one sends to another, to nobody, and far away."""
    nics = [lan.attach(name) for name in ("a", "b", "c-10")]
    nics[0].send_many([datagram("10.0.0.1", "10.0.0.2", b"x" * 80)] * 7)
    nics[0].send_many([datagram("10.0.0.1", "10.0.0.99")] * 3)
    nics[2].send_many([datagram("10.0.0.3", "9.9.9.9")] * 5)
    return nics


def cells(output: str) -> list[list[str]]:
    """The table's cells; columns stand two spaces apart at least."""
    return [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]


def test_the_table_has_what_was_counted_and_no_column_of_zeros(named: vnet.Lan) -> None:
    _nics = busy(named)
    code, output, errors = vnet_command("stats", "office")
    assert (code, errors) == (0, "")
    assert cells(output) == [
        ["NIC", "state", "tx", "tx bytes", "rx", "rx bytes", "no_route", "no_host"],
        ["a", "up", "10", "700", "0", "0", "0", "3"],
        ["b", "up", "0", "0", "7", "700", "0", "0"],
        ["c-10", "up", "5", "0", "0", "0", "5", "0"],
        ["total", "15", "700", "7", "700", "5", "3"],
    ]


def test_json_has_everything(named: vnet.Lan, capsys: pytest.CaptureFixture[str]) -> None:
    _nics = busy(named)
    named.reserve("kept")
    plain = json.loads(vnet_here(capsys, "stats", "office", "--json")[1])
    assert (plain["format"], plain["lan"]) == (1, "office")
    counted = named.statistics().nics
    for nic in plain["nics"]:
        own = counted[nic["name"]]
        assert {Verdict[name.upper()]: count for name, count in nic["verdicts"].items()} == dict(own.verdicts)
        for field in dataclasses.fields(NicStatistics):
            if field.name != "verdicts":
                assert nic[field.name] == getattr(own, field.name)
    assert [(nic["name"], nic["state"], nic["addresses"][0]) for nic in plain["nics"]][-1] == (
        "kept",
        "down",
        "10.0.0.4",
    )
    assert [nic["name"] for nic in json.loads(vnet_here(capsys, "stats", "office", "b", "a", "--json")[1])["nics"]] == [
        "a",
        "b",
    ]


def test_rows_are_sorted_and_the_total_is_of_all(named: vnet.Lan, capsys: pytest.CaptureFixture[str]) -> None:
    _nics = busy(named)
    names = {
        key: [row[0] for row in cells(vnet_here(capsys, "stats", "office", "--sort", key)[1])[1:-1]]
        for key in ("name", "tx", "rx_bytes", "dropped", "no_host")
    }
    assert names == {
        "name": ["a", "b", "c-10"],
        "tx": ["a", "c-10", "b"],
        "rx_bytes": ["b", "a", "c-10"],
        "dropped": ["c-10", "a", "b"],
        "no_host": ["a", "b", "c-10"],
    }
    top = cells(vnet_here(capsys, "stats", "office", "--top", "1")[1])
    assert [row[0] for row in top] == ["NIC", "a", "3 NICs"]
    assert top[-1][1:4] == ["15", "700", "7"]


def test_five_hundred_nics_are_a_table_that_stands_straight() -> None:
    with vnet.Lan("office", "10.0.0.0/16") as lan:
        _hosts = [lan.host(f"host-{number}") for number in range(500)]
        output = vnet_command("stats", "office", "--sort", "name")[1]
        lines = output.splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == [f"host-{number}" for number in range(500)]
        assert len({len(line) for line in lines}) == 1
        assert len(vnet_command("stats", "office", "--top", "20")[1].splitlines()) == 22


def test_watch_prints_rates_below_one_another_where_there_is_no_terminal(named: vnet.Lan) -> None:
    nics = busy(named)
    with follower("stats", "office", "--watch", "--interval", "100ms", "--count", "3") as watch:
        first = watch.line()
        # The next block tells what is sent now.
        nics[0].send_many([datagram("10.0.0.1", "10.0.0.99")] * 1000)
        code, rest, errors = watch.end()
    assert (code, errors) == (0, "")
    blocks = "\n".join([first, rest]).strip().split("\n\n")
    assert len(blocks) == 3
    assert all(re.fullmatch(r"office  \d\d:\d\d:\d\d  3 NICs", block.splitlines()[0]) for block in blocks)
    assert any("no_host/s" in block for block in blocks)
    assert "\x1b" not in rest


def test_watch_as_json_is_an_object_a_line_with_exact_rates(named: vnet.Lan) -> None:
    nics = busy(named)
    with follower("stats", "office", "a", "--watch", "--json", "--interval", "50ms") as watch:
        seen = json.loads(watch.line())
        nics[0].send_many([datagram("10.0.0.1", "10.0.0.99")] * 1000)
        grown = 0.0
        while grown < 1000:
            now = json.loads(watch.line())
            (nic,), (before,) = now["nics"], seen["nics"]
            grown += nic["tx_datagrams"] - before["tx_datagrams"]
            assert nic["rates"]["tx"] == pytest.approx((nic["tx_datagrams"] - before["tx_datagrams"]) / now["interval"])
            assert nic["rates"]["drops"]["no_host"] == nic["rates"]["tx"]
            seen = now
        named.close()
        code, _, errors = watch.end()
    assert (code, errors) == (0, "vnet: the LAN 'office' has ended\n")


def test_watch_in_a_terminal_stays_in_its_size(named: vnet.Lan) -> None:
    _nics = [named.attach(f"n{number}") for number in range(40)]
    code, written = in_terminal("stats", "office", "--watch", "--interval", "50ms", "--count", "2", columns=40, rows=12)
    assert code == 0
    for look in written.split("\x1b[H")[1:]:
        lines = look.replace("\x1b[K", "").replace("\x1b[J", "").rstrip("\n").split("\n")
        assert len(lines) <= 12
        assert all(len(line) <= 40 for line in lines)
        assert "more: --top" in look
        assert lines[-1].startswith("total")


@pytest.mark.parametrize("arguments", [["stats"], ["stats", "--watch"], ["trace", "--from", "a", "--hex", "45"]])
def test_a_full_disk_under_the_output_is_one_sentence(named: vnet.Lan, arguments: list[str]) -> None:
    _a = named.attach("a")
    verb, *options = arguments
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*VNET, verb, "office", *options], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stderr) == (2, "vnet: the output cannot be written: no space left on device\n")


def test_ctrl_c_ends_watch_without_a_word(named: vnet.Lan) -> None:
    with follower("stats", "office", "--watch", "--interval", "50ms") as watch:
        watch.line()
        watch.interrupt()
        code, _, errors = watch.end()
    assert (code, errors) == (130, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["offcie"], "did you mean 'office'?"),
        (["office", "alcie"], "no NIC of office is called 'alcie' (did you mean 'alice'?)"),
        (["office", "--sort", "dorpped"], "--sort takes no 'dorpped' (did you mean 'dropped'?)"),
        (["office", "--watch", "--interval", "1"], "--interval: '1' has no unit"),
        (["office", "--watch", "--interval", "1ms"], "--interval is 50ms to 24h, not 1ms"),
        (["office", "--watch", "--prometheus"], "--prometheus prints one sample"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    named: vnet.Lan, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    _alice = named.attach("alice")
    code, output, errors = vnet_here(capsys, "stats", *arguments)
    assert (code, output) == (2, "")
    assert says in errors
    assert len(errors.splitlines()) == 1


def sample(clock: float, **tx: int) -> Sample:
    """A sample in which these NICs have sent so many datagrams to nobody."""

    def counters(count: int) -> NicStatistics:
        verdicts = MappingProxyType({verdict: count if verdict is Verdict.NO_HOST else 0 for verdict in Verdict})
        return NicStatistics(count, 0, 0, 0, 0, verdicts, 0, 0)

    nics = (NicSample(name, "process", "lan", (), "up", counters(count)) for name, count in tx.items())
    return Sample("x", 0.0, clock, tuple(nics))


def test_rates_count_newcomers_and_successors_from_zero() -> None:
    found = rates(sample(10.0, stays=100, replaced=900, gone=5), sample(12.0, stays=150, replaced=40, new=6))
    assert {name: (each.tx, each.dropped, each.drops[Verdict.NO_HOST]) for name, each in found.items()} == {
        "stays": (25.0, 25.0, 25.0),
        "replaced": (20.0, 20.0, 20.0),
        "new": (3.0, 3.0, 3.0),
    }
    assert rates(sample(10.0, a=1), sample(10.0, a=2))["a"].tx == 0


def test_a_sample_survives_json(named: vnet.Lan) -> None:
    _nics = busy(named)
    taken = take(named)
    assert Sample.from_dict(json.loads(json.dumps(taken.as_dict()))) == taken


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.25, "0.2"), (9.94, "9.9"), (9.96, "10"), (999.4, "999"), (999.6, "1.00k"), (12_345, "12.3k"),
        (99_960, "100k"), (1e6, "1.00M"), (66e6, "66.0M"), (4.2e9, "4.20G"), (1e15, "1000T"),
    ],
)  # fmt: skip
def test_rates_are_written_in_three_digits(value: float, text: str) -> None:
    assert rate(value) == text


def test_names_are_sorted_as_people_do() -> None:
    names = ["host-10", "host-2", "alice", "host-2-b", "10", "9", "Ünë"]
    assert sorted(names, key=natural) == ["9", "10", "alice", "host-2", "host-2-b", "host-10", "Ünë"]


def test_a_table_of_two_networks_names_them() -> None:
    taken = sample(0.0, a=1, b=2)
    moved = dataclasses.replace(taken.nics[1], network="other")
    both = rows(dataclasses.replace(taken, nics=(taken.nics[0], moved)))
    assert table(sorted_rows(both, "tx"), both, rates=False)[1].split()[:2] == ["b", "other"]
    assert "network" not in table(rows(taken), rows(taken), rates=False)[0]


# Prometheus


def families(text: str) -> dict[str, Any]:
    """What Prometheus' own parser reads."""
    from prometheus_client.parser import text_string_to_metric_families

    return {family.name: family for family in text_string_to_metric_families(text)}


def test_prometheus_reads_what_was_counted(named: vnet.Lan) -> None:
    _nics = busy(named)
    code, output, errors = vnet_command("stats", "office", "--prometheus")
    assert (code, errors) == (0, "")
    found = families(output)
    assert all(
        family.documentation.endswith((".", "0.")) and family.type in ("counter", "gauge") for family in found.values()
    )
    assert all(re.fullmatch(r"vnet_nic_[a-z_]+", name) for name in found)
    # Counters end in _total, and nothing else does.
    assert all(s.name.endswith("_total") == (f.type == "counter") for f in found.values() for s in f.samples)
    dropped = {(s.labels["nic"], s.labels["reason"]): s.value for s in found["vnet_nic_dropped_datagrams"].samples}
    statistics = named.statistics().nics
    assert dropped == {
        (name, verdict.name.lower()): counted.verdicts[verdict]
        for name, counted in statistics.items()
        for verdict in Verdict
        if verdict is not Verdict.DELIVERED
    }
    sent = {s.labels["nic"]: s.value for s in found["vnet_nic_tx_datagrams"].samples}
    assert sent == {name: counted.tx_datagrams for name, counted in statistics.items()}
    assert {tuple(sorted(s.labels)) for s in found["vnet_nic_up"].samples} == {("lan", "network", "nic")}


def test_without_prometheus_client_the_command_to_get_it_is_told(named: vnet.Lan) -> None:
    program = "import sys; sys.modules['prometheus_client'] = None\nimport vnet.cli; vnet.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "stats", "office", "--prometheus"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install prometheus-client" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def fetch(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_metrics_are_served_until_the_lan_is_closed(lan: vnet.Lan) -> None:
    from urllib.error import URLError

    nics = busy(lan)
    server = lan.serve_metrics("127.0.0.1:0")
    assert families(fetch(server.url)).keys() >= {"vnet_nic_tx_datagrams", "vnet_nic_dropped_datagrams", "vnet_nic_up"}
    nics[0].send_many([datagram("10.0.0.1", "10.0.0.99")] * 90)
    sent = families(fetch(server.url))["vnet_nic_tx_datagrams"].samples
    assert {s.labels["nic"]: s.value for s in sent} == {"a": 100, "b": 0, "c-10": 5}
    lan.close()
    with pytest.raises(URLError):
        fetch(server.url)
    server.close()


def test_metrics_can_be_served_over_ipv6(lan: vnet.Lan) -> None:
    try:
        server = lan.serve_metrics("[::1]:0")
    except vnet.VnetError as error:
        assert "cannot assign" in str(error) or "not supported" in str(error)  # noqa: PT017 - a machine without IPv6
        return
    with server:
        assert "vnet_nic_up" in fetch(server.url)


def test_a_server_of_metrics_keeps_no_lan_alive() -> None:
    import gc

    lan = vnet.Lan(None, "10.0.0.0/24")
    server = lan.serve_metrics("127.0.0.1:0")
    del lan
    gc.collect()
    assert not server._thread.is_alive()


def test_a_forked_child_lets_go_of_the_port(lan: vnet.Lan) -> None:
    server = lan.serve_metrics("127.0.0.1:0")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reading, 1)
        os._exit(0)
    server.close()
    try:
        # The port would still be taken if the child had kept it.
        port = server.url.split(":")[2].split("/")[0]
        lan.serve_metrics(f"127.0.0.1:{port}").close()
    finally:
        os.write(writing, b"x")
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    "address", ["9100", "host", "::1:9100", "127.0.0.1:", "127.0.0.1:70000", ":9100", "127.0.0.1:x"]
)
def test_an_address_to_listen_at_is_host_and_port(lan: vnet.Lan, address: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|is no port"):
        lan.serve_metrics(address)


def test_a_port_that_is_taken_is_told(lan: vnet.Lan) -> None:
    with lan.serve_metrics("127.0.0.1:0") as server:
        address = server.url.removeprefix("http://").removesuffix("/metrics")
        with pytest.raises(vnet.VnetError, match=rf"metrics cannot be served at {address}: address already in use"):
            lan.serve_metrics(address)
    lan.close()
    with pytest.raises(vnet.LanClosed):
        lan.serve_metrics("127.0.0.1:0")


def test_a_lab_that_stays_up_serves_metrics_where_it_was_told_to(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    lab = tmp_path / "lab.yaml"
    lab.write_text("name: metered\nnetworks: {lan: 10.0.0.0/24}\nnodes: {alice: , bob: }\n")
    assert vnet_command("up", str(lab), "--prometheus", address)[0] == 0
    try:
        assert '{lan="metered",network="lan",nic="alice"}' in fetch(f"http://{address}/metrics")
        # Once more is no second server, and another lab is told who has the port.
        assert vnet_command("up", str(lab), "--prometheus", address)[0] == 0
        lab.write_text(lab.read_text().replace("metered", "another"))
        code, _, errors = vnet_command("up", str(lab), "--prometheus", address)
        assert (code, errors) == (2, f"vnet: metrics cannot be served at {address}: address already in use\n")
        assert json.loads(vnet_command("ls", "--json")[1])["lans"][0]["name"] == "metered"
    finally:
        assert vnet_command("down", "--all")[0] == 0


def test_routers_have_no_row_unless_they_are_all_there_is(named: vnet.Lan) -> None:
    named.router("edge", ["lan"])
    assert [row.name for row in rows(take(named))] == ["edge"]
    _host = named.host("a")
    assert [row.name for row in rows(take(named))] == ["a"]
    code, output, _ = vnet_command("stats", "office")
    assert (code, "edge" in output) == (0, False)
    assert vnet_command("stats", "office", "edge")[0] == 0
