"""The fixtures of the pytest plugin, and what a failed test tells."""

from __future__ import annotations

import fnmatch
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from inner import Project, sections
from support import datagram

pytest_plugins = ["pytester"]

# Two delivered, three not.
FAILING = """
def test_fails(lan):
    a, b = lan.attach("a"), lan.attach("b")
    with lan.attach("gone") as gone:
        gone.send(datagram(gone.address, "10.0.0.77"))
    a.send_many([datagram(a.address, to, b"payloads") for to in (b.address, "10.0.0.99", "192.0.2.1")])
    b.recv(timeout=1)
    assert not "what it should be"
"""


def captures(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# What the fixtures give


def test_each_test_gets_a_lan_of_its_own_as_its_mark_says(project: Project) -> None:
    project.test(
        """
seen = []

def test_plain(lan):
    assert lan.name is None and not seen
    assert [str(prefix) for prefix in lan.networks["lan"].prefixes] == ["10.0.0.0/24", "fd00::/64"]
    lan.attach("a")
    seen.append(lan)

def test_after_it(lan):
    assert seen[0].closed and lan is not seen[0] and not lan.nics

@pytest.mark.lan("10.1.0.0/16", mtu=1500, max_nics=2, seed=7)
def test_marked(lan):
    with lan.attach("a") as a:
        assert a.address == "10.1.0.1"
    assert lan.networks["lan"].mtu == 1500 and lan.seed == 7
    a, b = lan.attach("b"), lan.attach("c")
    with pytest.raises(vnet.LanFull):
        lan.attach("d")

@pytest.mark.lan(["10.1.0.0/16", "fd01::/64"])
def test_a_list_does_as_well(lan):
    assert len(lan.attach("a").addresses) == 2

@pytest.mark.lan("10.1.0.0/16")
class TestAll:
    @pytest.mark.lan("10.2.0.0/16")
    def test_the_closest_mark_counts(self, lan):
        assert lan.attach("a").address == "10.2.0.1"

@pytest.mark.lan(name="the-office")
def test_name(lan):
    assert lan.name == os.environ["VNET_LAN"] == "the-office"

@pytest.mark.lan(named=True)
def test_named(lan):
    assert lan.name == os.environ["VNET_LAN"] and lan.name.startswith("test_named-")
    with vnet.attach(lan.name, "b") as b:
        assert b.lan == lan.name

def test_no_name_is_left(lan):
    assert "VNET_LAN" not in os.environ

def test_many_lans(lan, make_lan):
    others = [make_lan(), make_lan("10.9.0.0/24", named=True), make_lan(named=True)]
    assert len({other.name for other in others}) == 3
    assert others[1].attach("a").address == "10.9.0.1"
    seen.extend(others)

def test_all_of_them_end():
    assert all(lan.closed for lan in seen)

def test_a_test_may_close_its_lan_and_capture_it_too(lan, tmp_path):
    a = lan.attach("a")
    with lan.capture(tmp_path / "own.pcapng") as own:
        a.send(datagram(a.address, "10.0.0.9"))
    assert own.datagrams == 1
    lan.close()
"""
    ).assert_outcomes(passed=11)


def test_guests_are_programs_with_a_nic_kept_for_them(project: Project) -> None:
    project.write(
        "server.py",
        """
import sys, vnet
with vnet.attach() as nic:
    print("up as", nic.name, *sys.argv[1:], flush=True)
    while True:
        got = nic.recv()
        nic.send(got[:12] + got[16:20] + got[12:16] + got[20:])
""",
    )
    project.test(
        """
def test_guest(lan, guest):
    server = guest("server", "python3 server.py 7", "10.0.0.7", env={"MODE": "x"})
    assert lan.name and lan.nics["server"].state == "up"
    assert server.address == "10.0.0.7" and server.code is None
    assert "up as server 7" in server.wait_output("up as")
    me = lan.attach("me")
    me.send(datagram(me.address, server.address, b"hello"))
    assert me.recv(timeout=5) == datagram(server.address, me.address, b"hello")
    assert server.stop() == -15
    assert server.pid not in [int(each) for each in os.listdir("/proc") if each.isdigit()]

def test_ends_well(guest):
    brief = guest("brief", [sys.executable, "-c", "import vnet; vnet.attach().close(); print('bye')"])
    assert brief.wait() == 0 and brief.output == "bye\\n"
    with pytest.raises(vnet.VnetError, match="ended with code 0 without 'hello'; its last output was: bye"):
        brief.wait_output("hello")

def test_need_not_attach(guest):
    assert guest("other", "echo $VNET_NIC; exit 4", attach=False).wait() == 4

def test_what_goes_wrong_is_said(lan, guest):
    with pytest.raises(vnet.VnetError, match=r"'a' \\(echo oh; exit 3\\) ended with code 3 before it attached; .* oh"):
        guest("a", "echo oh; exit 3")
    with pytest.raises(vnet.VnetError, match=r"'b' \\(sleep 9\\) did not attach within 0.1 s; it printed nothing"):
        guest("b", "sleep 9", timeout=0.1)
    with pytest.raises(vnet.MachineLacks, match="nonesuch"):
        guest("c", ["nonesuch"])
    with pytest.raises(vnet.AddressTaken):
        held = lan.attach("x", "10.0.0.50")
        guest("d", "true", "10.0.0.50")
    with pytest.raises(TimeoutError, match="still runs after 0.05 s"):
        guest("e", "sleep 9", attach=False).wait(0.05)

@pytest.mark.lan(named=False)
def test_it_finds_the_lan_all_the_same(lan, guest):
    assert lan.name
"""
    ).assert_outcomes(passed=5)


# What a failure tells


def test_a_failure_names_the_drops_and_keeps_the_capture(project: Project) -> None:
    done = project.test(FAILING + "\ndef test_passes(lan):\n    lan.attach('a').send(b'')\n", "--basetemp=tmp")
    done.assert_outcomes(failed=1, passed=1)
    told = sections(done.stdout.str())["vnet drops"].splitlines()
    # The NIC that left is known from the capture, the others from their counters too.
    assert told[0] == "a     sent 3, of which dropped: 1 no_route, 1 no_host; received 0"
    assert told[1] == "b     sent 0; received 1"
    assert told[2] == "gone  sent 1, of which dropped: 1 no_host; received 0"
    assert told[3] == "the last to be dropped:"
    assert told[4:10:2] == [
        "gone  no_host  20 B  IP 10.0.0.3 > 10.0.0.77: UDP, cut short",
        "a  no_host  28 B  IP 10.0.0.1.28769 > 10.0.0.99.31084: UDP, length 0",
        "a  no_route  28 B  IP 10.0.0.1.28769 > 192.0.2.1.31084: UDP, length 0",
    ]
    assert told[5].strip() == datagram("10.0.0.3", "10.0.0.77").hex(" ", 4)
    path = project.path / "tmp" / "vnet-captures" / "test_it-test_fails.pcapng"
    assert told[10] == f"capture (4 datagrams): {path}"
    assert sections(done.stdout.str())["vnet captures of failed tests"].splitlines()[0] == str(path)
    # That of the test that passed is gone, and so is what was made while they ran.
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "ip.dst"]
    read = subprocess.run(["tshark", "-r", path, *fields], capture_output=True, text=True, check=True).stdout
    assert read.split() == ["gone", "10.0.0.77", "a", "10.0.0.2", "b", "10.0.0.2", "a", "10.0.0.99", "a", "192.0.2.1"]


def test_setup_and_teardown_that_fail_tell_it_as_well(project: Project) -> None:
    done = project.test(
        """
@pytest.fixture
def before(lan):
    lan.attach("early").send(datagram("10.0.0.1", "10.0.0.99"))
    raise RuntimeError("in setup")

@pytest.fixture
def after(lan):
    yield lan.attach("late")
    lan.attach("later").send(datagram("10.0.0.2", "10.0.0.99"))
    raise RuntimeError("in teardown")

def test_before(before): pass
def test_after(after): pass
"""
    )
    done.assert_outcomes(passed=1, errors=2)
    done.stdout.fnmatch_lines(
        ["early  sent 1, of which dropped: 1 no_host; received 0", "capture (1 datagram):*test_before*"]
    )
    done.stdout.fnmatch_lines(
        ["later  sent 1, of which dropped: 1 no_host; received 0", "capture (1 datagram):*test_after*"]
    )


def test_a_test_that_fails_as_it_should_or_is_skipped_keeps_nothing(project: Project) -> None:
    done = project.test(
        """
@pytest.mark.xfail(strict=True)
def test_known(lan):
    lan.attach("a").send(b"")
    assert False

def test_skip(lan):
    pytest.skip("today")
""",
        "--basetemp=tmp",
    )
    done.assert_outcomes(xfailed=1, skipped=1)
    assert captures(project.path / "tmp" / "vnet-captures") == []


def test_a_lan_that_the_test_closed_is_known_from_its_capture(project: Project) -> None:
    done = project.test(FAILING.replace('    assert not "', '    lan.close()\n    assert not "'))
    assert (
        "a     sent 3, of which dropped: 1 no_host, 1 no_route; received 0" in sections(done.stdout.str())["vnet drops"]
    )


def test_without_a_capture_the_counters_tell(project: Project) -> None:
    project.write("test_marked.py", FAILING.replace("\ndef", "\n@pytest.mark.lan(capture=False)\ndef"))
    by_mark = project.run("--basetemp=tmp")
    project.path.joinpath("test_marked.py").unlink()
    for done in (by_mark, project.test(FAILING, "--basetemp=tmp", "-o", "vnet_capture=false")):
        done.assert_outcomes(failed=1)
        told = sections(done.stdout.str())["vnet drops"]
        assert "a  sent 3, of which dropped: 1 no_route, 1 no_host; received 0" in told
        assert "capture" not in told
        assert not (project.path / "tmp" / "vnet-captures").exists()


def test_each_lan_of_a_test_and_each_guest_is_told_of(project: Project) -> None:
    done = project.test(
        """
def test_fails(lan, make_lan, guest):
    other = make_lan("10.1.0.0/24")
    lan.attach("a").send(b"")
    other.attach("b").send(datagram("10.1.0.1", "10.1.0.9"))
    guest("g", "echo one; echo two; exit 9", attach=False).wait()
    assert False
"""
    )
    told = sections(done.stdout.str())
    assert "a  sent 1, of which dropped: 1 malformed" in told["vnet drops, LAN 1 of 2"]
    assert "a  malformed  0 B  no IP, 0 bytes" in told["vnet drops, LAN 1 of 2"]
    assert "b  sent 1, of which dropped: 1 no_host" in told["vnet drops, LAN 2 of 2"]
    assert "test_it-test_fails-2.pcapng" in told["vnet drops, LAN 2 of 2"]
    assert told["vnet guest g"].splitlines()[:3] == ["echo one; echo two; exit 9: it ended with code 9", "one", "two"]


def test_captures_go_where_they_are_told_and_are_no_more_than_asked(project: Project) -> None:
    text = "".join(FAILING.replace("test_fails", f"test_fails_{number}") for number in range(4))
    done = project.test(text, "--vnet-captures=there/below", "-o", "vnet_captures_kept=3", "--junitxml=report.xml")
    done.assert_outcomes(failed=4)
    kept = [f"test_it-test_fails_{number}.pcapng" for number in range(3)]
    assert captures(project.path / "there" / "below") == kept
    done.stdout.fnmatch_lines(["its capture was not kept: 3 were before it (vnet_captures_kept)"])
    properties = ElementTree.parse(project.path / "report.xml").iter("property")
    assert [(each.get("name"), Path(each.get("value", "")).name) for each in properties] == [
        ("vnet_capture", name) for name in kept
    ]


def test_of_a_long_test_the_last_is_kept(project: Project) -> None:
    done = project.test(
        """
def test_long(lan):
    a, b = lan.attach("a"), lan.attach("b")
    for number in range(40):
        a.send_many([datagram(a.address, b.address, bytes(60_000))] * 10)
        b.recv_many(timeout=1)
        time.sleep(0.01)
    a.send(datagram(a.address, "10.0.0.99", b"the very last"))
    assert False
""",
        "--basetemp=tmp",
    )
    told = sections(done.stdout.str())["vnet drops"]
    assert "a  sent 401, of which dropped: 1 no_host; received 0" in told
    assert "10.0.0.99" in told
    assert "the last 16 MiB kept" in told
    folder = project.path / "tmp" / "vnet-captures"
    assert captures(folder) == ["test_it-test_long.1.pcapng", "test_it-test_long.2.pcapng"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 17 << 20


def test_of_a_test_that_kills_its_process_the_capture_is_left(project: Project) -> None:
    project.test(
        """
def test_dies(lan):
    lan.attach("a").send(datagram("10.0.0.1", "10.0.0.99"))
    time.sleep(0.3)
    os.kill(os.getpid(), 9)
""",
        "--vnet-captures=there",
    )
    (left,) = (project.path / "there").iterdir()
    assert left.name.startswith("test_it-test_dies.")
    assert b"no_host" in next(left.iterdir()).read_bytes()


def test_a_place_where_nothing_can_be_captured_harms_no_test(project: Project) -> None:
    project.path.joinpath("tmp").mkdir()
    project.write(
        "conftest.py",
        "import pytest\n@pytest.fixture(autouse=True)\ndef broken(tmp_path_factory):\n"
        "    tmp_path_factory.getbasetemp().joinpath('vnet-captures').write_text('in the way')\n",
    )
    done = project.test(FAILING + "\ndef test_passes(lan):\n    lan.attach('a').send(b'')\n", "--basetemp=tmp")
    done.assert_outcomes(failed=1, passed=1)
    assert "no capture: " in sections(done.stdout.str())["vnet drops"]


# What is wrong with marks and options


WRONG = [
    ("lan('10.0.0.0/33')", "@pytest.mark.lan: '10.0.0.0/33' is not a prefix such as 10.0.0.0/24 or fd00::/64:*"),
    ("lan('10.0.0.1/24')", "@pytest.mark.lan: '10.0.0.1/24' is not a prefix such as 10.0.0.0/24*has host bits set"),
    ("lan('10.0.0.0/24', '10.1.0.0/24')", "@pytest.mark.lan: a network has at most one prefix of each family*"),
    ("lan(24)", "@pytest.mark.lan: a prefix is text such as '10.0.0.0/24', not 24"),
    ("lan(mut=1500)", "@pytest.mark.lan has no argument 'mut'; did you mean 'mtu'?"),
    ("lan(colour='red')", "@pytest.mark.lan has no argument 'colour'; it has mtu, seed, max_nics, buffer, name,*"),
    ("lan(mtu='1500')", "@pytest.mark.lan: mtu is a whole number, not '1500'"),
    ("lan(mtu=100)", "@pytest.mark.lan: the MTU of network 'lan' is 1280 to 65535 bytes, not 100"),
    ("lan(named='office')", "@pytest.mark.lan: named is True or False, not 'office'"),
    ("lan(named=True, name='office')", "@pytest.mark.lan: named=True makes a name that no other test has;*"),
    ("lan(name='a b')", "@pytest.mark.lan: 'a b' cannot name a LAN: *"),
    ("lan(max_nics=0)", "@pytest.mark.lan: max_nics is 1 to 65,533, not 0"),
    ("lab()", "@pytest.mark.lab takes the file of a lab, or the name of one that comes with vnet; write *"),
    ("lab(7)", "@pytest.mark.lab takes the file of a lab, or the name of one that comes with vnet; it got 7"),
    ("lab('office.yaml')", "@pytest.mark.lab: office.yaml: there is no such file (did you mean 'offices.yaml'?)"),
    ("lab('quikstart')", "@pytest.mark.lab: quikstart: *no lab of that name (did you mean 'quickstart'?)*"),
    ("lab('offices.yaml')", "@pytest.mark.lab: offices.yaml:2:19: nodes.a.kind: *(did you mean 'host'?)*"),
    ("lab('quickstart', seed=-1)", "@pytest.mark.lab: seed is a whole number from 0 on, not -1"),
    ("lab('quickstart', 3)", "@pytest.mark.lab takes *; it got 'quickstart', 3"),
]


def test_a_mark_that_is_wrong_is_one_sentence(project: Project) -> None:
    project.path.joinpath("offices.yaml").write_text("networks: {lan: 10.0.0.0/24}\nnodes: {a: {kind: hots}}\n")
    tests = [
        f"@pytest.mark.{mark}\ndef test_{number}({mark.partition('(')[0]}): pass\n"
        for number, (mark, _) in enumerate(WRONG)
    ]
    done = project.test("\n".join(tests))
    done.assert_outcomes(errors=len(WRONG))
    told = sections(done.stdout.str())
    for number, (mark, sentence) in enumerate(WRONG):
        (said,) = told[f"ERROR at setup of test_{number}"].splitlines()
        assert fnmatch.fnmatchcase(said, f"test_it.py:*: {sentence}".replace("[", "[[]")), mark


def test_a_fixture_without_its_mark_and_options_that_are_wrong_say_so(project: Project) -> None:
    project.test("def test_it(lab): pass").stdout.fnmatch_lines(
        ["test_it.py:*: the fixture 'lab': @pytest.mark.lab takes the file of a lab*write @pytest.mark.lab('*')"]
    )
    project.path.joinpath("file").write_text("")
    for arguments, said in (
        (["--vnet-captures=file"], f"ERROR: --vnet-captures {project.path}/file: file exists"),
        (["--vnet-captures=file/x"], f"ERROR: --vnet-captures {project.path}/file/x: not a directory"),
        (["-o", "vnet_captures_kept=many"], "ERROR: vnet_captures_kept is a number of files, not 'many'"),
    ):
        done = project.run(*arguments)
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        assert said in done.stderr.str().splitlines()


def test_those_who_do_not_use_it_do_not_import_vnet(project: Project) -> None:
    project.path.joinpath("test_plain.py").write_text(
        "import sys\ndef test_it(tmp_path):\n    names = [name for name in sys.modules if 'vnet' in name]\n"
        "    assert names == ['pytest_vnet']\n"
    )
    project.run("--fixtures").stdout.fnmatch_lines(["lan -- *", "    A LAN for the test*"])
    project.run("-m", "not lan").assert_outcomes(passed=1)
    project.run("--strict-markers", "--markers").stdout.fnmatch_lines(["@pytest.mark.lan(*", "@pytest.mark.lab(*"])


# Labs

OFFICE = """
name: office
networks: {desk: [10.1.0.0/24, "fd00:1::/64"]}
nodes:
  alice:
  bob: {networks: {desk: 10.1.0.20}}
  echo: {kind: process, exec: python3 echo.py}
steps:
  - ping: {from: alice, to: bob, count: 3}
    expect: {loss: 0%}
  - inject: {from: alice, packet: 'IP(dst="echo")/UDP(dport=7)/Raw(b"hello")', count: 5}
    expect: {delivered: 5}
"""

ECHO = """
import vnet
with vnet.attach() as nic:
    print("up as", nic.name, nic.lan, flush=True)
    for datagram in iter(nic.recv, b""):
        nic.send(datagram[:12] + datagram[16:20] + datagram[12:16] + datagram[20:])
"""

LAB_TESTS = """
import subprocess
pytestmark = pytest.mark.lab("labs/office.yaml")
SEEN = []

@pytest.mark.parametrize("turn", range(3))
def test_it_is_up(lab, turn):
    assert set(lab.nodes) == {"alice", "bob", "echo"} and set(lab.hosts) == {"alice", "bob"}
    assert lab.address("bob") == "10.1.0.20" and ":" in lab.address("bob", 6)
    assert lab.hosts["alice"].ping(lab.address("bob")).received == 1
    me = lab.lan.attach("me")
    me.send(datagram(me.address, lab.address("echo"), b"hello"))
    assert me.recv(timeout=5) == datagram(lab.address("echo"), me.address, b"hello")
    assert lab.lan.name.startswith("test_it_is_up-") and lab.lan.name not in SEEN
    SEEN.append(lab.lan.name)

def test_its_steps_are_taken(lab):
    assert lab.report is None
    report = lab.run_steps()
    assert report is lab.report and report.passed and report.lab == "office" and len(report.steps) == 2
    assert f"up as echo {lab.lan.name}" in lab.wait_output("echo", "up as")
    assert "up as echo" in lab.output("echo")

def test_a_node_can_be_restarted(lab):
    before = lab.state("echo").pid
    lab.restart("echo")
    after = lab.state("echo")
    assert after.up and after.pid != before

def test_names_that_are_not_there(lab):
    with pytest.raises(ValueError, match="did you mean 'alice'"):
        lab.address("alcie")
    with pytest.raises(ValueError, match="built-in host, which prints nothing"):
        lab.output("alice")
"""


def write_office(project: Project) -> None:
    project.path.joinpath("labs").mkdir()
    project.write("labs/office.yaml", OFFICE)
    project.write("labs/echo.py", ECHO)


def test_a_lab_is_up_for_a_test(project: Project) -> None:
    write_office(project)
    project.test(LAB_TESTS).assert_outcomes(passed=6)


def test_a_lab_whose_steps_fail_tells_which_and_why(project: Project) -> None:
    write_office(project)
    done = project.test(
        """
@pytest.mark.lab("labs/failing.yaml")
def test_fails(lab):
    lab.run_steps()

@pytest.mark.lab("labs/failing.yaml")
def test_looks_itself(lab):
    report = lab.run_steps(check=False, keep_going=True)
    assert [step.outcome for step in report.steps] == ["failed", "passed"]
"""
        if not project.write("labs/failing.yaml", OFFICE.replace("loss: 0%", "loss: 100%"))
        else ""
    )
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(
        [
            "E *AssertionError: labs/failing.yaml:9: step 1 failed: ping alice *",
            "E *FAIL * 1 *ping alice *expected loss 100%*",
            "E *expected loss 100%, found 0%",
        ]
    )
    told = sections(done.stdout.str())
    assert "bob    sent 3; received 3" in told["vnet drops"]
    assert "    up as echo " in told["vnet lab commands"]


def test_a_lab_that_does_not_come_up_says_why_and_leaves_nothing(project: Project) -> None:
    write_office(project)
    project.write("labs/office.yaml", OFFICE.replace("python3 echo.py", "sleep 77 & echo no luck; exit 3"))
    done = project.test("@pytest.mark.lab('labs/office.yaml')\ndef test_it(lab): pass")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["test_it.py:*: @pytest.mark.lab: labs/office.yaml:7: nodes.echo: *ended with code 3*no luck*"]
    )
    assert "Traceback" not in done.stdout.str()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x0077" in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# Beside one another


def test_workers_of_xdist_do_not_meet_and_all_is_told(project: Project) -> None:
    write_office(project)
    project.write("test_labs.py", LAB_TESTS)
    project.write(
        "test_lans.py",
        "@pytest.mark.parametrize('n', range(30))\n@pytest.mark.lan(named=True)\ndef test_it(lan, n):\n"
        "    a, b = lan.attach('a'), vnet.attach(None, 'b')\n    a.send(datagram(a.address, b.address))\n"
        "    assert b.recv(timeout=5)\n",
    )
    project.write("test_failing.py", "".join(FAILING.replace("test_fails", f"test_fails_{n}") for n in range(4)))
    done = project.run("-n", "2", "--vnet-captures=kept", "-o", "vnet_captures_kept=2")
    done.assert_outcomes(passed=36, failed=4)
    said = done.stdout.str()
    assert said.count("gone  sent 1, of which dropped: 1 no_host; received 0") == 4
    assert 2 <= len(captures(project.path / "kept")) <= 4
    assert len(sections(said)["vnet captures of failed tests"].splitlines()) >= 2


def test_the_plugin_is_found_where_vnet_is_installed() -> None:
    """As pytest finds it; nothing of a checkout is needed for that."""
    program = (
        "import json, importlib.metadata as m; "
        "print(json.dumps([[e.name, e.value] for e in m.entry_points(group='pytest11') if e.dist.name == 'vnet']))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == [["vnet", "pytest_vnet"]]
