"""Every mistake in a lab file is one sentence with its place and what was expected, and nothing starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from vnet.errors import LabError
from vnet.lab.source import load

HEAD = "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n  bob:\nsteps:\n"
"""Five lines that are right; a step that follows stands in line 6."""

STEP = HEAD + "  - "

NODE = "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {%s}\n"
"""One node; what it says begins in line 3, column 7."""

# What the file holds, and then line, column, key, and what the sentence says.
MISTAKES = {
    "not YAML": ("networks: [1, 2", 1, 16, "", "not YAML: while parsing a flow sequence expected ',' or ']'"),
    "tab": ("networks:\n\tlan: 10.0.0.0/24", 2, 1, "", "not YAML: "),
    "two documents": ("a: 1\n---\nb: 2\n", 2, 1, "", "not YAML: expected a single document"),
    "alias of nothing": ("networks: *x", 1, 11, "", "not YAML: found undefined alias 'x'"),
    "empty": ("", 0, 0, "", "the file is empty; expected a lab"),
    "comments only": ("# nothing\n", 0, 0, "", "the file is empty"),
    "text": ("hello", 1, 1, "", "expected a mapping with keys such as name, seed, networks"),
    "list": ("- a\n- b\n", 1, 1, "", "found a list"),
    "python object": ("networks: !!python/object x", 1, 11, "networks", "YAML tag"),
    "key twice": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a:\n  b:\n  a:\n",
        *(5, 3, "nodes.a", "the key 'a' is here twice; the first is in line 3"),
    ),
    "number as a key": ("networks: {7: 10.0.0.0/24}", 1, 12, "networks", 'in quotes: "7"'),
    "unknown key": (HEAD + "  []\nstep: []\n", 7, 1, "step", "unknown key 'step' (did you mean 'steps'?)"),
    "unknown key of a node": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {knd: host}\n",
        *(3, 7, "nodes.a.knd", "unknown key 'knd' (did you mean 'kind'?)"),
    ),
    "no networks": ("nodes: {a: }\n", 1, 1, "", "'networks' is missing"),
    "empty networks": ("networks: {}\nnodes: {a: }\n", 1, 11, "networks", "expected at least one network"),
    "no nodes": ("networks: {lan: 10.0.0.0/24}\n", 1, 1, "", "'nodes' is missing"),
    "empty nodes": ("networks: {lan: 10.0.0.0/24}\nnodes:\n", 2, 1, "nodes", "expected at least one node"),
    "seed is text": ("seed: abc\n" + HEAD + "  []", 1, 7, "seed", "expected a whole number, found 'abc'"),
    "seed is a boolean": ("seed: true\n" + HEAD + "  []", 1, 7, "seed", "expected a whole number, found true"),
    "seed is negative": ("seed: -1\n" + HEAD + "  []", 1, 7, "seed", "expected at least 0, found -1"),
    "name is a number": ("name: 12\n" + HEAD + "  []", 1, 7, "name", "expected text, found 12; put it in quotes"),
    "name of a path": ("name: ../x\n" + HEAD + "  []", 1, 7, "name", "'../x' is not a name"),
    "nodes is a list": ("networks: {lan: 10.0.0.0/24}\nnodes: [a]", 2, 8, "nodes", "expected a mapping, found a list"),
    "kind to come": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {kind: qemu}",
        *(
            3,
            13,
            "nodes.a.kind",
            "does not support nodes of the kind 'qemu' yet; it runs host, process, netns, tap and router",
        ),
    ),
    "kind that is close": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {kind: hots}",
        *(3, 13, "nodes.a.kind", "unknown kind 'hots' (did you mean 'host'?); expected one of host, process, netns"),
    ),
    "not a prefix": ("networks:\n  lan: 10.0.0/24\nnodes: {a: }", 2, 8, "networks.lan", "is not a prefix"),
    "host bits": (
        "networks:\n  lan: 10.0.0.1/24\nnodes: {a: }",
        *(2, 8, "networks.lan", "is an address inside 10.0.0.0/24; expected the prefix 10.0.0.0/24"),
    ),
    "address as a prefix": ("networks:\n  lan: 10.0.0.1\nnodes: {a: }", 2, 8, "networks.lan", "expected a prefix"),
    "multicast prefix": ("networks: {lan: 224.0.0.0/8}\nnodes: {a: }", 1, 17, "networks.lan", "guests cannot live in"),
    "prefix is a number": ("networks: {lan: 10}\nnodes: {a: }", 1, 17, "networks.lan", "found 10"),
    "two IPv4 prefixes": (
        "networks:\n  lan: [10.0.0.0/24, 10.0.1.0/24]\nnodes: {a: }",
        *(2, 22, "networks.lan[1]", "one IPv4 prefix"),
    ),
    "mtu is text": (
        "networks:\n  lan: {prefix: 10.0.0.0/24, mtu: big}\nnodes: {a: }",
        2,
        35,
        "networks.lan.mtu",
        "'big'",
    ),
    "mtu too small": (
        'networks:\n  lan: {prefix: "fd00::/64", mtu: 1000}\nnodes: {a: }',
        *(2, 35, "networks.lan.mtu", "at least 1280 bytes"),
    ),
    "overlap": (
        "networks:\n  wide: 10.0.0.0/8\n  other: 192.168.0.0/24\n  narrow: 10.2.0.0/16\nnodes: {a: {networks: [wide]}}",
        *(4, 11, "networks.narrow", "10.2.0.0/16 overlaps 10.0.0.0/8 of network 'wide'"),
    ),
    "unknown network": (
        "networks: {desk: 10.0.0.0/24}\nnodes:\n  a: {networks: [dest]}",
        *(3, 18, "nodes.a.networks[0]", "no network is called 'dest' (did you mean 'desk'?)"),
    ),
    "unknown network with an address": (
        "networks: {desk: 10.0.0.0/24}\nnodes:\n  a: {networks: {lab: 10.0.0.1}}",
        *(3, 18, "nodes.a.networks.lab", "no network is called 'lab'; the networks are desk"),
    ),
    "which network": (
        "networks: {a: 10.0.0.0/24, b: 10.0.1.0/24}\nnodes:\n  n: {kind: host}",
        *(3, 6, "nodes.n", "the lab has several networks (a, b); expected 'networks: [a]'"),
    ),
    "two networks": (
        "networks: {a: 10.0.0.0/24, b: 10.0.1.0/24}\nnodes:\n  n: {networks: [a, b]}",
        *(3, 17, "nodes.n.networks", "joins 2 networks, but a host node has one NIC; expected one"),
    ),
    "address outside": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {networks: {lan: 10.0.1.1}}",
        *(3, 23, "nodes.a.networks.lan", "10.0.1.1 is outside network 'lan' (10.0.0.0/24)"),
    ),
    "address of another network": (
        "networks: {a: 10.0.0.0/24, b: 10.0.1.0/24}\nnodes:\n  n: {networks: {a: 10.0.1.1}}",
        *(3, 21, "nodes.n.networks.a", "it belongs to network 'b'"),
    ),
    "network address": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {networks: {lan: 10.0.0.0}}",
        *(3, 23, "nodes.a.networks.lan", "10.0.0.0 is the network address of 10.0.0.0/24"),
    ),
    "broadcast address": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {networks: {lan: [10.0.0.1, 10.0.0.255]}}",
        *(3, 34, "nodes.a.networks.lan[1]", "10.0.0.255 is the broadcast address of 10.0.0.0/24"),
    ),
    "duplicate address": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {networks: {lan: 10.0.0.9}}\n  b: {networks: {lan: 10.0.0.9}}",
        *(4, 23, "nodes.b.networks.lan", "10.0.0.9 is already the address of 'a'"),
    ),
    "no address": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {networks: {lan: ten}}",
        *(3, 23, "nodes.a.networks.lan", "'ten' is not an IP address"),
    ),
    "full network": (
        "networks: {lan: 10.0.0.0/30}\nnodes:\n  a:\n  b:\n  c:\n",
        *(5, 3, "nodes.c", "network 'lan' is full: all 2 usable addresses of 10.0.0.0/30 are given out"),
    ),
    "generated names collide": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  web-2:\n  web: {count: 3}\n",
        *(4, 3, "nodes.web", "a node called 'web-2' is made by 'web-2' too"),
    ),
    "address for many": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  web: {count: 3, networks: {lan: 10.0.0.1}}\n",
        *(3, 35, "nodes.web.networks.lan", "takes the next free addresses"),
    ),
    "count of none": ("networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {count: 0}\n", 3, 14, "nodes.a.count", "at least 1"),
    "host with a command": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {exec: sleep 1}\n",
        *(3, 7, "nodes.a.exec", "a host node runs no command; expected 'kind: process, netns or tap'"),
    ),
    "empty command": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {kind: process, exec: []}\n",
        *(3, 28, "nodes.a.exec", "expected a command line as text, or a list of its words"),
    ),
    "environment is a number": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  a: {kind: process, env: {N: 5}}\n",
        *(3, 31, "nodes.a.env.N", "expected text, found 5; put it in quotes"),
    ),
    "bad name": ("networks: {lan: 10.0.0.0/24}\nnodes:\n  a b:\n", 3, 3, "nodes.a b", "'a b' is not a name"),
    "steps is a mapping": (HEAD[:-1] + " {ping: }", 5, 8, "steps", "expected a list, found a mapping"),
    "step is text": (STEP + "ping", 6, 5, "steps[0]", "expected a step, a mapping with its kind as key"),
    "step without a kind": (
        STEP + "name: x",
        6,
        5,
        "steps[0]",
        "a step without a kind; expected one of ping, ping_all",
    ),
    "step of two kinds": (
        STEP + "ping: {from: alice, to: bob}\n    wait: 1s",
        *(7, 5, "steps[0].wait", "this one has both 'ping' and 'wait'"),
    ),
    "unknown step": (STEP + "pnig: {}", 6, 5, "steps[0].pnig", "unknown kind of step 'pnig' (did you mean 'ping'?)"),
    "unknown node": (
        STEP + "ping: {from: alice, to: bob}\n  - ping: {from: alcie, to: bob}",
        *(7, 18, "steps[1].ping.from", "no node is called 'alcie' (did you mean 'alice'?)"),
    ),
    "unknown target": (
        STEP + "ping: {from: alice, to: bab}",
        *(6, 29, "steps[0].ping.to", "'bab' is neither a node nor an IP address (did you mean 'bob'?)"),
    ),
    "ping without a target": (STEP + "ping: {from: alice}", 6, 11, "steps[0].ping", "'to' is missing"),
    "no family": (STEP + "ping: {from: alice, to: bob, family: 5}", 6, 42, "steps[0].ping.family", "expected 4 or 6"),
    "family that is not there": (
        STEP + "ping: {from: alice, to: bob, family: 6}",
        *(6, 29, "steps[0].ping.to", "do not both have an IPv6 address"),
    ),
    "duration without a unit": (
        STEP + "ping: {from: alice, to: bob, timeout: 5}",
        *(6, 43, "steps[0].ping.timeout", "5 has no unit; expected a duration such as 500ms or 2s"),
    ),
    "unknown unit": (
        STEP + "wait: 5 parsec",
        *(6, 11, "steps[0].wait", "unknown unit 'parsec'; known units are ns, us, µs, ms, s, min, h"),
    ),
    "negative duration": (STEP + "wait: -5ms", 6, 11, "steps[0].wait", "which is negative"),
    "endless duration": (STEP + "wait: .inf", 6, 11, "steps[0].wait", "expected a duration such as 500ms or 2s"),
    "wait expects nothing": (STEP + "wait: 5ms\n    expect: {}", 7, 5, "steps[0].expect", "nothing to expect"),
    "unknown metric": (
        STEP + "ping: {from: alice, to: bob}\n    expect: {los: 0%}",
        *(7, 14, "steps[0].expect.los", "unknown key 'los' (did you mean 'loss'?)"),
    ),
    "metric without a unit": (
        STEP + "ping: {from: alice, to: bob}\n    expect: {avg: < 30}",
        *(7, 19, "steps[0].expect.avg", "'30' has no unit; expected a duration"),
    ),
    "loss as a number": (
        STEP + "ping: {from: alice, to: bob}\n    expect: {loss: 5}",
        *(7, 20, "steps[0].expect.loss", "5 has no unit; expected a percentage such as 0%"),
    ),
    "bad pattern": (
        STEP + 'exec: {command: ls}\n    expect: {stdout: {matches: "("}}',
        *(7, 32, "steps[0].expect.stdout.matches", "not a regular expression: missing )"),
    ),
    "exec on a host": (
        STEP + "exec: {on: alice, command: ls}",
        *(6, 16, "steps[0].exec.on", "'alice' is a host node, which runs no commands; expected a process, netns"),
    ),
    "nobody to ping": (
        "networks: {lan: 10.0.0.0/24}\nnodes: {a: }\nsteps:\n  - ping_all:\n",
        *(4, 5, "steps[0].ping_all", "no network has two hosts"),
    ),
    "packet is no expression": (
        STEP + "inject: {from: alice, packet: 'IP(/UDP()'}",
        *(6, 35, "steps[0].inject.packet", "not a Python expression at character"),
    ),
    "unknown packet": (
        STEP + "inject: {from: alice, packet: 'IPP()/UDP()'}",
        *(6, 35, "steps[0].inject.packet", "scapy has no packet called 'IPP' at character 1 (did you mean"),
    ),
    "unknown field": (
        STEP + "inject: {from: alice, packet: 'IP()/UDP(dprot=9)'}",
        *(6, 35, "steps[0].inject.packet", "UDP has no field 'dprot' at character 6 (did you mean 'dport'?)"),
    ),
    "packet reaches for the system": (
        STEP + 'inject: {from: alice, packet: \'__import__("os").system("id")\'}',
        *(6, 35, "steps[0].inject.packet", "may not use .system"),
    ),
    "packet with a lambda": (
        STEP + "inject: {from: alice, packet: '(lambda: IP())()'}",
        *(6, 35, "steps[0].inject.packet", "may not hold a lambda"),
    ),
    "packet for nobody": (
        STEP + "inject: {from: alice, packet: 'IP(dst=\"bop\")'}",
        *(6, 35, "steps[0].inject.packet", "'bop' is neither a node nor an IPv4 address (did you mean 'bob'?)"),
    ),
    "packet is Ethernet": (
        STEP + "inject: {from: alice, packet: 'Ether()/IP()'}",
        *(6, 35, "steps[0].inject.packet", "the LAN carries IP datagrams, not Ethernet frames"),
    ),
    "packet without a source": (
        STEP + "inject: {from: alice, packet: 'IPv6(dst=\"fd00::1\")'}",
        *(6, 35, "steps[0].inject.packet", "'alice' has no IPv6 address; give the packet a src"),
    ),
    "packet that scapy refuses": (
        STEP + "inject: {from: alice, packet: 'IP(ttl=70000)'}",
        *(6, 35, "steps[0].inject.packet", "scapy cannot build the packet: "),
    ),
    "kind of packet": (
        STEP + "inject: {from: alice, packet: 'IP'}",
        *(6, 35, "steps[0].inject.packet", "write IP() for a packet of that kind"),
    ),
    "no capture": (
        STEP + "replay: {file: missing.pcap}",
        *(6, 20, "steps[0].replay.file", "'missing.pcap' cannot be read: no such file or directory"),
    ),
    "capture is text": (
        STEP + "replay: {file: lab.yaml}",
        *(6, 20, "steps[0].replay.file", "'lab.yaml' is no pcap or pcapng file"),
    ),
    "step time without a unit": (
        STEP + "ping: {from: alice, to: bob}\n    timeout: 5",
        *(7, 14, "steps[0].timeout", "5 has no unit; expected a duration"),
    ),
    "empty range": (
        STEP + 'ping: {from: alice, to: bob}\n    expect: {avg: "30ms..1ms"}',
        *(7, 19, "steps[0].expect.avg", "the range '30ms..1ms' is empty; expected the lower end first"),
    ),
    "unknown key of a service": (
        NODE % "serve: {tpc: 80, http: x}",
        *(3, 15, "nodes.a.serve.tpc", "unknown key 'tpc' (did you mean 'tcp'?)"),
    ),
    "service on two ports": (
        NODE % "serve: {tcp: 80, udp: 80, echo: true}",
        *(3, 14, "nodes.a.serve", "a service has one port; expected either 'tcp' or 'udp'"),
    ),
    "service that does nothing": (
        NODE % "serve: [{tcp: 80, echo: true}, {tcp: 9}]",
        *(3, 38, "nodes.a.serve[1]", "a service does one thing; expected one of http, echo and discard"),
    ),
    "service that does two things": (
        NODE % "serve: {tcp: 80, http: x, echo: true}",
        *(3, 14, "nodes.a.serve", "expected one of http, echo and discard, found http and echo"),
    ),
    "http over udp": (
        NODE % "serve: {udp: 80, http: x}",
        *(3, 15, "nodes.a.serve.udp", "http is spoken over TCP; expected 'tcp' in place of 'udp'"),
    ),
    "port out of range": (
        NODE % "serve: {tcp: 70000, echo: true}",
        *(3, 20, "nodes.a.serve.tcp", "expected at most 65535, found 70000"),
    ),
    "port twice": (
        NODE % "serve: [{tcp: 80, echo: true}, {tcp: 80, http: x}]",
        *(3, 38, "nodes.a.serve[1]", "tcp port 80 has a service already"),
    ),
    "service of a program": (
        NODE % "kind: process, serve: {tcp: 80, http: x}",
        *(3, 22, "nodes.a.serve", "a process node serves with its own command; expected 'kind: host'"),
    ),
    "ready when nothing": (
        NODE % "kind: process, ready: {timeout: 1s}",
        *(3, 29, "nodes.a.ready", "expected at least one of command, port and output"),
    ),
    "unknown key of ready": (
        NODE % "kind: process, ready: {prot: 80}",
        *(3, 30, "nodes.a.ready.prot", "unknown key 'prot' (did you mean 'port'?)"),
    ),
    "ready port of another protocol": (
        NODE % "kind: process, ready: {port: {udp: 80}}",
        *(3, 36, "nodes.a.ready.port", "expected a TCP port, such as 80 or {tcp: 80}"),
    ),
    "ready host": (
        NODE % "ready: {port: 80}",
        *(3, 7, "nodes.a.ready", "a host node is ready as soon as it is there; expected 'kind: process, netns"),
    ),
    "ready output without a command": (
        NODE % "kind: process, ready: {output: x}",
        *(3, 30, "nodes.a.ready.output", "a node without a command prints nothing; expected 'exec' beside it"),
    ),
    "ready pattern": (
        NODE % 'kind: process, exec: ls, ready: {output: "("}',
        *(3, 48, "nodes.a.ready.output", "not a regular expression: missing )"),
    ),
    "tcp without a port": (STEP + "tcp: {from: alice, to: bob}", 6, 10, "steps[0].tcp", "'port' is missing"),
    "unknown end of a connection": (
        STEP + "tcp: {from: alice, to: bob, port: 80}\n    expect: {stat: open}",
        *(7, 14, "steps[0].expect.stat", "unknown key 'stat' (did you mean 'state'?)"),
    ),
    "path without a slash": (
        STEP + "http: {from: alice, to: bob, path: index}",
        *(6, 40, "steps[0].http.path", "expected a path that begins with / and has no spaces, such as /index.html"),
    ),
    "method in small letters": (
        STEP + "http: {from: alice, to: bob, method: get}",
        *(6, 42, "steps[0].http.method", "found 'get'"),
    ),
    "nothing to wait for": (
        STEP + "wait_until: {timeout: 1s}",
        *(
            6,
            17,
            "steps[0].wait_until",
            "nothing to wait for; expected one of ping, ping_all, traceroute, tcp, http, inject, exec",
        ),
    ),
    "unknown condition": (
        STEP + "wait_until: {pnig: {}}",
        *(6, 18, "steps[0].wait_until.pnig", "unknown key 'pnig' (did you mean 'ping'?)"),
    ),
    "condition that is none": (
        STEP + "wait_until: {wait: 1s}",
        *(6, 18, "steps[0].wait_until.wait", "a wait step is nothing that one can wait for"),
    ),
    "two conditions": (
        STEP + "wait_until: {ping: {from: alice, to: bob}, exec: {command: ls}}",
        *(6, 48, "steps[0].wait_until.exec", "a step does one thing, but this one has both 'ping' and 'exec'"),
    ),
    "mistake in a condition": (
        STEP + "wait_until: {ping: {from: alice, to: bop}}",
        *(6, 42, "steps[0].wait_until.ping.to", "'bop' is neither a node nor an IP address (did you mean 'bob'?)"),
    ),
    "interval of a condition": (
        STEP + "wait_until: {ping: {from: alice, to: bob}, interval: 1}",
        *(6, 58, "steps[0].wait_until.interval", "1 has no unit; expected a duration"),
    ),
    "parallel of text": (
        STEP + "parallel: ping",
        *(6, 15, "steps[0].parallel", "expected a list of steps, or a mapping of names to steps; found 'ping'"),
    ),
    "parallel of nothing": (STEP + "parallel: []", 6, 15, "steps[0].parallel", "expected at least one branch"),
    "empty branch": (STEP + "parallel: {a: []}", 6, 19, "steps[0].parallel.a", "expected at least one step"),
    "mistake in a branch": (
        STEP + "parallel:\n      - wait: 1s\n      - [{wait: 1s}, {ping: {from: alice, to: bop}}]",
        *(8, 47, "steps[0].parallel[1][1].ping.to", "'bop' is neither a node nor an IP address"),
    ),
    "mistake in a named branch": (
        STEP + "parallel: {one: {wait: 1s}, two: {pnig: }}",
        *(6, 39, "steps[0].parallel.two.pnig", "unknown kind of step 'pnig' (did you mean 'ping'?)"),
    ),
    "repeat without an end": (
        STEP + "repeat: {steps: [{wait: 1s}]}",
        *(6, 13, "steps[0].repeat", "it is not said when to stop; expected at least one of count, for and until"),
    ),
    "repeat until what": (
        STEP + "repeat: {until: falure, steps: [{wait: 1s}]}",
        *(6, 21, "steps[0].repeat.until", "expected failure or success, found 'falure' (did you mean 'failure'?)"),
    ),
    "repeat nothing": (STEP + "repeat: {count: 2, steps: []}", 6, 31, "steps[0].repeat.steps", "at least one step"),
    "rounds without a number": (
        STEP + 'repeat: {for: 1s, steps: [{log: "{round}"}]}',
        *(6, 13, "steps[0].repeat", "are planned beforehand; expected a 'count' of at most 1,000"),
    ),
    "mistake in a round": (
        STEP + "repeat: {count: 2, steps: [{ping: {from: alice, to: 'bob-{round}'}}]}",
        *(
            6,
            57,
            "steps[0].repeat.steps[0].ping.to",
            "'bob-1' is neither a node nor an IP address (did you mean 'bob'?)",
        ),
    ),
    "steps too deep": (
        STEP + "repeat: {count: 1, steps: [{" * 12 + "wait: 1s" + "}]}" * 12,
        *(6, 311, "steps[0]" + ".repeat.steps[0]" * 10 + ".repeat.steps", "steps are nested too deeply"),
    ),
    "log of an unknown node": (
        STEP + "log: 'hello {alcie}'",
        *(6, 10, "steps[0].log", "no node is called 'alcie' (did you mean 'alice'?)"),
    ),
    "log of an unknown counter": (
        STEP + "log: '{alice.rx_datagram}'",
        *(6, 10, "steps[0].log", "a NIC has no counter 'rx_datagram' (did you mean 'rx_datagrams'?)"),
    ),
    "log with an open brace": (
        STEP + "log: 'a {alice'",
        6,
        10,
        "steps[0].log",
        "expected {{ for a brace that is meant",
    ),
    "log expects nothing": (
        STEP + "log: x\n    expect: {}",
        7,
        5,
        "steps[0].expect",
        "a log step has nothing to expect",
    ),
    "traffic to itself": (
        STEP + "traffic: {from: alice, to: alice}",
        *(6, 32, "steps[0].traffic.to", "'alice' cannot send to itself"),
    ),
    "traffic from nobody": (
        STEP + "traffic: {from: [alice, bop], to: bob}",
        *(6, 29, "steps[0].traffic.from[1]", "no node is called 'bop' (did you mean 'bob'?)"),
    ),
    "traffic of a program": (
        "networks: {lan: 10.0.0.0/24}\nnodes:\n  alice:\n  p: {kind: process, exec: ls}\nsteps:\n"
        "  - traffic: {from: alice, to: p}",
        *(6, 32, "steps[0].traffic.to", "'p' is a process node whose own command holds its NIC"),
    ),
    "traffic of a protocol": (
        STEP + "traffic: {from: alice, to: bob, protocol: tpc}",
        *(6, 47, "steps[0].traffic.protocol", "expected udp or tcp, found 'tpc' (did you mean 'tcp'?)"),
    ),
    "traffic rate without a unit": (
        STEP + "traffic: {from: alice, to: bob, rate: 10}",
        *(6, 43, "steps[0].traffic.rate", "10 has no unit; expected a rate such as 1 Mbit/s, or 1000/s for datagrams"),
    ),
    "traffic without a rate": (
        STEP + "traffic: {from: alice, to: bob, rate: 0/s}",
        *(6, 43, "steps[0].traffic.rate", "expected a rate above 0, found '0/s'"),
    ),
    "traffic of small datagrams": (
        STEP + "traffic: {from: alice, to: bob, size: 43}",
        *(6, 43, "steps[0].traffic.size", "a datagram of IPv4 that can be measured has at least 44 bytes, not 43"),
    ),
    "traffic of large datagrams": (
        STEP.replace("10.0.0.0/24", "{prefix: 10.0.0.0/24, mtu: 1500}")
        + "traffic: {from: alice, to: bob, size: [64, 1501]}",
        *(6, 43, "steps[0].traffic.size", "a datagram of 1501 bytes is larger than the MTU of 1500"),
    ),
    "tcp traffic at a rate": (
        STEP + "traffic: {from: alice, to: bob, protocol: tcp, rate: 1 Mbit/s}",
        *(6, 52, "steps[0].traffic.rate", "'rate' is for udp traffic, but this is tcp"),
    ),
    "traffic for a time and a count": (
        STEP + "traffic: {from: alice, to: bob, duration: 1s, count: 5}",
        *(6, 51, "steps[0].traffic.count", "either 'duration' or 'count' says how much is sent, not both"),
    ),
    "too many flows": (
        STEP + "traffic: {from: alice, to: bob, flows: 1001}",
        *(6, 44, "steps[0].traffic.flows", "expected at most 1000, found 1001"),
    ),
    "unknown metric of traffic": (
        STEP + "traffic: {from: alice, to: bob}\n    expect: {troughput: 1 Mbit/s}",
        *(7, 14, "steps[0].expect.troughput", "unknown key 'troughput' (did you mean 'throughput'?)"),
    ),
    "bad speed": (STEP + "replay: {file: x, speed: fast}", 6, 30, "steps[0].replay.speed", "expected max, or a number"),
}


@pytest.mark.parametrize(("text", "line", "column", "key", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence_with_its_place(
    tmp_path: Path, text: str, line: int, column: int, key: str, says: str
) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(LabError) as caught:
        load(str(path))
    error = caught.value
    assert says in error.message
    assert (error.line, error.column, error.key) == (line, column, key)
    assert error.file == str(path)
    assert "\n" not in str(error)


def test_the_first_of_several_mistakes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("seed: x\n" + HEAD + "  - ping: {from: 7}\n  - wait: never\n")
    with pytest.raises(LabError) as caught:
        load(str(path))
    assert caught.value.line == 1


def test_an_alias_of_its_own_parent_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("networks: &a\n  lan: *a\nnodes: {b: }\n")
    with pytest.raises(LabError, match="contains itself"):
        load(str(path))


def test_aliases_cannot_blow_a_small_file_up(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "lab.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(LabError, match="more than 1,000,000 values"):
        load(str(path))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("networks: " + "[" * 5000)
    with pytest.raises(LabError, match="nested too deeply"):
        load(str(path))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.write_bytes(b"\x7fELF\0\0"), "is binary"),
        (lambda path: path.write_bytes("name: t\n# é".encode("latin-1")), "is not UTF-8 text \\(line 2\\)"),
        (lambda path: path.write_bytes(b"#" * (5 << 20)), "is over 4 MiB"),
        (lambda path: None, "there is no such file"),
    ],
    ids=["directory", "binary", "latin-1", "huge", "missing"],
)
def test_a_file_that_is_no_lab_is_refused(tmp_path: Path, make, says: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "lab.yaml"
    make(path)
    with pytest.raises(LabError, match=says) as caught:
        load(str(path))
    assert caught.value.file == str(path)


def test_a_misspelt_file_name_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "office.yaml").write_text("x")
    with pytest.raises(LabError, match=r"did you mean 'office.yaml'"):
        load(str(tmp_path / "ofice.yaml"))


def test_a_misspelt_shipped_lab_gets_a_hint_and_the_list() -> None:
    with pytest.raises(LabError, match=r"\(did you mean 'quickstart'\?\); the labs are [a-z]"):
        load("quikstart")


def test_nothing_runs_while_a_lab_is_read(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "lab.yaml"
    path.write_text(STEP + f"exec: {{command: touch {mark}}}\n  - wait: never\n")
    with pytest.raises(LabError):
        load(str(path))
    assert not mark.exists()
