# SPDX-License-Identifier: Apache-2.0
"""The links that are measured on, and what their counters say."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

import harness  # noqa: E402
import namespaces  # noqa: E402

ETHERNET_REST = 24  # frame check sequence, preamble and gap: on the wire, but not in an interface's counters
ETHERNET_IN_COUNTERS = 14
SOCKET_BUFFER = 64 << 20


def full_datagram(mtu):
    """(symbol, UDP payload, bytes on the wire) of the largest datagram over IPv4."""
    symbol = (mtu - 28 - 80) // 16 * 16
    return symbol, symbol + 80, symbol + 80 + 28 + ETHERNET_IN_COUNTERS + ETHERNET_REST


def wire_per_byte(mtu):
    """What one byte of an artifact takes on the wire, with 16 repair symbols for 128 and no group sent twice."""
    symbol, _, wire = full_datagram(mtu)
    return (128 + 16) / 128 * wire / symbol


class Loopback:
    """No namespaces, no root: the same kernel work without a device between."""

    name, in_low, in_high, address, interfaces = "loopback", [], [], "127.0.0.1", ("lo", "lo")
    offload = None

    def __init__(self, mtu):
        self.mtu = mtu

    def sent(self):
        return None

    def overflows(self):
        return _udp_overflows(Path("/proc/net/snmp").read_text())

    def remove(self):
        pass


class Veth(namespaces.Link):
    """Two namespaces; with `offload` trains cross whole, else each datagram costs what it costs without such a card."""

    interfaces = ("low", "high")

    def __init__(self, directory, mtu, offload):
        super().__init__(directory, mtu=mtu)
        self.mtu, self.offload, self.address = mtu, offload, self.HIGH_ADDRESS
        self.name = f"veth, segmentation {'on' if offload else 'off'}"
        if offload:
            self.run(self.low, "ethtool", "-K", "low", "tx-udp-segmentation", "on")

    def sent(self):
        """(frames, wire bytes) that left the low end. A train counts as one frame where it crosses whole."""
        (interface,) = json.loads(self.run(self.low, "ip", "-s", "-j", "link", "show", "low"))
        counters = interface["stats64"]["tx"]
        return counters["packets"], counters["bytes"] + ETHERNET_REST * counters["packets"]

    def overflows(self):
        return _udp_overflows(self.run(self.high, "cat", "/proc/net/snmp"))


def _udp_overflows(text):
    """Buffers (whole trains, after GRO) that full sockets have dropped."""
    names, values = [line.split()[1:] for line in text.splitlines() if line.startswith("Udp:")]
    return int(dict(zip(names, values))["RcvbufErrors"])


def raise_socket_buffer():
    """Lets receivers have the socket buffer that high rates need; returns what there is, as for the JSON."""
    limit = Path("/proc/sys/net/core/rmem_max")
    if int(limit.read_text()) < SOCKET_BUFFER and os.geteuid() == 0:
        limit.write_text(str(SOCKET_BUFFER))
    return int(limit.read_text())


def make(directory, mtus, settings):
    """Yields each link once; `settings` are of tx-udp-segmentation, empty for loopback, which also stands in for what is missing."""
    for mtu in mtus:
        if not settings:
            yield Loopback(mtu)
            continue
        for offload in settings:
            try:
                link = Veth(directory, mtu, offload)
            except namespaces.pytest.skip.Exception as reason:
                print(f"no link of namespaces ({reason}): measuring over loopback", file=sys.stderr)
                yield Loopback(mtu)
                break
            try:
                yield link
            finally:
                link.remove()


def free_port(count=1):
    return harness.free_port(count)
