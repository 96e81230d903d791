"""vnet doctor: what it says of this machine is so, and it leaves the machine as it was."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vnet.doctor import Finding, State, base, guests, kinds, tools
from vnet.doctor.packages import PackageManager
from vnet.doctor.probe import probe

VNET = [sys.executable, "-m", "vnet"]


def doctor(*arguments: str, **popen: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*VNET, "doctor", *arguments], capture_output=True, text=True, timeout=60, check=False, **popen
    )  # type: ignore[call-overload,no-any-return]


def named(findings: object, name: str) -> Finding:
    return next(each for each in findings if each.name == name)  # type: ignore[attr-defined,no-any-return]


def test_this_machine_runs_vnet_or_this_test_would_not_run() -> None:
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "vnet runs here"
    assert "✓ a LAN" in done.stdout


def test_json_says_the_same() -> None:
    done = doctor("--json")
    said = json.loads(done.stdout)
    assert (said["format"], said["runs"], done.returncode) == (1, True, 0)
    for each in said["findings"]:
        assert each["state"] in {state.value for state in State}
        assert each["why"]
        # Whoever lacks something is told what to do about it.
        assert each["remedy"] or each["state"] == "ok"
    assert {each["name"] for each in said["findings"]} >= {
        "sealed memory files", "pidfd", "runtime directory", "address space", "open files", "processor cores",
        "huge pages", "user namespaces", "network namespaces", "/dev/net/tun", "CAP_NET_ADMIN", "module bridge",
        "module vxlan", "/dev/kvm", "QEMU", "libpcap", "tshark", "wireshark", "scapy", "Pillow", "dot",
    }  # fmt: skip


def test_what_vnet_always_needs_and_lacks_is_exit_code_3(runtime_directory: Path) -> None:
    # Somebody's file lies where the runtime directory is to be.
    (runtime_directory / "vnet").write_text("")
    done = doctor()
    (runtime_directory / "vnet").unlink()
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "vnet does not run here: runtime directory"
    assert f"→ rm {runtime_directory}/vnet" in done.stdout


def test_a_limit_on_address_space_is_found() -> None:
    limit = 6 << 30
    done = doctor("--json", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    said = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert said["address space"]["state"] == "limited"
    assert said["address space"]["remedy"] == "ulimit -v unlimited"
    # A LAN of the default size cannot be made then, which is what decides.
    assert (said["a LAN"]["state"], done.returncode) == ("missing", 3)


def test_few_open_files_and_one_core_are_limits_and_no_more() -> None:
    def less() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    done = doctor("--json", preexec_fn=less)
    said = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert (said["open files"]["state"], said["open files"]["remedy"]) == ("limited", "ulimit -n 300")
    assert said["processor cores"]["state"] == "limited"
    assert done.returncode == 0


def test_another_user_s_runtime_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "vnet").mkdir(mode=0o777)
    (tmp_path / "vnet").chmod(0o777)
    found = named(base.findings({}), "runtime directory")
    assert (found.state, found.needed) == (State.MISSING, True)
    assert "others may write to it" in found.found


def interfaces() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))


def modules() -> set[str]:
    return set(os.listdir("/sys/module"))


def test_the_probe_leaves_the_machine_as_it_was(tmp_path: Path) -> None:
    before = interfaces(), modules(), os.stat("/proc/self/ns/net").st_ino, sorted(os.listdir(tmp_path))
    found = probe()
    assert (interfaces(), modules(), os.stat("/proc/self/ns/net").st_ino, sorted(os.listdir(tmp_path))) == before
    assert {"user_namespace", "network_namespace", "network_namespace_in_user_namespace"} <= found.keys()
    assert not any("crashed" in said for said in found.values())


@pytest.mark.parametrize(("name", "flags"), [("user namespaces", ["-U"]), ("network namespaces", ["-n"])])
def test_namespaces_are_there_where_unshare_makes_them(name: str, flags: list[str]) -> None:
    # unshare(1) is of util-linux, which every distribution has; as root it needs no user namespace for the second.
    works = subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False).returncode == 0
    found = named(guests.findings(probe(), PackageManager("apt-get")), name)
    assert (found.state is State.OK) >= works


def test_kinds_of_nodes_are_said_to_work_where_labs_of_them_do(tmp_path: Path) -> None:
    before = interfaces(), modules()
    found = {each.name: each.state for each in kinds.findings()}
    assert (interfaces(), modules()) == before
    assert set(found) == {"kind netns", "kind tap", "bridge of a tap", "gateway of a tap"}
    nodes = {"kind netns": "{kind: netns}", "gateway of a tap": "{kind: tap, gateway: true}"}
    for name, node in nodes.items():
        lab = f"networks: {{lan: 10.0.0.0/24}}\nnodes: {{n: {node}, h: }}\nsteps: [ping: {{from: h, to: n}}]\n"
        (tmp_path / "lab.yaml").write_text(lab)
        # What stands in this machine's own namespace stands in another here.
        alone = ["unshare", "--net"] if "tap" in node else []
        run = [*alone, *VNET, "run", "lab.yaml"]
        works = subprocess.run(run, cwd=tmp_path, capture_output=True, check=False, timeout=60).returncode == 0
        assert (found[name] is State.OK) == works, name


def test_a_machine_without_tun_is_told_which_kinds_do_not_work() -> None:
    hide = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net; exec "$@"', "sh"]
    done = subprocess.run([*hide, *VNET, "doctor", "--json"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode not in (0, 3):
        pytest.skip(f"no mount namespace: {done.stderr}")
    said = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert said["kind netns"]["state"] == said["kind tap"]["state"] == said["/dev/net/tun"]["state"] == "missing"
    assert "there is no /dev/net/tun" in said["kind netns"]["found"]


def test_ping_is_the_one_that_namespaces_ping_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = PackageManager("apt-get")
    real = subprocess.run(["ping", "-V"], capture_output=True, text=True, check=True).stdout
    found = named(guests.findings({}, manager), "ping")
    assert (found.state is State.OK) == ("iputils" in real)
    (tmp_path / "ping").write_text("#!/bin/sh\necho BusyBox v1.36.1\n")
    (tmp_path / "ping").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = named(guests.findings({}, manager), "ping")
    assert (found.state, found.found) == (State.LIMITED, "not that of iputils: BusyBox v1.36.1")
    assert found.remedy.endswith("apt-get install iputils-ping")
    missing = named(guests.findings({}, manager), "nsenter")
    assert (missing.state, missing.remedy.endswith("apt-get install util-linux")) == (State.MISSING, True)


def test_a_device_that_is_there_and_does_not_work_is_told_from_one_that_does() -> None:
    if not Path("/dev/kvm").exists():
        found = named(guests.findings({}, PackageManager("")), "/dev/kvm")
        assert (found.state, found.found) == (State.MISSING, "it is not there")
        return
    works = named(guests.findings({"kvm": ""}, PackageManager("")), "/dev/kvm")
    broken = named(guests.findings({"kvm": "Invalid argument"}, PackageManager("")), "/dev/kvm")
    assert (works.state, broken.state) == (State.OK, State.MISSING)
    assert "invalid argument" in broken.found


def test_programs_are_found_where_the_shell_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("tshark", "dot"):
        found = named(tools.findings(PackageManager("apt-get")), program)
        assert (found.state is State.OK) == (shutil.which(program) is not None)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = named(tools.findings(PackageManager("apt-get")), "tshark")
    assert found.state is State.MISSING
    assert found.remedy.endswith("apt-get install tshark")


@pytest.mark.parametrize(
    ("manager", "command"),
    [("apt-get", "apt-get install graphviz"), ("dnf", "dnf install graphviz"), ("pacman", "pacman -S graphviz")],
)
def test_the_command_is_that_of_the_distribution(manager: str, command: str) -> None:
    assert PackageManager(manager).install("dot").removeprefix("sudo ") == command
    assert "graphviz" in PackageManager("").install("dot")


def test_an_ordinary_user_is_told_to_type_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert PackageManager("apt-get").install("tshark") == "sudo apt-get install tshark"


def test_lines_fit_a_narrow_terminal_but_for_commands_to_copy() -> None:
    done = doctor(env={**os.environ, "COLUMNS": "60"})
    assert all(len(line) <= 60 for line in done.stdout.splitlines() if "→" not in line)


def test_installing_and_uninstalling_exclude_each_other() -> None:
    done = doctor("--install-extcap", "--uninstall-extcap")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_wireshark_s_view_of_labs_comes_and_goes(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    environment = {**os.environ, "WIRESHARK_EXTCAP_DIR": str(tmp_path), "HOME": str(tmp_path)}

    def state() -> str:
        findings = json.loads(doctor("--json", env=environment).stdout)["findings"]
        return next(each["state"] for each in findings if each["name"] == "Wireshark's view of labs")

    assert state() == "missing"
    installed = json.loads(doctor("--install-extcap", "--json", env=environment).stdout)
    assert Path(installed["file"]).is_file()
    assert state() == "ok"
    assert doctor("--uninstall-extcap", env=environment).stdout == f"removed {installed['file']}\n"
    assert state() == "missing"
    assert doctor("--uninstall-extcap", env=environment).stdout == "nothing was installed\n"
