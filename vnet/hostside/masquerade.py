"""NAT for what leaves a LAN: a table of nftables that goes with the process that made it.

The table has the flag `owner` (Linux 5.12): the kernel removes it when the netlink socket is closed that made it, and
lets nobody else change it.  The socket is the base's own, so the table goes with the base however that ends.  Neither
`nft` nor any other program is needed.  Messages are pyroute2's; its socket is not used because it comes with an event
loop of its own, and a table must have one plain descriptor that a forked child can close.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import MachineLacks, NameTaken, VnetError

if TYPE_CHECKING:
    from ..network import Prefix

__all__ = ["Masquerade"]

_NETLINK_NETFILTER = 12
_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _APPEND = 0x01, 0x04, 0x200, 0x400, 0x800
_BATCH_BEGIN, _BATCH_END, _ERROR = 0x10, 0x11, 0x02
# linux/netfilter/nf_tables.h
_SUBSYSTEM = 10
_FAMILY_INET = 1
_TABLE_OWNER = 2
_META_OIFNAME, _META_NFPROTO = 7, 15
_EQUAL, _NOT_EQUAL = 0, 1
_NETWORK_HEADER = 1
_ACCEPT = 1
# linux/netfilter.h, linux/netfilter_ipv4.h: where and when source addresses are rewritten.
_POSTROUTING, _SOURCE_NAT = 4, 100
# Family and offset of the source address in the header: RFC 791 section 3.1, RFC 8200 section 3.
_SOURCE = {4: (b"\x02", 12), 6: (b"\x0a", 8)}


class Masquerade:
    """Rewrites the source of what leaves the prefixes through any interface but one.

    Arguments:
        table: the table's name.
        prefixes: the network's prefixes.
        interface: the one at which the LAN is.

    Raises:
        MachineLacks: the kernel lacks nftables with NAT and tables that have an owner, or the privilege is missing.
        NameTaken: a table of that name is there.
    """

    def __init__(self, table: str, prefixes: Iterable[Prefix], interface: str) -> None:
        try:
            self._socket: socket.socket | None = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as error:
            raise _failure(table, error) from None
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(5.0)
            self._add(table, prefixes, interface)
        except OSError as error:
            self.close()
            raise _failure(table, error) from None

    def _add(self, table: str, prefixes: Iterable[Prefix], interface: str) -> None:
        assert self._socket is not None
        batch = _messages(table, prefixes, interface)
        data = b""
        for number, message in enumerate(batch):
            message["header"]["sequence_number"] = number
            message.encode()
            data += bytes(message.data)
        self._socket.sendto(data, (0, 0))
        # All but the two that frame the batch are answered; all or nothing is done.
        awaited = set(range(1, len(batch) - 1))
        while awaited:
            answer = self._socket.recv(1 << 16)
            while answer:
                length, kind, _, sequence, _ = struct.unpack_from("IHHII", answer)
                if kind == _ERROR:
                    code = -struct.unpack_from("i", answer, 16)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    awaited.discard(sequence)
                answer = answer[(length + 3) & ~3 :]

    def close(self) -> None:
        """Removes the table; in a forked child, lets go of the parent's.  May be called twice."""
        closed, self._socket = self._socket, None
        if closed is not None:
            with contextlib.suppress(OSError):
                closed.close()


def _failure(table: str, error: OSError) -> VnetError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return MachineLacks("NAT needs CAP_NET_ADMIN in this network namespace: run it as root")
    if error.errno == errno.EEXIST:
        return NameTaken(f"an nftables table named {table!r} is there already")
    if error.errno in (errno.EBUSY, errno.ENOMEM):
        return VnetError(f"the nftables table {table!r} cannot be made: {error.strerror}")
    return MachineLacks(
        f"NAT needs Linux 5.12 or later with nftables and its NAT ({error.strerror}): "
        "`modprobe -a nf_tables nft_chain_nat nft_masq` provides it, or the package linux-modules-extra of the kernel"
    )


def _messages(table: str, prefixes: Iterable[Prefix], interface: str) -> list[Any]:
    """The batch, in the terms of `nft`::

    table inet TABLE {
        flags owner
        chain postrouting {
            type nat hook postrouting priority srcnat
            ip saddr PREFIX oifname != INTERFACE masquerade
            ip6 saddr PREFIX oifname != INTERFACE masquerade
    """
    from pyroute2.netlink.nfnetlink import nfgen_msg
    from pyroute2.netlink.nfnetlink.nftsocket import (
        NFT_MSG_NEWCHAIN,
        NFT_MSG_NEWRULE,
        NFT_MSG_NEWTABLE,
        nft_chain_msg,
        nft_rule_msg,
        nft_table_msg,
    )

    def frame(kind: int) -> Any:
        message = nfgen_msg()
        message["res_id"] = _SUBSYSTEM
        message["header"]["type"] = kind
        message["header"]["flags"] = _REQUEST
        return message

    def request(form: type[Any], kind: int, flags: int, **attributes: Any) -> Any:
        message = form()
        message["nfgen_family"] = _FAMILY_INET
        message["attrs"] = list(attributes.items())
        message["header"]["type"] = _SUBSYSTEM << 8 | kind
        message["header"]["flags"] = _REQUEST | _ACK | _CREATE | flags
        return message

    hook = {"attrs": [("NFTA_HOOK_HOOKNUM", _POSTROUTING), ("NFTA_HOOK_PRIORITY", _SOURCE_NAT)]}
    return [
        frame(_BATCH_BEGIN),
        request(nft_table_msg, NFT_MSG_NEWTABLE, _EXCLUSIVE, NFTA_TABLE_NAME=table, NFTA_TABLE_FLAGS=_TABLE_OWNER),
        request(
            nft_chain_msg,
            NFT_MSG_NEWCHAIN,
            0,
            NFTA_CHAIN_TABLE=table,
            NFTA_CHAIN_NAME="postrouting",
            NFTA_CHAIN_HOOK=hook,
            NFTA_CHAIN_TYPE="nat",
            NFTA_CHAIN_POLICY=_ACCEPT,
        ),
        *(
            request(
                nft_rule_msg,
                NFT_MSG_NEWRULE,
                _APPEND,
                NFTA_RULE_TABLE=table,
                NFTA_RULE_CHAIN="postrouting",
                NFTA_RULE_EXPRESSIONS=_expressions(prefix, interface),
            )
            for prefix in prefixes
        ),
        frame(_BATCH_END),
    ]


def _expressions(prefix: Prefix, interface: str) -> list[Any]:
    """What a rule is made of: register 1 is loaded and compared, three times, and then the source is rewritten."""
    from pyroute2.nftables.expressions import genex, masq

    def value(data: bytes) -> Any:
        return {"attrs": [("NFTA_DATA_VALUE", data)]}

    def compare(how: int, data: bytes) -> Any:
        return genex("cmp", {"sreg": 1, "op": how, "data": value(data)})

    family, offset = _SOURCE[prefix.version]
    size = prefix.max_prefixlen // 8
    return [
        genex("meta", {"dreg": 1, "key": _META_NFPROTO}),
        compare(_EQUAL, family),
        genex("payload", {"dreg": 1, "base": _NETWORK_HEADER, "offset": offset, "len": size}),
        genex(
            "bitwise",
            {"sreg": 1, "dreg": 1, "len": size, "mask": value(prefix.netmask.packed), "xor": value(bytes(size))},
        ),
        compare(_EQUAL, prefix.network_address.packed),
        genex("meta", {"dreg": 1, "key": _META_OIFNAME}),
        compare(_NOT_EQUAL, interface.encode().ljust(16, b"\0")),
        *masq(),
    ]
