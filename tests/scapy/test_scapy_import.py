"""When scapy comes into it: before the NIC, after it, or never. Each in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
import support

import vnet

Guest = Callable[..., support.Guest]

_ASK = """
conf.verb = 0
answer = sr1(IP(dst="10.0.0.2") / ICMP(), iface="laptop", timeout=5)
say(answer.src, answer.dst, get_if_addr("laptop"))
nic.close()
say("laptop" in get_if_list())
"""


# A test run in the background of a shell inherits that SIGINT is ignored.
_HEARS_CTRL_C = "signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def test_without_scapy_there_is_none(guest: Guest) -> None:
    program = guest(
        """
        with vnet.Lan(None, "10.0.0.0/24") as lan, lan.attach("a") as a, lan.attach("b") as b:
            a.send(datagram(a.address, b.address))
            b.recv(timeout=5)
        say([name for name in sys.modules if "scapy" in name])
        """.replace("\n        ", "\n")
    )

    assert program.hear() == "['vnet.scapy_hook']"


@pytest.mark.parametrize(
    "order",
    [
        "import_first",
        "attach_first",
        "attach_first_then_import_the_module",
        "attach_first_then_import_a_layer",
        "import_in_a_function",
    ],
)
def test_scapy_may_come_before_the_nic_and_after(guest: Guest, named: vnet.Lan, order: str) -> None:
    named.host("web", "10.0.0.2")
    attach = 'nic = vnet.attach("office", "laptop")\n'
    program = {
        "import_first": "from scapy.all import *\n" + attach,
        "attach_first": attach + "from scapy.all import *\n",
        "attach_first_then_import_the_module": attach
        + "from scapy.sendrecv import sr1\nfrom scapy.layers.inet import IP, ICMP\nfrom scapy.config import conf\n"
        + "from scapy.arch import get_if_addr, get_if_list\n",
        "attach_first_then_import_a_layer": attach
        + "from scapy.layers.inet import IP, ICMP\nfrom scapy.sendrecv import sr1\nfrom scapy.config import conf\n"
        + "from scapy.arch import get_if_addr, get_if_list\n",
        "import_in_a_function": attach
        + "def load():\n    import scapy.all\n    globals().update(vars(scapy.all))\nload()\n",
    }[order]

    laptop = guest(program + _ASK)

    own = laptop.hear().split()
    assert own == ["10.0.0.2", own[1], own[1]]
    assert laptop.hear() == "False"
    status, _, errors = laptop.end()
    assert (status, errors) == (0, "")


def test_the_environment_names_lan_and_nic(guest: Guest, named: vnet.Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    named.host("web", "10.0.0.2")
    named.reserve("laptop", "10.0.0.9")
    monkeypatch.setenv("VNET_LAN", "office")
    monkeypatch.setenv("VNET_NIC", "laptop")

    laptop = guest("nic = vnet.attach()\nfrom scapy.all import *\n" + _ASK)

    assert laptop.hear() == "10.0.0.2 10.0.0.9 10.0.0.9"


def test_nics_from_before_keep_their_order_and_closed_ones_stay_out(guest: Guest) -> None:
    program = guest(
        """
one, two, three = (vnet.Lan(name, "10.0.0.0/24") for name in ("one", "two", "three"))
nics = [one.attach("x", "10.0.0.1"), two.attach("x", "10.0.0.2"), three.attach("y"), three.attach("gone")]
nics.pop().close()
from scapy.all import get_if_addr, get_if_list
say(get_if_addr("x"), get_if_addr("x@one"), "y" in get_if_list(), "gone" in get_if_list())
"""
    )

    assert program.hear() == "10.0.0.2 10.0.0.1 True False"


def test_the_import_hook_leaves_no_trace(guest: Guest) -> None:
    program = guest(
        """
def finders():
    return sum(type(each).__module__.startswith("vnet") for each in sys.meta_path)

lan = vnet.Lan(None, "10.0.0.0/24")
nic = lan.attach("a")
before = finders()
import scapy.sendrecv
say(before, finders(), "exec_module" in vars(scapy.sendrecv.__spec__.loader), "a" in scapy.sendrecv.conf.ifaces)
"""
    )

    assert program.hear() == "1 0 False True"


def test_threads_may_attach_while_scapy_is_imported(guest: Guest) -> None:
    program = guest(
        """
lan = vnet.Lan(None, "10.0.0.0/16")
nics = [lan.attach("first")]
go = threading.Event()

def attach(which):
    go.wait()
    for each in range(40):
        nics.append(lan.attach(f"t{which}-{each}"))
        time.sleep(0.005)

threads = [threading.Thread(target=attach, args=(which,)) for which in range(3)]
for thread in threads:
    thread.start()
go.set()
import scapy.all
for thread in threads:
    thread.join()
say(len(nics), sorted(nic.name for nic in nics if nic.name not in scapy.all.get_if_list()))
"""
    )

    assert program.hear() == "121 []"


def test_a_scapy_that_cannot_do_it_is_a_warning_and_no_broken_import(guest: Guest) -> None:
    program = guest(
        """
import scapy.sendrecv, warnings
old = scapy.sendrecv._interface_selection
scapy.sendrecv._interface_selection = lambda packet: old(packet)
lan = vnet.Lan(None, "10.0.0.0/24")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nic = lan.attach("a")
say(*(str(each.message) for each in caught))
"""
    )

    assert "NICs are no interfaces of scapy: scapy 2" in program.hear()


def test_ctrl_c_ends_a_sniff_with_what_it_has(guest: Guest, named: vnet.Lan) -> None:
    laptop = guest(
        _HEARS_CTRL_C
        + """
from scapy.all import *
nic = vnet.attach("office", "laptop", "10.0.0.9")
packets = sniff(iface="laptop", prn=lambda packet: say("got", packet.src))
say("ended", len(packets))
"""
    )
    with named.attach("peer") as peer:
        assert named.wait_attached("laptop", 20)
        peer.send(support.datagram(peer.address, "10.0.0.9"))
        assert laptop.hear() == f"got {peer.address}"

        laptop.process.send_signal(signal.SIGINT)

        assert laptop.hear() == "ended 1"
        assert laptop.end()[0] == 0


def test_ctrl_c_ends_a_question_without_answer(guest: Guest, named: vnet.Lan) -> None:
    laptop = guest(
        _HEARS_CTRL_C
        + """
from scapy.all import *
nic = vnet.attach("office", "laptop", "10.0.0.9")
answer = sr1(IP(dst="10.0.0.1") / ICMP(), iface=nic, verbose=0)
say("ended", answer)
"""
    )
    with named.attach("peer", "10.0.0.1") as peer:
        peer.recv(timeout=20)
        time.sleep(0.05)

        laptop.process.send_signal(signal.SIGINT)

        assert laptop.hear() == "ended None"


def test_a_forked_child_is_told_that_the_nic_is_not_its_own(guest: Guest) -> None:
    program = guest(
        """
from scapy.all import *
lan = vnet.Lan(None, "10.0.0.0/24")
nic = lan.attach("a")
if os.fork() == 0:
    try:
        send(IP(dst="10.0.0.2") / UDP(), iface="a", verbose=0)
    except vnet.ForkedNic as error:
        say("forked:", error)
    os._exit(0)
os.wait()
"""
    )

    assert program.hear().startswith("forked: ")
